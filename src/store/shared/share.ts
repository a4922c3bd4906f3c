import type { AimdPolicy } from '../../limits/aimd.ts';
import type { StepPolicy } from './steps.ts';

/**
 * The part of a policy that one of `workers` may use by itself, while none of them knows what the others do: all parts
 * together are at most the whole. Where a part is less than one request per window, it is one in a longer window.
 */
export function shareOf(policy: StepPolicy, workers: number): StepPolicy {
  if (workers === 1) return policy;
  const { limit, windowMs, spacingMs, rates, concurrency, adaptBudget, adaptConcurrency } = policy;
  const [part, partMs] = limit === undefined ? [undefined, windowMs] : divided(limit, windowMs, workers);
  return {
    ...policy,
    limit: part,
    windowMs: partMs,
    spacingMs: spacingMs * workers,
    rates: rates.map(([most, perMs, burst]) => {
      const [rate, rateMs] = divided(most, perMs, workers);
      return [rate, rateMs, Math.min(burst, rate)] as const;
    }),
    // Places cannot be had in parts: with more workers than places, each has one.
    concurrency: concurrency && atLeastOne(concurrency / workers),
    adaptBudget: adaptBudget && { ...partly(adaptBudget, workers), windowMs: Math.max(adaptBudget.windowMs, partMs) },
    adaptConcurrency: adaptConcurrency && {
      ...partly(adaptConcurrency, workers),
      start: atLeastOne(adaptConcurrency.start / workers),
    },
  };
}

/** Requests, and in how many milliseconds. */
function divided(limit: number, windowMs: number, workers: number): [number, number] {
  return limit >= workers ? [Math.floor(limit / workers), windowMs] : [1, (windowMs * workers) / limit];
}

function partly(policy: AimdPolicy, workers: number): AimdPolicy {
  return { ...policy, floor: atLeastOne(policy.floor / workers), ceiling: atLeastOne(policy.ceiling / workers) };
}

const atLeastOne = (n: number): number => Math.max(1, Math.floor(n));
