import type { AimdPolicy } from '../../limits/aimd.ts';
import type { StepPolicy } from './steps.ts';

/**
 * The part of a policy that one of `workers` may use by itself, while none of them knows what the others do: all parts
 * together are at most the whole. Undefined where there is nothing to divide: one request a window cannot be had by two
 * workers, not even in turn, since they do not know whose turn it is.
 */
export function shareOf(policy: StepPolicy, workers: number): StepPolicy | undefined {
  const { limit = Infinity, spacingMs, rates, concurrency = Infinity, adaptBudget, adaptConcurrency } = policy;
  const most = Math.min(limit, concurrency, adaptConcurrency?.ceiling ?? Infinity, ...rates.map(([rate]) => rate));
  if (most < workers) return undefined;
  const part = (n: number): number => Math.max(1, Math.floor(n / workers));
  const divided = (aimd: AimdPolicy): AimdPolicy => ({
    ...aimd,
    floor: part(aimd.floor),
    ceiling: part(aimd.ceiling),
  });
  return {
    ...policy,
    limit: policy.limit && part(policy.limit),
    spacingMs: spacingMs * workers,
    rates: rates.map(([rate, windowMs, burst]) => [part(rate), windowMs, Math.min(burst, part(rate))] as const),
    concurrency: policy.concurrency && part(policy.concurrency),
    adaptBudget: adaptBudget && divided(adaptBudget),
    adaptConcurrency: adaptConcurrency && { ...divided(adaptConcurrency), start: part(adaptConcurrency.start) },
  };
}
