import type { Outcome } from './store/store.ts';

/** What an attempt came to, as far as the next one depends on it. */
export interface AttemptResult {
  /** Attempts made so far, ≥ 1. */
  readonly attempts: number;
  /** Status of the response; undefined when there was none. */
  readonly status: number | undefined;
  readonly outcome: Outcome | undefined;
  /** Of the target's answer; of the gateway's, where that was a refusal. */
  readonly retryAfterMs: number | undefined;
  /** The request never reached the target. */
  readonly unsent: boolean;
  /** An error that no other attempt can mend (credentials, quota, the caller's own). */
  readonly fatal: boolean;
  /** Too many ask the gateway at a time: another session would not help. */
  readonly crowded?: boolean;
  /** Another egress may answer differently. */
  readonly elsewhere: boolean;
}

export interface RetryPolicy {
  readonly attempts: number;
  readonly maxRetryAfterMs: number;
  /** The method may be sent twice. */
  readonly idempotent: boolean;
  /** The body is still there to be sent. */
  readonly replayable: boolean;
  /** Backoff before retry n (0 = the first), in milliseconds. */
  readonly backoff: (retry: number) => number;
}

/** Not 500: that is a fault in the target's code more often than a state that passes. */
const RETRIED_STATUS: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/** Whether the answer is one that goes away by itself, or elsewhere. What the caller's own `classify` makes of it counts. */
function mayPass({ status, outcome, elsewhere }: AttemptResult): boolean {
  if (outcome === 'target-error') return RETRIED_STATUS.has(status!);
  if (outcome === 'blocked' || outcome === 'challenged') return elsewhere;
  return outcome === 'rate-limited' || outcome === 'gateway-error' || outcome === 'network-error';
}

/**
 * Milliseconds before the next attempt, or `undefined` for none. Pure.
 *
 * A 429 is tried again at once: the queue itself keeps the egress out until its Retry-After has passed, and takes another one.
 * So is a block or a challenge, where there is another egress to try; it is not fought on the same one.
 * A target in trouble is given the time it asks for, else full jitter. A failed exit is replaced at once, then with jitter.
 * A gateway that says when to come back is left alone until then.
 */
export function retryDelayMs(result: AttemptResult, policy: RetryPolicy): number | undefined {
  if (result.fatal || result.attempts >= policy.attempts || !policy.replayable) return undefined;
  const retry = result.attempts - 1;
  const { retryAfterMs = 0 } = result;
  if (result.status === undefined) {
    if (!result.unsent && !policy.idempotent) return undefined;
    if (retryAfterMs > policy.maxRetryAfterMs) return undefined;
    const atOnce = result.unsent && !result.crowded ? 1 : 0;
    return Math.max(retryAfterMs, retry < atOnce ? 0 : policy.backoff(retry - atOnce));
  }
  if (!mayPass(result) || !policy.idempotent) return undefined;
  if (result.outcome === 'rate-limited') {
    return !result.elsewhere && retryAfterMs > policy.maxRetryAfterMs ? undefined : 0;
  }
  if (result.outcome === 'blocked' || result.outcome === 'challenged') return 0;
  if (retryAfterMs > policy.maxRetryAfterMs) return undefined;
  return Math.max(retryAfterMs, retryAfterMs > 0 ? 0 : policy.backoff(retry));
}
