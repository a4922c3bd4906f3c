import type { EjectionPolicy } from '../../health/ejection.ts';
import type { AimdState } from '../../limits/aimd.ts';
import type { BreakerState } from '../../limits/breaker-core.ts';
import type { WideningState } from '../../limits/cooldown.ts';
import type { StepPolicy } from './steps.ts';

/**
 * The records of one target, in plain data that JSON keeps exactly: no `Infinity` (a flag, or 0, stands for it) and no
 * holes in arrays. The decisions over them are functions, so that the same can be written down in Lua line by line.
 */

/** A time before all others. Unlike `-Infinity` it can be written down, and what is worked out from it stays finite. */
export const NEVER = -1e15;

/** Slots by the slot rule; see `SlotTable`. */
export interface SlotsRow {
  /** In flight. */
  busy: number;
  /** Since when each of the others cools; rising. */
  cooling: number[];
  /** IPs it stands for; 0: no budget of its own. */
  weight: number;
  /** No grant before: for spacing, and for a cooldown. */
  spaced: number;
  cooldown: number;
}

/** A way out, as the records know it: it is told from others by its id. */
export interface RouteRow {
  readonly id: string;
  readonly session?: string;
  /** Left out: never. */
  readonly endsAt?: number;
  /** 0: a rotating exit that is named at each CONNECT. */
  readonly weight: number;
  trial: boolean;
}

/** All about one egress at the target. */
export interface EgressRow extends SlotsRow {
  /** See health/window.ts and health/ejection.ts. */
  outcomes: number;
  ejection: number;
  /** The permit that is its probe while it is out; '' for none. */
  probe: string;
  /** While its quota is nearly used up: how far apart, and until when. */
  quotaSpacingMs: number;
  quotaUntil: number;
  /** By pool: the route that leads to it. Some may have ended unnoticed. */
  routes: Record<string, RouteRow>;
  /** The {@link GateRow.tuned} for which its places in the lanes were worked out. */
  tuned: number;
}

/** The one budget of an account, in the place of each egress's own. */
export interface AccountRow extends SlotsRow {
  limit: number;
  /** What the spacing was before the last permit. */
  spacedBefore: number;
}

/** What the target allows as a whole, whatever the egress. */
export interface GateRow {
  readonly born: number;
  /** Batches taken. */
  steps: number;
  /** The latest time that was ever read, and what has to be added to the clock so that it never steps back. */
  last: number;
  skew: number;
  /** Slots of each egress as of the last reserve; 0: no budget. */
  limit: number;
  windowMs: number;
  /** Goes up when every place in the lanes has to be worked out anew. */
  tuned: number;
  /** As of the last reserve. */
  health?: EjectionPolicy | undefined;
  restUntil: number;
  quotaNextAt: number;
  quotaSpacingMs: number;
  quotaUntil: number;
  /** Of each rate: theoretical arrival time, last spending, and all that was ever refunded. */
  readonly tats: number[];
  readonly spentAts: number[];
  readonly refunds: number[];
  refused?: WideningState<string>;
  budget?: AimdState | undefined;
  places?: AimdState;
  circuit?: BreakerState;
  failedAt: number;
  account?: AccountRow;
  /** Blind dials in a row that came to nothing, and until when they count. */
  futile: number;
  futileUntil: number;
  /** From then on nothing cools any more, if nothing else happens. */
  quietAt: number;
  /** From then on it may be forgotten. */
  keepUntil: number;
}

export interface PermitRow {
  egress: string;
  readonly pool: string;
  /** Left out for one that was given elsewhere. */
  route?: RouteRow;
  readonly cost: number;
  start: number;
  readonly deadline: number;
  /** The spacing it was granted with, and what that changed: given back with the slot. */
  readonly spacingMs: number;
  spacedBefore: number;
  /** What it spent of each rate (NEVER: nothing): the arrival time right after, and how much. */
  marks: readonly number[];
  readonly units: number;
  /** Of the target's circuit. */
  ticket: number;
  /** It holds slots of the account, too. */
  readonly account: boolean;
  /** Its slots are no longer busy: they cool. */
  cooled: boolean;
  /** When it ends by itself: held, it is lost then; cooled, nobody reads its body any more. */
  until: number;
}

/** An egress in its lane: `key` is when it is usable, as of the last thing that happened to it. */
export interface Place {
  readonly egress: string;
  readonly key: number;
}

/**
 * The records of one target, wherever they are. Within a batch the same object is answered for the same name; it is changed
 * in place and then saved.
 */
export interface Rows {
  gate(): GateRow | undefined;
  saveGate(gate: GateRow): void;

  egress(key: string): EgressRow | undefined;
  saveEgress(key: string, row: EgressRow): void;
  dropEgress(key: string): void;
  egressCount(): number;
  /** All of them. */
  egresses(): readonly string[];
  /** About so many of them, others every time. */
  someEgresses(count: number): readonly string[];

  permit(id: string): PermitRow | undefined;
  savePermit(id: string, row: PermitRow): void;
  dropPermit(id: string): void;
  permitCount(): number;
  /** One whose `until` has come, the earliest. */
  overdue(now: number): string | undefined;

  /** Puts an egress into a pool's lane, or elsewhere in it. `Infinity`: at the end, while only a settle can tell. */
  place(pool: string, egress: string, key: number): void;
  leave(pool: string, egress: string): void;
  laneSize(pool: string): number;
  /** The one with the smallest key. */
  first(pool: string): Place | undefined;
  /** From the smallest key on. The lane is not changed meanwhile. */
  walk(pool: string): Iterable<Place>;

  /** The egresses that are out for bad health. */
  setOut(egress: string, out: boolean): void;
  outs(): readonly string[];
  outCount(): number;
}

/** One batch on its way: what every decision is made of. */
export interface Decision {
  readonly target: string;
  readonly rows: Rows;
  readonly gate: GateRow;
  readonly policy: StepPolicy;
  readonly now: number;
}
