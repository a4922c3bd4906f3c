import {
  type Demand,
  type Grant,
  MemoryStore,
  type Policy,
  type Report,
  type Route,
  seededRandom,
} from '../../src/index.ts';

/** Dotted address number `i`, from 10.0.0.0 on. */
export function address(i: number): string {
  return `${10 + (i >>> 24)}.${(i >>> 16) & 255}.${(i >>> 8) & 255}.${i & 255}`;
}

/** Static proxies, as a pool makes them: the caller's objects, not the store's. */
export function staticRoutes(count: number): Route[] {
  return Array.from({ length: count }, (_, i) => ({
    id: `static/${i + 1}`,
    pool: 'static',
    session: undefined,
    egress: address(i),
    seq: i + 1,
    expiresAt: Infinity,
    weight: 1,
    shared: true,
    trial: false,
    closed: false,
  }));
}

/** Eight requests a second on each egress. */
export const EIGHT: Policy = { limit: 8, windowMs: 1000, spacingMs: 0, rates: [], concurrency: undefined };

export function demand(policy: Policy, pin?: Route): Demand {
  return { count: 1, policy, pool: 'static', pin, patienceMs: 0, horizonMs: 0, deadlineMs: 60_000 };
}

/**
 * Shows the target all routes; from then on it chooses among them. Spacing makes it ask for the next one every time, and its
 * jitter leaves them in an order that no cache can guess.
 */
export function introduce(
  store: MemoryStore,
  target: string,
  policy: Policy,
  routes: readonly Route[],
  spacingMs = 1e6,
): void {
  const { grants } = store.reserve(target, {
    ...demand({ ...policy, spacingMs }),
    count: routes.length,
    offer: (after) => routes[after],
  });
  if (grants.length !== routes.length) throw new Error(`${grants.length} of ${routes.length} routes known`);
  store.settle(target, grants.map(answered));
}

/**
 * A store whose second takes 100 ns: `performance.now()` is read, and paid for, as always, but a slot has cooled by the time
 * it is asked for again. So a bench can go round eight slots for ever, with every stamp written and every stamp checked.
 */
export function fastStore(): MemoryStore {
  const clock = {
    now: () => performance.now() * 1e7,
    wallNow: Date.now,
    setTimeout: () => undefined,
    clearTimeout: () => {},
  };
  return new MemoryStore(clock, seededRandom(1));
}

/** The report of an answer that came at once and whose body has been read. */
export function answered(grant: Grant): Report {
  return { grant, outcome: 'ok', retryAfterMs: undefined, graceMs: 0, end: true };
}

/** `count` places below `size`, in no order that a cache could guess. */
export function shuffled(size: number, count: number): Uint32Array {
  const random = seededRandom(size);
  return Uint32Array.from({ length: count }, () => Math.floor(random() * size));
}
