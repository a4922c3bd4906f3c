import type { TimerHandle } from '../../clock.ts';
import { andThen } from '../awaitable.ts';
import type { Awaitable, Demand, Policy, Reservation } from '../store.ts';
import type { SharedGrant } from './link.ts';
import type { SharedStore } from './shared-store.ts';

/** No domain is called so, nor should a rule be. */
const PREFIX = 'pool@';

/** Whether it is the state of a pool that goes by that name. */
export function isPools(target: string): boolean {
  return target.startsWith(PREFIX);
}

/** A place that nobody needs any more is kept for the next request for so long, in milliseconds … */
const SPARE_MS = 50;
/** … and passed on like that for so long, before others get a chance at it. */
const PASSED_ON_MS = 1000;

interface Spare {
  readonly place: SharedGrant;
  readonly at: number;
}

/** When a place was taken, and until when it is taken at the least, should nobody say anything more of it. */
interface Term {
  readonly from: number;
  readonly to: number;
}

/**
 * Places among the requests that use a pool, in all processes together. A pool is no target's, so its state is elsewhere:
 * the narrower limits, those of the target, are taken first, and given back when there is no place.
 *
 * That is a second call, so a place goes from request to request within this process as long as none waits for one.
 */
export class Places {
  private readonly store: SharedStore;
  private readonly policies = new Map<number, Policy>();
  /** By pool, the one that came last at the end. */
  private readonly spares = new Map<string, Spare[]>();
  private readonly terms = new WeakMap<SharedGrant, Term>();
  /** Until then places are short, and go back at once. */
  private shortUntil = -Infinity;
  private timer: TimerHandle | undefined;

  constructor(store: SharedStore) {
    this.store = store;
  }

  enter(demand: Demand, pool: string, reservation: Reservation): Awaitable<Reservation> {
    const { poolConcurrency: most = Infinity, deadlineMs } = demand;
    const { grants } = reservation;
    if (most === Infinity || grants.length === 0) return reservation;
    const { store } = this;
    let placed = 0;
    const from = store.clock.now();
    const spares = this.spares.get(PREFIX + pool);
    while (placed < grants.length && spares !== undefined && spares.length > 0) {
      const grant = grants[placed++] as SharedGrant;
      grant.place = spares.pop()!.place;
      // Whoever had it first may have wanted it for less long.
      if (from + grant.startInMs + deadlineMs > this.terms.get(grant.place)!.to) this.stay(grant);
    }
    if (placed === grants.length) return reservation;
    const termMs = deadlineMs + PASSED_ON_MS + Math.max(...grants.map(({ startInMs }) => startInMs));
    const places = store.reserve(PREFIX + pool, {
      count: grants.length - placed,
      policy: this.policyOf(most),
      pool: 'place',
      pin: { ...PLACE },
      patienceMs: 0,
      horizonMs: 0,
      deadlineMs: termMs,
    });
    return andThen(places, (entered) => {
      const now = store.clock.now();
      for (const place of entered.grants) {
        (grants[placed++] as SharedGrant).place = place as SharedGrant;
        this.terms.set(place as SharedGrant, { from, to: from + termMs });
      }
      if (placed === grants.length) return reservation;
      this.shortUntil = now + PASSED_ON_MS;
      const surplus = grants.slice(placed);
      const { retryInMs, limiting } = entered;
      return andThen(store.cancel(surplus[0].target, surplus), () => ({
        grants: grants.slice(0, placed),
        retryInMs,
        limiting,
      }));
    });
  }

  /** The permit goes on for as long as it takes: its place is kept like its own. */
  stay(grant: SharedGrant): void {
    if (grant.place !== undefined && grant.place.cooledAt === undefined) this.tell(grant.place, false);
  }

  /** The permit is over, whatever became of it. */
  leave(grant: SharedGrant): void {
    const { place } = grant;
    if (place === undefined) return;
    grant.place = undefined;
    const now = this.store.clock.now();
    if (now < this.shortUntil || now - this.terms.get(place)!.from >= PASSED_ON_MS) {
      this.tell(place, true);
      return;
    }
    const spares = this.spares.get(place.target);
    if (spares === undefined) this.spares.set(place.target, [{ place, at: now }]);
    else spares.push({ place, at: now });
    // It keeps the process going: who leaves with a place in hand keeps it from the others.
    this.timer ??= this.store.clock.setTimeout(() => this.giveBack(SPARE_MS), SPARE_MS);
  }

  close(): void {
    this.store.clock.clearTimeout(this.timer);
    this.giveBack(0);
  }

  /** Places that nobody has wanted for so long. */
  private giveBack(idleMs: number): void {
    this.timer = undefined;
    const before = this.store.clock.now() - idleMs;
    for (const [pool, spares] of this.spares) {
      const kept = spares.findIndex(({ at }) => at > before);
      for (const { place } of spares.splice(0, kept < 0 ? spares.length : kept)) this.tell(place, true);
      if (spares.length === 0) this.spares.delete(pool);
    }
    if (this.spares.size > 0) this.timer = this.store.clock.setTimeout(() => this.giveBack(SPARE_MS), SPARE_MS);
  }

  private tell(place: SharedGrant, end: boolean): void {
    const report = { grant: place, outcome: undefined, retryAfterMs: undefined, graceMs: 0, end };
    // Should it not arrive: the place is free again when the permit would be lost.
    void Promise.resolve(this.store.settle(place.target, [report])).catch(() => {});
  }

  private policyOf(concurrency: number): Policy {
    let policy = this.policies.get(concurrency);
    if (policy === undefined) {
      policy = { limit: Infinity, windowMs: 1, spacingMs: 0, rates: [], concurrency };
      this.policies.set(concurrency, policy);
    }
    return policy;
  }
}

const PLACE = {
  id: 'place',
  pool: 'place',
  session: undefined,
  egress: 'place',
  seq: 0,
  expiresAt: Infinity,
  weight: Infinity,
  shared: false,
  trial: false,
  closed: false,
};
