import type { Clock } from '../../clock.ts';
import type { EjectionPolicy } from '../../health/ejection.ts';
import type { AimdPolicy } from '../../limits/aimd.ts';
import type { BreakerPolicy } from '../../limits/breaker-core.ts';
import type { Policy, Route } from '../../store/store.ts';

export const TARGET = 'shop.test';

/** Two requests in a hundred milliseconds. */
export const POLICY: Policy = { limit: 2, windowMs: 100, spacingMs: 0, rates: [], concurrency: undefined };

/** Room for everything: a hundred a second on each egress, so that one rests for 10 ms after it was refused. */
export const ROOMY: Partial<Policy> = { limit: 100, windowMs: 1000 };

/** The defaults, with round numbers: a tick is 100 ms. */
export const HEALTH: EjectionPolicy = {
  baseMs: 3200,
  maxMs: 32_000,
  healthyMs: 3200,
  probeTimeoutMs: 6400,
  maxEjectedShare: 0.5,
  minSamples: 10,
  threshold: 0.4,
};

export const BREAKER: BreakerPolicy = {
  failureRatio: 0.5,
  minCalls: 4,
  windowMs: 1000,
  openMs: 1000,
  maxOpenMs: 8000,
  halfOpenCalls: 2,
  probeTimeoutMs: 5000,
};

export const AIMD: AimdPolicy = { floor: 1, ceiling: 10, decrease: 0.7, increase: 1, windowMs: 100 };

/** A way out with nothing behind it. */
export function aRoute(seq: number, options: Partial<Route> = {}): Route {
  const { pool = 'pool' } = options;
  return {
    id: `${pool}/${seq}`,
    pool,
    session: undefined,
    egress: `${pool}/${seq}`,
    seq,
    expiresAt: Infinity,
    weight: 1,
    shared: true,
    trial: false,
    closed: false,
    ...options,
  };
}

/** Static proxies: `pool/1`, `pool/2`, … */
export function proxies(count: number, options: Partial<Route> = {}): Route[] {
  return Array.from({ length: count }, (_, i) => aRoute(i + 1, options));
}

/** Sessions of a gateway. */
export function sessions(count: number, options: Partial<Route> = {}): Route[] {
  return Array.from({ length: count }, (_, i) => aRoute(i + 1, { session: `s${i + 1}`, ...options }));
}

/** What a pool with these routes offers. */
export function offerOf(routes: readonly Route[], pool: string, clock: Clock): (after: number) => Route | undefined {
  return (after) =>
    routes.find((one) => one.pool === pool && one.seq > after && !one.closed && one.expiresAt > clock.now());
}
