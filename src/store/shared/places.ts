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

/**
 * Places among the requests that use a pool, in all processes together. A pool is no target's, so its state is elsewhere:
 * the narrower limits, those of the target, are taken first, and given back when there is no place.
 */
export class Places {
  private readonly store: SharedStore;
  private readonly policies = new Map<number, Policy>();

  constructor(store: SharedStore) {
    this.store = store;
  }

  enter(demand: Demand, pool: string, reservation: Reservation): Awaitable<Reservation> {
    const { poolConcurrency: most = Infinity, deadlineMs } = demand;
    const { grants } = reservation;
    if (most === Infinity || grants.length === 0) return reservation;
    const { store } = this;
    const places = store.reserve(PREFIX + pool, {
      count: grants.length,
      policy: this.policyOf(most),
      pool: 'place',
      pin: { ...PLACE },
      patienceMs: 0,
      horizonMs: 0,
      deadlineMs: deadlineMs + Math.max(...grants.map(({ startInMs }) => startInMs)),
    });
    return andThen(places, (entered) => {
      entered.grants.forEach((place, i) => {
        (grants[i] as SharedGrant).place = place as SharedGrant;
      });
      if (entered.grants.length === grants.length) return reservation;
      const surplus = grants.slice(entered.grants.length);
      const { retryInMs, limiting } = entered;
      return andThen(store.cancel(surplus[0].target, surplus), () => ({
        grants: grants.slice(0, entered.grants.length),
        retryInMs,
        limiting,
      }));
    });
  }

  /** The permit's body is being read, for as long as that takes: its place is kept like its own. */
  stay(grant: SharedGrant): void {
    if (grant.place !== undefined && grant.place.cooledAt === undefined) this.tell(grant.place, false);
  }

  /** The permit is over, whatever became of it. */
  leave(grant: SharedGrant): void {
    const { place } = grant;
    if (place === undefined) return;
    grant.place = undefined;
    this.tell(place, true);
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
