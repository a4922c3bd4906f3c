import type { Policy } from '../store/store.ts';
import type { Target } from './types.ts';

/** A target's policy in the store's terms. */
export function policyOf({ budget, rate, concurrency }: Target): Policy {
  return {
    limit: budget.limit,
    windowMs: budget.windowMs,
    spacingMs: budget.spacing === 'even' ? budget.windowMs / budget.limit : 0,
    rate: rate === undefined ? undefined : { limit: rate.limit, windowMs: rate.windowMs, burst: rate.burst ?? 1 },
    concurrency,
  };
}
