import type { Random } from '../../src/clock.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type {
  Demand,
  EgressSnapshot,
  Grant,
  Outcome,
  Policy,
  Report,
  Reservation,
  Route,
  Verdict,
} from '../../src/store/store.ts';
import { type VirtualClock, virtualClock } from '../../src/testing/virtual-clock.ts';
import { offerOf } from './store-trace.ts';

export const TARGET = 'shop.test';

/** Two requests in a hundred milliseconds, unless told otherwise. */
export function storePolicy(options: Partial<Policy> = {}): Policy {
  return { limit: 2, windowMs: 100, spacingMs: 0, rates: [], concurrency: undefined, ...options };
}

/** A memory store at one target, in virtual time, with short words for what tests do all the time. */
export interface AtStore {
  readonly clock: VirtualClock;
  readonly store: MemoryStore;
  /** Asks for `count` permits on any of the routes. */
  reserve(count: number, demand?: Partial<Demand>, target?: string): Reservation;
  /** One permit, which there must be. */
  grant(demand?: Partial<Demand>, target?: string): Grant;
  /** The answer came, and the exchange is over. */
  answer(grant: Grant, outcome?: Outcome, report?: Partial<Report>): readonly Verdict[];
  egress(key: string): EgressSnapshot | undefined;
  readonly active: number;
}

export function atStore(
  routes: readonly Route[],
  policy: Policy = storePolicy(),
  random: Random = () => 0,
  makeStore: (clock: VirtualClock, random: Random) => MemoryStore = (clock, random) => new MemoryStore(clock, random),
): AtStore {
  const clock = virtualClock();
  const store = makeStore(clock, random);
  const offer = offerOf(routes, clock);
  const reserve = (count: number, demand: Partial<Demand> = {}, target = TARGET): Reservation =>
    store.reserve(target, {
      count,
      policy,
      pool: routes[0]?.pool ?? 'pool',
      offer: demand.pin === undefined ? offer : undefined,
      patienceMs: 0,
      horizonMs: 0,
      deadlineMs: 10_000,
      ...demand,
    });
  return {
    clock,
    store,
    reserve,
    grant(demand, target) {
      const { grants, retryInMs, limiting } = reserve(1, demand, target);
      if (grants.length !== 1) throw new Error(`no permit: ${limiting}, ${retryInMs} ms`);
      return grants[0];
    },
    answer(grant, outcome = 'ok', report = {}) {
      return store.settle(grant.target, [
        { grant, outcome, retryAfterMs: undefined, graceMs: 0, end: true, ...report },
      ]);
    },
    egress: (key) => store.inspect(TARGET).targets[0]?.egresses.find(({ egress }) => egress === key),
    get active() {
      return store.inspect(TARGET).targets[0]?.active ?? 0;
    },
  };
}
