import { type Clock, systemClock } from '../clock.ts';
import { count, invalid, positive } from '../validate.ts';
import { type Limiter, limiterOf, type Meter } from './limiter.ts';

/** Options of {@link leakyBucket}. */
export interface LeakyBucketOptions {
  /** How much is released per window; an integer ≥ 1. */
  readonly limit: number;
  /** Length of the window in milliseconds, > 0. */
  readonly windowMs: number;
  /** How much may wait in `take` at a time, by cost; an integer ≥ 0, or `Infinity`. nginx calls it `burst`. @default Infinity */
  readonly capacity?: number;
  /** @default systemClock */
  readonly clock?: Clock;
}

/**
 * A leaky bucket as a queue: what goes out goes out evenly, at least `windowMs / limit` after the one before, however it
 * came in. Rest is not saved up: there are no bursts, and with costs of 1 no half-open window holds more than `limit`.
 * This is what nginx's `limit_req` does, so it is the shape to send in towards a server that runs it.
 *
 * `tryTake` is true only if a release is due right now; it never queues. `take` queues up; when it would have to wait and
 * `capacity` is waiting already, it rejects at once with a {@link BudgetExceededError} whose `waitMs` is the wait it was
 * spared. A cost of c is released at once and followed by a pause of c intervals; it may be up to `limit`. `available` is
 * 1 when a release is due, else 0. A release that comes late, as timers do, moves the later ones: the spacing is a
 * minimum and the rate a ceiling.
 *
 * @throws {ConfigError} on a bad option.
 * @example
 * const bucket = leakyBucket({ limit: 10, windowMs: 1000, capacity: 50 });
 * await bucket.take(); // every 100 ms; the 51st in the queue is rejected
 */
export function leakyBucket(options: LeakyBucketOptions): Limiter {
  const { clock = systemClock, capacity = Number.POSITIVE_INFINITY } = options;
  const limit = count('limit', options.limit);
  const windowMs = positive('windowMs', options.windowMs, 'milliseconds');
  if (capacity !== Number.POSITIVE_INFINITY && !(Number.isSafeInteger(capacity) && capacity >= 0)) {
    throw invalid('capacity', 'an integer ≥ 0, or Infinity', capacity);
  }
  const maxWaitMs = (capacity * windowMs) / limit;
  return limiterOf(spacedMeter(limit, windowMs), clock, { name: 'the leaky bucket', capacity, maxWaitMs });
}

/** The unit inside is cost · windowMs, so nothing is rounded as long as times and options are whole numbers. */
function spacedMeter(limit: number, windowMs: number): Meter {
  let debt = 0;
  let seenMs = Number.NEGATIVE_INFINITY;

  function advance(nowMs: number): void {
    if (nowMs <= seenMs) return;
    debt = Math.max(0, debt - (nowMs - seenMs) * limit);
    seenMs = nowMs;
  }

  return {
    maxCost: limit,
    waitMs(_cost, ahead, nowMs) {
      advance(nowMs);
      return (debt + ahead * windowMs) / limit;
    },
    spend(cost, nowMs) {
      advance(nowMs);
      debt += cost * windowMs;
    },
    available(nowMs) {
      advance(nowMs);
      return debt > 0 ? 0 : 1;
    },
  };
}
