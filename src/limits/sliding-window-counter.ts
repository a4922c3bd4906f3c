import { type Clock, systemClock } from '../clock.ts';
import { count, positive } from '../validate.ts';
import { type Limiter, limiterOf, type Meter } from './limiter.ts';

/** Options of {@link slidingWindowCounter}. */
export interface SlidingWindowCounterOptions {
  /** How much may be taken per window, by estimate; an integer ≥ 1. */
  readonly limit: number;
  /** Length of the window in milliseconds, > 0. */
  readonly windowMs: number;
  /** @default systemClock */
  readonly clock?: Clock;
}

/**
 * Two counters for fixed windows that lie side by side; the sliding count is estimated as
 * `current + previous × the share of the previous window that the sliding one still covers`.
 *
 * **An approximation, and no bound.** It believes that the previous window was used evenly. When it was used at its very
 * end, nearly `2 × limit` can fall into one window of that length. It is what many servers run (Cloudflare described
 * it), in constant memory; to stay under a server's limit take {@link slidingWindow}.
 *
 * `waitMs` is an estimate too while others wait: it is exact for the head of the queue.
 *
 * @throws {ConfigError} on a bad option.
 * @example
 * const limiter = slidingWindowCounter({ limit: 100, windowMs: 60_000 });
 * if (!limiter.tryTake()) return tooManyRequests();
 */
export function slidingWindowCounter(options: SlidingWindowCounterOptions): Limiter {
  const limit = count('limit', options.limit);
  const windowMs = positive('windowMs', options.windowMs, 'milliseconds');
  return limiterOf(counterMeter(limit, windowMs), options.clock ?? systemClock);
}

function counterMeter(limit: number, windowMs: number): Meter {
  let startMs = Number.NEGATIVE_INFINITY; // of the current window
  let current = 0;
  let previous = 0;

  /** Turns the windows over; returns the time that counts, which never goes back behind the current window. */
  function advance(nowMs: number): number {
    const passed = Math.floor((nowMs - startMs) / windowMs);
    if (passed === Number.POSITIVE_INFINITY) {
      startMs = nowMs; // the first use opens the first window
    } else if (passed > 0) {
      previous = passed === 1 ? current : 0;
      current = 0;
      startMs += passed * windowMs;
    }
    return Math.max(nowMs, startMs);
  }

  /** When `counted` in a window that started at `fromMs`, fading out over the next one, is down to `room`. */
  function fadedMs(counted: number, room: number, fromMs: number): number {
    return counted <= room ? fromMs : fromMs + (windowMs * (counted - room)) / counted;
  }

  return {
    maxCost: limit,
    waitMs(cost, ahead, nowMs) {
      const now = advance(nowMs);
      const wholeWindows = Math.ceil((ahead + cost) / limit) - 1; // more than a limit queued up: a window for each
      const wanted = ahead + cost - wholeWindows * limit;
      const room = limit - current - wanted;
      const fitsMs =
        room >= 0 ? fadedMs(previous, room, startMs) : fadedMs(current, limit - wanted, startMs + windowMs);
      return fitsMs + wholeWindows * windowMs - now;
    },
    spend(cost, nowMs) {
      advance(nowMs);
      current += cost;
    },
    available(nowMs) {
      const now = advance(nowMs);
      return Math.floor(limit - current - previous * (1 - (now - startMs) / windowMs));
    },
  };
}
