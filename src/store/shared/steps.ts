import type { EjectionPolicy } from '../../health/ejection.ts';
import type { AimdPolicy } from '../../limits/aimd.ts';
import type { BreakerPolicy } from '../../limits/breaker-core.ts';
import type { Awaitable, EgressSnapshot, Limiting, Outcome, QuotaReport, TargetSnapshot, Verdict } from '../store.ts';

/**
 * What a store that many processes share is asked, and what it answers: plain data, so that it crosses a wire, and whole
 * decisions, so that each is one atomic step wherever the state lives. {@link SharedStore} speaks it; a Lua script in
 * Redis and a transaction in SQLite understand it. All times are relative to the one clock of the state: no process's
 * clock is ever sent. What is `Infinity` elsewhere is left out here, for JSON has no word for it.
 */

/** {@link Policy} in plain data. */
export interface StepPolicy {
  /** Requests per window on one egress (of the account, with `account`); left out: no budget. */
  readonly limit?: number;
  readonly windowMs: number;
  readonly spacingMs: number;
  readonly account?: boolean;
  /** Of each: limit, window in milliseconds, burst. */
  readonly rates: readonly (readonly [number, number, number])[];
  readonly concurrency?: number;
  readonly adaptBudget?: AimdPolicy;
  readonly adaptConcurrency?: AimdPolicy & { readonly start: number };
  readonly health?: EjectionPolicy;
  readonly breaker?: BreakerPolicy;
}

/** A way out, as processes tell each other of it. */
export interface StepRoute {
  /** The same in every process for the same way out. */
  readonly id: string;
  /** Key of the pool whose way it is; see {@link PoolKey}. */
  readonly pool: string;
  /** Name of the gateway's session, where it is one. */
  readonly session?: string;
  /** Key of the egress it leads to, as far as the teller knows. */
  readonly egress: string;
  /** Milliseconds until it ends; left out: never. */
  readonly endsInMs?: number;
  /** IPs behind it; left out: an exit that rotates and is named at each CONNECT (`Infinity`). */
  readonly weight?: number;
  /** May be lent to any request. */
  readonly shared: boolean;
  readonly trial: boolean;
  readonly closed: boolean;
}

export interface ReserveStep {
  readonly do: 'reserve';
  /** Unique for this call. Its permits are called `id.0`, `id.1`, …: asked again, they are found and not taken twice. */
  readonly id: string;
  readonly count: number;
  readonly cost: number;
  readonly applies?: readonly boolean[];
  readonly pool: string;
  readonly pin?: StepRoute;
  /** Ways out that the pool offers next, in turn; taken up only as they are needed. */
  readonly offers: readonly StepRoute[];
  /** The pool may have more than these: stop and say so rather than do without. */
  readonly more: boolean;
  readonly patienceMs: number;
  readonly horizonMs: number;
  readonly deadlineMs: number;
  /** Random numbers in [0, 1), one for each permit: the jitter of its spacing. Empty where there is no spacing. */
  readonly random: readonly number[];
}

/** Number of the permit, its egress, milliseconds until it starts; id of its route, name of the route's session or null, milliseconds until the route ends or null, whether it is on trial. */
export type StepGrant = readonly [number, string, number, string, string | null, number | null, boolean];

export interface ReserveAnswer {
  readonly grants: readonly StepGrant[];
  /** Left out: only a settle can tell. */
  readonly retryInMs?: number;
  readonly limiting?: Limiting;
  readonly probing?: boolean;
  /** How many of the offers were taken up. */
  readonly taken: number;
  /**
   * It would have taken up another offer. With `limiting` it is also the answer for a pool that has none; without, it
   * could book a permit ahead, and is to be asked again with an offer, or with `more: false`.
   */
  readonly wants: boolean;
}

export interface BindStep {
  readonly do: 'bind';
  readonly permit: string;
  readonly egress: string;
  /** The permit's route as it is now. */
  readonly route: StepRoute;
}

export interface BindAnswer {
  readonly ok: boolean;
  readonly retryInMs: number;
  readonly duplicate: boolean;
}

export interface StepReport {
  readonly permit: string;
  /** Whether its route is on trial now. */
  readonly trial: boolean;
  readonly outcome?: Outcome;
  readonly retryAfterMs?: number;
  readonly quota?: QuotaReport;
  readonly graceMs: number;
  readonly end: boolean;
  /** Two random numbers: whether a broken connection counts against the exit, and the jitter of an open circuit. */
  readonly random: readonly [number, number];
  /**
   * How long its place among the requests in flight is kept when it does not end now, in milliseconds: a worker that is
   * killed while it reads a body must not keep it for ever.
   */
  readonly keepMs: number;
}

export interface SettleStep {
  readonly do: 'settle';
  readonly reports: readonly StepReport[];
}

export interface CancelStep {
  readonly do: 'cancel';
  /** Those that are not known, or over, are passed by. */
  readonly permits: readonly string[];
}

/** Bodies that are still being read: their places are kept for longer. */
export interface RenewStep {
  readonly do: 'renew';
  readonly permits: readonly string[];
  readonly keepMs: number;
}

/** Routes that nobody is to use any more. */
export interface DropStep {
  readonly do: 'drop';
  readonly routes: readonly { readonly id: string; readonly pool: string; readonly egress: string }[];
}

/**
 * Permits that were given elsewhere, while this store could not be asked: their slots are taken whatever is free, and
 * they are settled like any other. Known ids are passed by.
 */
export interface ImportStep {
  readonly do: 'import';
  readonly permits: readonly {
    readonly id: string;
    readonly egress: string;
    readonly cost: number;
    /** Since when its slots cool, in milliseconds; left out: it is still in flight. */
    readonly cooledForMs?: number;
    /** In flight: milliseconds until it counts as sent and lost. Cooling, with a body still being read: how long its place is kept; 0 when it is over. */
    readonly keepMs: number;
  }[];
}

/** Everything rests for so long: what was sent meanwhile is not known. */
export interface RestStep {
  readonly do: 'rest';
  readonly forMs: number;
}

export interface InspectStep {
  readonly do: 'inspect';
}

export type Step =
  | ReserveStep
  | BindStep
  | SettleStep
  | CancelStep
  | RenewStep
  | DropStep
  | ImportStep
  | RestStep
  | InspectStep;

/** {@link TargetSnapshot} in plain data: what would be `Infinity` is left out. */
export type SnapshotAnswer = Omit<TargetSnapshot, 'limit' | 'concurrency' | 'egresses'> & {
  readonly limit?: number;
  readonly concurrency?: number;
  readonly egresses: readonly (Omit<EgressSnapshot, 'remaining' | 'usableInMs'> & {
    readonly remaining?: number;
    readonly usableInMs?: number;
  })[];
};

/** The answer to each step; null to cancel, renew, drop, import and rest. */
export type StepAnswer = ReserveAnswer | BindAnswer | readonly Verdict[] | SnapshotAnswer | null;

/** What a process remembers of a target's state, to notice that it has been lost or set back. */
export interface Seen {
  /** When the state was made, by its own clock; 0: not seen yet. */
  readonly born: number;
  /** How many steps it had taken. */
  readonly steps: number;
  /** How long ago that was, in milliseconds. */
  readonly agoMs: number;
}

/** Some steps on one target, taken as one. */
export interface Batch {
  readonly target: string;
  readonly policy: StepPolicy;
  readonly seen: Seen;
  readonly steps: readonly Step[];
}

export interface BatchAnswer {
  readonly born: number;
  readonly steps: number;
  /**
   * The state was lost, or is older than what the process has seen, within a window: what was granted since is not known,
   * so everything has been made to rest for a window before these steps were taken.
   */
  readonly setBack: boolean;
  readonly answers: readonly StepAnswer[];
}

/** Where the state is, and takes steps: a Redis, a file. */
export interface Backend {
  take(batch: Batch): Awaitable<BatchAnswer>;
  close(): Awaitable<void>;
}
