import { type Clock, systemClock } from '../clock.ts';
import { count, invalid, nonNegative, positive } from '../validate.ts';
import { type AimdPolicy, aimdCut, aimdLimit, aimdOk, aimdState } from './aimd.ts';
import { type AcquireOptions, concurrencyLimit, type Releaser } from './concurrency.ts';

/** What both adaptations have in common. */
interface AimdOptions {
  /** A cut multiplies the limit by this, in (0, 1). @default 0.7, which is that of the AWS SDKs' adaptive mode */
  readonly decrease?: number;
  /** A clean window adds this, > 0. @default 1 */
  readonly increase?: number;
  /** @default systemClock */
  readonly clock?: Clock;
}

/** Options of {@link adaptiveLimit}. */
export interface AdaptiveLimitOptions extends AimdOptions {
  /** The limit never rises above this; an integer ≥ `floor`. */
  readonly ceiling: number;
  /** The limit never falls below this; an integer ≥ 1. @default 1 */
  readonly floor?: number;
  /** The limit to begin with; an integer from `floor` to `ceiling`. @default ceiling */
  readonly start?: number;
  /** At most one cut, and one step up, in this time: the window that the limit is for. Milliseconds, > 0. */
  readonly windowMs: number;
}

/** See {@link adaptiveLimit}. */
export interface AdaptiveLimit {
  /** The limit now; an integer from `floor` to `ceiling`. */
  readonly limit: number;
  /** A good answer, while `used` of the limit were in use (≥ 0; default: all of it). */
  ok(used?: number): void;
  /** A refusal that blames the limit (a 429), to a request that was sent at `sentAtMs` on the clock (default: now). */
  limited(sentAtMs?: number): void;
}

/**
 * A limit that finds what the other side tolerates: AIMD. Evidence multiplies it by `decrease`, at most once a window; a
 * window without any adds `increase`, provided that at least half of the limit was in use, for what was never tried
 * proves nothing. It decides only how high the limit is: set it on what does the limiting.
 *
 * @throws {ConfigError} on a bad option, or a bad `used`.
 * @example
 * const budget = adaptiveLimit({ ceiling: 20, windowMs: 60_000 });
 * if (response.status === 429) budget.limited();
 * else budget.ok(sentInTheLastMinute);
 * budget.limit; // 14
 */
export function adaptiveLimit(options: AdaptiveLimitOptions): AdaptiveLimit {
  const { clock = systemClock } = options;
  const ceiling = count('ceiling', options.ceiling);
  const floor = count('floor', options.floor ?? 1);
  if (floor > ceiling) throw invalid('floor', `at most ceiling (${ceiling})`, floor);
  const start = between('start', options.start ?? ceiling, floor, ceiling);
  const policy = aimdPolicy(floor, ceiling, options.windowMs, options);
  const state = aimdState(start, clock.now());

  return {
    get limit() {
      return aimdLimit(state, policy);
    },
    ok(used = aimdLimit(state, policy)) {
      aimdOk(state, policy, nonNegative('used', used), clock.now());
    },
    limited(sentAtMs) {
      const now = clock.now();
      aimdCut(state, policy, sentAtMs ?? now, now);
    },
  };
}

/** Options of {@link adaptiveConcurrency}. */
export interface AdaptiveConcurrencyOptions extends AimdOptions {
  /** How many may run at a time to begin with; an integer from `min` to `max`. */
  readonly start: number;
  /** The limit never rises above this; an integer ≥ 1. */
  readonly max: number;
  /** The limit never falls below this; an integer ≥ 1. @default 1 */
  readonly min?: number;
  /**
   * At most one cut, and one step up, in this time, in milliseconds, > 0; a few round trips, so that each limit gets its
   * answer. @default 5000
   */
  readonly windowMs?: number;
}

/** One place taken. Ending it twice is the same as once. */
export interface AdaptivePlace {
  /** Frees the place. `false` is evidence that there are too many; `'ignore'` says nothing. */
  done(ok: boolean | 'ignore'): void;
  /** `done('ignore')`, so that `using place = await limit.acquire()` loses none. */
  [Symbol.dispose](): void;
}

/** See {@link adaptiveConcurrency}. */
export interface AdaptiveConcurrency {
  /** A place, if one is free. While anybody waits none is. */
  tryAcquire(): AdaptivePlace | undefined;
  /** A place as soon as one is free. Rejects with `signal.reason` on abort. */
  acquire(options?: AcquireOptions): Promise<AdaptivePlace>;
  /** How many may run at a time now; an integer from `min` to `max`. */
  readonly limit: number;
  /** Places taken. Over `limit` for a while after a cut. */
  readonly active: number;
  /** How many wait. */
  readonly waiting: number;
}

/**
 * A {@link concurrencyLimit} that finds its limit by AIMD: one more after every window without evidence in which at least
 * half of the places were taken at a time, × `decrease` on evidence; at most once a window, and never for a request that
 * had been sent before the last cut, so a round trip full of refusals cuts once.
 *
 * @throws {ConfigError} on a bad option; `acquire` rejects with one on a bad priority.
 * @example
 * const limit = adaptiveConcurrency({ start: 30, max: 100 });
 * using place = await limit.acquire({ signal });
 * const response = await fetch(url, { signal });
 * place.done(response.status !== 429);
 */
export function adaptiveConcurrency(options: AdaptiveConcurrencyOptions): AdaptiveConcurrency {
  const { clock = systemClock } = options;
  const max = count('max', options.max);
  const min = count('min', options.min ?? 1);
  if (min > max) throw invalid('min', `at most max (${max})`, min);
  const start = between('start', options.start, min, max);
  const policy = aimdPolicy(min, max, options.windowMs ?? 5000, options);
  const state = aimdState(start, clock.now());
  const places = concurrencyLimit({ limit: start });

  function placeOf(releaser: Releaser): AdaptivePlace {
    const sentAt = clock.now();
    let over = false;
    function done(ok: boolean | 'ignore'): void {
      if (over) return;
      over = true;
      // Every peak of the places taken is seen here: the first thing to happen after it is that one of them ends.
      if (ok === true) aimdOk(state, policy, places.active, clock.now());
      else if (ok === false) aimdCut(state, policy, sentAt, clock.now());
      const limit = aimdLimit(state, policy);
      if (limit !== places.limit) places.limit = limit;
      releaser.release();
    }
    return { done, [Symbol.dispose]: () => done('ignore') };
  }

  return {
    tryAcquire() {
      const releaser = places.tryAcquire();
      return releaser && placeOf(releaser);
    },
    acquire: (acquireOptions) => places.acquire(acquireOptions).then(placeOf),
    get limit() {
      return places.limit;
    },
    get active() {
      return places.active;
    },
    get waiting() {
      return places.waiting;
    },
  };
}

function aimdPolicy(floor: number, ceiling: number, windowMs: number, options: AimdOptions): AimdPolicy {
  const { decrease = 0.7 } = options;
  if (!(decrease > 0 && decrease < 1)) throw invalid('decrease', 'a number between 0 and 1', decrease);
  const increase = positive('increase', options.increase ?? 1);
  return { floor, ceiling, decrease, increase, windowMs: positive('windowMs', windowMs, 'milliseconds') };
}

function between(option: string, value: number, low: number, high: number): number {
  if (!Number.isSafeInteger(value) || value < low || value > high) {
    throw invalid(option, `an integer from ${low} to ${high}`, value);
  }
  return value;
}
