import type { Clock } from '../clock.ts';
import { BudgetExceededError } from '../errors.ts';
import { count, invalid } from '../validate.ts';
import { waitQueue } from './wait-queue.ts';

/**
 * One budget that everybody who holds the limiter shares.
 *
 * The three verbs differ only when the budget is used up: `tryTake` says no, `waitMs` says for how long, `take` waits.
 * Costs are integers ≥ 1 (a bad one is a {@link ConfigError}). Those who wait in `take` come first, in the order they
 * came: while anyone waits, `tryTake` is false and `available` 0.
 *
 * @example
 * const limiter = tokenBucket({ limit: 10, windowMs: 1000 });
 * await limiter.take();
 * if (limiter.tryTake(3)) sendThree();
 */
export interface Limiter {
  /** Takes `cost` (default 1) now if that is allowed. False, having taken nothing, otherwise. */
  tryTake(cost?: number): boolean;
  /**
   * Milliseconds, rounded up to whole ones, until `cost` (default 1) could be taken by somebody who queued up now: 0 = now,
   * `Infinity` = never, it is more than the limiter ever holds. Takes nothing.
   */
  waitMs(cost?: number): number;
  /**
   * Takes `cost` (default 1) as soon as that is allowed, first come, first served. Rejects with `signal.reason` on abort
   * (nothing is taken, the place goes to the next) and with a {@link ConfigError} when `cost` is more than the limiter
   * ever holds. A grant is counted when it is made, so start the work at once.
   */
  take(options?: TakeOptions): Promise<void>;
  /** How much could be taken right now. */
  readonly available: number;
}

/** Options of {@link Limiter.take}. */
export interface TakeOptions {
  /** An integer ≥ 1. @default 1 */
  readonly cost?: number;
  readonly signal?: AbortSignal;
}

/**
 * The arithmetic of one limiter, without queue or clock: what {@link limiterOf} makes a {@link Limiter} of.
 * A time earlier than one it has seen counts as that one: a clock that steps back stands still.
 */
export interface Meter {
  /** The largest cost that can ever be taken at once. */
  readonly maxCost: number;
  /** Milliseconds until `cost` fits after `ahead` has been taken by those in front; ≤ 0 = now. Takes nothing. */
  waitMs(cost: number, ahead: number, nowMs: number): number;
  /** Counts `cost` as taken. Only called when `waitMs(cost, 0, nowMs)` is ≤ 0. */
  spend(cost: number, nowMs: number): void;
  /** How much fits now. */
  available(nowMs: number): number;
}

/** How many may wait, and what to call the limiter when it is too many. */
export interface QueueBound {
  readonly name: string;
  /** The largest sum of waiting costs. */
  readonly capacity: number;
  /** How long the last of a full queue waits, in milliseconds. */
  readonly maxWaitMs: number;
}

/** Gives a {@link Meter} its verbs: all of them go through `meter.waitMs` and, when it says 0, `meter.spend`. */
export function limiterOf(meter: Meter, clock: Clock, bound?: QueueBound): Limiter {
  const queue = waitQueue<void>(
    {
      waitMs: (cost, nowMs) => meter.waitMs(cost, 0, nowMs),
      grant: (cost, nowMs) => meter.spend(cost, nowMs),
    },
    clock,
  );

  /** Whether somebody waits who is not due yet. */
  function busy(nowMs: number): boolean {
    if (queue.size > 0) queue.drain(nowMs); // their timer may be late
    return queue.size > 0;
  }

  return {
    tryTake(cost = 1) {
      count('cost', cost);
      const nowMs = clock.now();
      if (cost > meter.maxCost || busy(nowMs) || meter.waitMs(cost, 0, nowMs) > 0) return false;
      meter.spend(cost, nowMs);
      return true;
    },

    waitMs(cost = 1) {
      if (count('cost', cost) > meter.maxCost) return Number.POSITIVE_INFINITY;
      const nowMs = clock.now();
      const ahead = busy(nowMs) ? queue.cost : 0;
      return Math.max(0, Math.ceil(meter.waitMs(cost, ahead, nowMs)));
    },

    take({ cost = 1, signal } = {}) {
      if (!Number.isSafeInteger(cost) || cost < 1 || cost > meter.maxCost) {
        return Promise.reject(invalid('cost', `an integer from 1 to ${meter.maxCost}`, cost));
      }
      if (bound !== undefined && !signal?.aborted) {
        const nowMs = clock.now();
        const ahead = busy(nowMs) ? queue.cost : 0;
        const waitMs = meter.waitMs(cost, ahead, nowMs);
        if (ahead + cost > bound.capacity && (ahead > 0 || waitMs > 0)) {
          const { name: target, maxWaitMs } = bound;
          return Promise.reject(new BudgetExceededError({ target, waitMs, maxWaitMs }));
        }
      }
      return queue.wait({ cost, signal });
    },

    get available() {
      const nowMs = clock.now();
      return busy(nowMs) ? 0 : Math.max(0, meter.available(nowMs));
    },
  };
}
