import { type Clock, systemClock } from '../clock.ts';
import { nonNegative, positive } from '../validate.ts';

/** Options of {@link retryBudget}. */
export interface RetryBudgetOptions {
  /** Retries allowed per request, finite, ≥ 0. @default 0.2 */
  readonly ratio?: number;
  /** Retries per second that are allowed whatever the traffic, finite, ≥ 0; so that a quiet client may retry at all. @default 10 */
  readonly floorPerSecond?: number;
  /** How long a request vouches for retries, in milliseconds, > 0. @default 10_000 */
  readonly windowMs?: number;
  /** @default systemClock */
  readonly clock?: Clock;
}

/** See {@link retryBudget}. */
export interface RetryBudget {
  /** Counts a request; not its retries. */
  deposit(): void;
  /** Takes one retry, if the budget has it. A refused retry costs nothing. */
  tryWithdraw(): boolean;
  /** How many retries could be taken right now; an integer ≥ 0. */
  readonly balance: number;
}

/** Finagle's granularity: a deposit counts for nine to ten tenths of the window. */
const BUCKETS = 10;

/**
 * A bound on retries for everybody together, so that an outage is not multiplied: over any window, at most `ratio` retries
 * for each request made in it, plus a floor of `floorPerSecond × windowMs`. The defaults, 20 % and 10 per second over 10
 * seconds, are those of Finagle's `RetryBudget` and of Linkerd. The floor is there from the start: 100 retries at once.
 *
 * Every call is O(1): the window is a ring of ten counters. They are counts, not sums of `ratio`, so five deposits at 0.2
 * are one retry and not 0.999….
 *
 * @throws {ConfigError} on a bad option.
 * @example
 * const budget = retryBudget({ ratio: 0.1 });
 * budget.deposit();
 * if (failed && budget.tryWithdraw()) retry();
 */
export function retryBudget(options: RetryBudgetOptions = {}): RetryBudget {
  const { clock = systemClock } = options;
  const ratio = nonNegative('ratio', options.ratio ?? 0.2);
  const floorPerSecond = nonNegative('floorPerSecond', options.floorPerSecond ?? 10);
  const windowMs = positive('windowMs', options.windowMs ?? 10_000, 'milliseconds');
  const floor = (floorPerSecond * windowMs) / 1000;
  const bucketMs = windowMs / BUCKETS;

  const deposits = new Float64Array(BUCKETS);
  const withdrawals = new Float64Array(BUCKETS);
  let deposited = 0;
  let withdrawn = 0;
  let tick = Math.floor(clock.now() / bucketMs);
  let bucket = 0;

  /** Forgets the buckets that have left the window. A clock that steps back stands still. */
  function advance(): void {
    const nowTick = Math.floor(clock.now() / bucketMs);
    for (let steps = Math.min(nowTick - tick, BUCKETS); steps > 0; steps--) {
      bucket = (bucket + 1) % BUCKETS;
      deposited -= deposits[bucket];
      withdrawn -= withdrawals[bucket];
      deposits[bucket] = 0;
      withdrawals[bucket] = 0;
    }
    tick = Math.max(tick, nowTick);
  }

  function balance(): number {
    advance();
    // 0.29 × 100 is 28.999999999999996 in floating point; it is meant to be 29.
    return Math.max(0, Math.floor(floor + ratio * deposited - withdrawn + 1e-9));
  }

  return {
    deposit() {
      advance();
      deposits[bucket]++;
      deposited++;
    },
    tryWithdraw() {
      if (balance() < 1) return false;
      withdrawals[bucket]++;
      withdrawn++;
      return true;
    },
    get balance() {
      return balance();
    },
  };
}
