import type { Adaptation } from '../adaptation.ts';
import type { Policy } from '../store/store.ts';
import type { Target } from './types.ts';

/** How many requests in flight a target begins with, and the most it may come to: what its pool takes. */
export interface Places {
  readonly start: number;
  readonly most: number;
}

/** One step up or down of the requests in flight takes a few round trips, so that each number gets its answer; milliseconds. */
const CONCURRENCY_WINDOW_MS = 5000;

/** A target's policy in the store's terms. */
export function policyOf(
  target: Target,
  { budget: aimd, concurrency, health, breaker }: Adaptation,
  places: Places,
): Policy {
  const { budget, rates, scope } = target;
  const { limit, windowMs } = budget;
  const most = Math.min(target.concurrency ?? Infinity, places.most);
  return {
    limit,
    windowMs,
    spacingMs: budget.spacing === 'even' ? windowMs / limit : 0,
    scope,
    rates: rates.map((rate) => ({ limit: rate.limit, windowMs: rate.windowMs, burst: rate.burst ?? 1 })),
    concurrency: target.concurrency,
    adaptBudget: aimd && { ...aimd, floor: Math.min(aimd.floor, limit), ceiling: limit, windowMs },
    adaptConcurrency:
      concurrency && aimd !== undefined
        ? {
            // What somebody asked for by number is where it begins.
            start: target.concurrency === undefined ? Math.min(places.start, most) : most,
            floor: 1,
            ceiling: most,
            decrease: aimd.decrease,
            increase: aimd.increase,
            windowMs: CONCURRENCY_WINDOW_MS,
          }
        : undefined,
    health,
    breaker,
  };
}
