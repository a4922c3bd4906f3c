import type { EjectionPolicy } from '../health/ejection.ts';
import type { AimdPolicy } from '../limits/aimd.ts';
import type { BreakerPolicy } from '../limits/breaker-core.ts';
import type { Scope } from '../target/types.ts';

/**
 * The contract between the pacing and its state. A store answers whole decisions, never get or set:
 * that is what makes one atomic step of them in any backend.
 */

/** A value now, or later: the memory store answers at once, a shared one after a round trip. */
export type Awaitable<T> = T | PromiseLike<T>;

/**
 * A way out: a session of a gateway, one static proxy, or the machine's own address.
 * `egress` is what the budgets are kept by. It starts as the route's own id (one session, one IP: assumed)
 * and becomes the address itself once the gateway, a probe or the caller has named it.
 */
export interface Route {
  /** Unique among all routes: `pool/session`. */
  readonly id: string;
  readonly pool: string;
  readonly session: string | undefined;
  egress: string;
  /** Rank in its pool, in the order the routes were made; from 1. */
  readonly seq: number;
  /** When the session ends, on the store's clock; `Infinity` when it does not. */
  expiresAt: number;
  /**
   * How many IPs stand behind it: 1; the pool's size where the exit rotates unseen; `Infinity` where it rotates
   * and every CONNECT names it, so that each permit is bound to its real egress before the request leaves.
   */
  readonly weight: number;
  /** `false` for a sticky session: it is never lent to a request that did not ask for it. */
  readonly shared: boolean;
  /** Its exit is about to be named: until then one request tries it, for it may be an exit already in use. */
  trial: boolean;
  closed: boolean;
}

/** A rate over all egresses of a target together. */
export interface TargetRate {
  readonly limit: number;
  readonly windowMs: number;
  readonly burst: number;
}

/** What is allowed on one target, and how that adapts. What is left out does not apply. */
export interface Policy {
  /** Requests per window on one egress, or on all together when `scope` is `account`. `Infinity`: no budget. */
  readonly limit: number;
  readonly windowMs: number;
  /** Least time between two grants on one egress; 0 spends slots as they come. */
  readonly spacingMs: number;
  /** Whose budget, and whose cooldown, it is. `ip` when left out. */
  readonly scope?: Scope;
  /** Rates over all egresses together: taken all or none. */
  readonly rates: readonly TargetRate[];
  /** Requests in flight over all egresses together, until the body has ended; the ceiling where it adapts. */
  readonly concurrency: number | undefined;
  /** How the limit comes down on evidence, and back. */
  readonly adaptBudget?: AimdPolicy | undefined;
  /** How the requests in flight find their number, from `start` on. */
  readonly adaptConcurrency?: (AimdPolicy & { readonly start: number }) | undefined;
  /** When an egress is left out for its health. */
  readonly health?: EjectionPolicy | undefined;
  /** When the target is left alone because it is down. */
  readonly breaker?: BreakerPolicy | undefined;
}

/** What a caller wants of a target: up to `count` permits, all limits or none for each. */
export interface Demand {
  readonly count: number;
  /** Slots, and units of every rate, that each of them takes; an integer ≥ 1, at most `limit`. 1 when left out. */
  readonly cost?: number;
  readonly policy: Policy;
  /** Which of the policy's rates count, by their order; all when left out. */
  readonly applies?: readonly boolean[] | undefined;
  /** The pool whose routes may serve. */
  readonly pool: string;
  /** How the pool shares its routes with other processes; not at all when left out. */
  readonly ways?: SharedWays | undefined;
  /** Requests in flight over the pool as a whole, in all processes that share it. This process's own are counted by the pool. */
  readonly poolConcurrency?: number | undefined;
  /** Only this route will do. */
  readonly pin?: Route | undefined;
  /** The pool's next route after rank `after`, when it has one or may make one now. */
  readonly offer?: ((after: number) => Route | undefined) | undefined;
  /** Wait this long for a known route before a new one is taken, in milliseconds. */
  readonly patienceMs: number;
  /** How far ahead a permit may be booked, in milliseconds. */
  readonly horizonMs: number;
  /** A permit that is not settled by then counts as sent and lost, in milliseconds from its start: whatever is asked after that finds it gone. */
  readonly deadlineMs: number;
}

/** A pool, as far as its routes may be used by several processes. */
export interface SharedWays {
  /** The same in all processes whose pool of that name leads to the same exits, and only there. */
  readonly key: string;
  /** The route that another process made known, as one of this pool's; undefined when it is of no use here. */
  adopt(id: string, session: string | undefined, egress: string, endsInMs: number): Route | undefined;
  /** Another process has found out where the route leads. */
  named(route: Route, egress: string): void;
}

/** A permit: one slot of one egress, taken. It ends in `settle` or `cancel`. */
export interface Grant {
  readonly target: string;
  readonly route: Route;
  /** Key of the egress whose slot it holds; the store changes it when it binds the permit to another one. */
  readonly egress: string;
  /** Milliseconds from the answer until the request may leave; 0 = now. */
  readonly startInMs: number;
}

/**
 * Which limit stood in the way. Of one egress, the best there is: `budget` (slots and spacing), `cooldown`, `health`. Of the target as a
 * whole: `rate`, `concurrency`, `target` (a cooldown of all egresses, an account's budget or quota), `breaker`.
 */
export type Limiting = 'budget' | 'cooldown' | 'health' | 'rate' | 'concurrency' | 'target' | 'breaker';

export interface Reservation {
  readonly grants: readonly Grant[];
  /** When asking again can help, in milliseconds; `Infinity`: only after something was settled, or lost. */
  readonly retryInMs: number;
  readonly limiting: Limiting | undefined;
  /** A probe is out that decides: at the latest in `retryInMs`, but most likely sooner. */
  readonly probing?: boolean;
  /** Other processes may settle what is waited for, and nobody will say so: when to look again, in milliseconds. */
  readonly pollMs?: number;
}

/** How a permit ended. */
export type Outcome =
  | 'ok'
  | 'rate-limited'
  | 'blocked'
  | 'challenged'
  | 'target-error'
  | 'gateway-error'
  | 'network-error'
  | 'ignored';

/** What a response said of its quota, as far as it asks for care. */
export interface QuotaReport {
  /** Least time between two requests, in milliseconds … */
  readonly spacingMs: number;
  /** … for this long, in milliseconds. */
  readonly forMs: number;
  /** Nothing is left: no request before that time is over. */
  readonly exhausted: boolean;
  /** It is not this egress's own but that of all. */
  readonly account: boolean;
}

export interface Report {
  readonly grant: Grant;
  /** Given once, when the headers (or the failure) came: the slot begins to cool. */
  readonly outcome: Outcome | undefined;
  /** How long the target asked to be left alone over this egress, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  readonly quota?: QuotaReport | undefined;
  /** The request may still arrive for this long (aborted, timed out), in milliseconds. */
  readonly graceMs: number;
  /** The exchange is over: its place among the concurrent ones is free. */
  readonly end: boolean;
}

/** What a report changed, for events. `egress` is undefined where it is about all of the target's. */
export type Verdict =
  | {
      /** Left alone. */
      readonly kind: 'cooldown';
      readonly target: string;
      readonly egress: string | undefined;
      readonly forMs: number;
    }
  | {
      /** Out for bad health, once more perhaps. */
      readonly kind: 'ejected';
      readonly target: string;
      readonly egress: string;
      readonly forMs: number;
    }
  | {
      /** Back after a good probe. */
      readonly kind: 'returned';
      readonly target: string;
      readonly egress: string;
    }
  | {
      /** The target's circuit opened (for so long) or closed. */
      readonly kind: 'circuit';
      readonly target: string;
      readonly open: boolean;
      readonly forMs: number;
    }
  | {
      /** What adapts was cut, or grew: requests per window and egress, or requests in flight. */
      readonly kind: 'budget' | 'concurrency';
      readonly target: string;
      readonly limit: number;
    };

/** The answer to {@link Store.bind}. */
export interface Binding {
  /** The permit now holds a slot of the real egress. When not, it is gone and nothing was spent. */
  readonly ok: boolean;
  /** When the real egress is usable again, in milliseconds, when it is not now. */
  readonly retryInMs: number;
  /** Another live route of the same pool already leads to the same egress. */
  readonly duplicate: boolean;
}

export interface EgressSnapshot {
  readonly egress: string;
  readonly busy: number;
  readonly cooling: number;
  /** Requests that could leave now. */
  readonly remaining: number;
  /** Milliseconds until the next one may; `Infinity` while all slots are in flight. */
  readonly usableInMs: number;
  readonly cooldownMs: number;
  /** Milliseconds until the probe of an egress that is out for bad health; 0 for all others. */
  readonly ejectedMs: number;
}

export interface TargetSnapshot {
  readonly target: string;
  /** Requests between grant and end. */
  readonly active: number;
  /** Requests per window and egress, as adapted. */
  readonly limit: number;
  /** Requests in flight at most, as adapted; `Infinity` for no limit. */
  readonly concurrency: number;
  readonly circuit: 'closed' | 'open' | 'half-open';
  /** Milliseconds for which the target as a whole is left alone: a cooldown of all, an account's quota, an open circuit. */
  readonly restMs: number;
  readonly egresses: readonly EgressSnapshot[];
}

export interface Snapshot {
  readonly targets: readonly TargetSnapshot[];
}

/** Hears how a store is. */
export interface StoreListener {
  /** It does not answer, or not as it should. */
  down(error: Error): void;
  /** It answers, but has forgotten something. */
  lost(error: Error): void;
  /** It answers again, after so many milliseconds. */
  back(downMs: number): void;
}

/** State behind the pacing. All times inside are the store's own; answers are relative, so no clock has to agree. */
export interface Store {
  /** Up to `demand.count` permits, or when to ask again. */
  reserve(target: string, demand: Demand): Awaitable<Reservation>;
  /** The exit of a permit's route turned out to be `egress`: move the permit there, or refuse. Atomic. */
  bind(target: string, grant: Grant, egress: string): Awaitable<Binding>;
  settle(target: string, reports: readonly Report[]): Awaitable<readonly Verdict[]>;
  /** The target never saw these: their slots are as if never taken. */
  cancel(target: string, grants: readonly Grant[]): Awaitable<void>;
  inspect(target?: string): Awaitable<Snapshot>;
  /** This process gives the route up: a store that has made it known to others takes that back. */
  retired?(route: Route): void;
  /** Tells when where its state is cannot be asked any more, and when it can again. Returns how to stop that. */
  watch?(listener: StoreListener): () => void;
  close(): Awaitable<void>;
}
