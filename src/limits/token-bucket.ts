import { type Clock, systemClock } from '../clock.ts';
import { count, invalid, positive } from '../validate.ts';
import { type Limiter, limiterOf, type Meter } from './limiter.ts';

/** Options of {@link tokenBucket}. */
export interface TokenBucketOptions {
  /** How much may be taken per window; an integer ≥ 1. */
  readonly limit: number;
  /** Length of the window in milliseconds, > 0. */
  readonly windowMs: number;
  /** How much may be taken at once after a rest; an integer from 1, with `strict` up to `limit`. @default limit, or 1 with `strict` */
  readonly burst?: number;
  /** Never more than `limit` in any window, at the price of a slower refill. @default false */
  readonly strict?: boolean;
  /** @default systemClock */
  readonly clock?: Clock;
}

/**
 * A token bucket: it holds up to `burst` tokens, starts full and refills continuously, one token every `windowMs / limit`.
 * It is GCRA under another name: what is kept is the debt that the refill still has to pay off.
 *
 * **Up to `limit + burst` may fall into one window**: the bucket, and what refills meanwhile. With the default burst that is
 * twice the limit, by definition. Where the target counts, take {@link slidingWindow}, or `strict`: one token then takes
 * `windowMs / (limit − burst + 1)`, so that a full bucket and what refills within a half-open window make `limit` and no
 * more. Strict, the rate over long times is `limit − burst + 1` per window; a burst of 1, the default then, keeps it at
 * `limit`, evenly spaced.
 *
 * @throws {ConfigError} on a bad option.
 * @example
 * const bucket = tokenBucket({ limit: 100, windowMs: 60_000, burst: 10 });
 * await bucket.take();
 */
export function tokenBucket(options: TokenBucketOptions): Limiter {
  const { clock = systemClock, strict = false } = options;
  const limit = count('limit', options.limit);
  const windowMs = positive('windowMs', options.windowMs, 'milliseconds');
  const burst = count('burst', options.burst ?? (strict ? 1 : limit));
  if (strict && burst > limit) throw invalid('burst', `at most limit (${limit}) with strict`, burst);
  return limiterOf(bucketMeter(strict ? limit - burst + 1 : limit, windowMs, burst), clock);
}

/**
 * `rate` tokens per window into a bucket of `burst`. The unit inside is token · windowMs: a token is worth `windowMs` and
 * a millisecond pays off `rate`, so nothing is rounded as long as times and options are whole numbers.
 */
function bucketMeter(rate: number, windowMs: number, burst: number): Meter {
  const full = burst * windowMs;
  let debt = 0;
  let seenMs = Number.NEGATIVE_INFINITY;

  function advance(nowMs: number): void {
    if (nowMs <= seenMs) return;
    debt = Math.max(0, debt - (nowMs - seenMs) * rate);
    seenMs = nowMs;
  }

  return {
    maxCost: burst,
    waitMs(cost, ahead, nowMs) {
      advance(nowMs);
      return (debt + (ahead + cost) * windowMs - full) / rate;
    },
    spend(cost, nowMs) {
      advance(nowMs);
      debt += cost * windowMs;
    },
    available(nowMs) {
      advance(nowMs);
      return Math.floor((full - debt) / windowMs);
    },
  };
}
