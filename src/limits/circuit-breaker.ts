import { type Clock, type Random, systemClock } from '../clock.ts';
import { CircuitOpenError } from '../errors.ts';
import { count, invalid, positive } from '../validate.ts';
import {
  type BreakerPolicy,
  breakerAdvance,
  breakerDone,
  breakerPass,
  breakerRoom,
  breakerState,
  breakerWaitMs,
  CLOSED,
  FAILURE,
  IGNORED,
  OPEN,
  SUCCESS,
} from './breaker-core.ts';

/** Options of {@link circuitBreaker}. */
export interface CircuitBreakerOptions {
  /** It opens when this share of the window's calls failed, in (0, 1]; probes are judged by it too. @default 0.5 */
  readonly failureRatio?: number;
  /** Fewer calls in the window than this open nothing; as many failures in a row do. An integer ≥ 1. @default 20 */
  readonly minCalls?: number;
  /** How long a call counts, in milliseconds, > 0. @default 30_000 */
  readonly windowMs?: number;
  /** The first open time, in milliseconds, > 0; it doubles with every trip in a row. @default 10_000 */
  readonly openMs?: number;
  /** The longest open time, in milliseconds, ≥ `openMs`. @default 300_000, or `openMs` if that is more */
  readonly maxOpenMs?: number;
  /** Probes that are let through when half-open; an integer ≥ 1. @default 1 */
  readonly halfOpenCalls?: number;
  /** A probe that has not ended by then is lost, and another may go; milliseconds, > 0. @default 60_000 */
  readonly probeTimeoutMs?: number;
  /** What is behind it, for the message of {@link CircuitOpenError}. @default 'this call' */
  readonly name?: string;
  /** @default systemClock */
  readonly clock?: Clock;
  /** @default Math.random */
  readonly random?: Random;
}

/** Where a {@link CircuitBreaker} stands. */
export type CircuitState =
  | {
      readonly kind: 'closed';
      /** Calls that ended in the window, and those of them that failed. */
      readonly calls: number;
      readonly failures: number;
    }
  | {
      readonly kind: 'open';
      /** Milliseconds until it lets a probe through. */
      readonly retryInMs: number;
    }
  | {
      readonly kind: 'half-open';
      /** Probes that may still go. */
      readonly room: number;
    };

/** The answer to {@link CircuitBreaker.tryPass}. */
export type CircuitPass =
  | {
      readonly ok: true;
      /** To be called when the call has ended; `'ignore'` when its end says nothing about the other side. Twice is as once. */
      done(success: boolean | 'ignore'): void;
    }
  | {
      readonly ok: false;
      /** Milliseconds, rounded up to whole ones, until asking again can help; it may help sooner while probes are out. */
      readonly retryInMs: number;
    };

/** See {@link circuitBreaker}. */
export interface CircuitBreaker {
  /** Asks to make one call. */
  tryPass(): CircuitPass;
  /**
   * Calls `fn`, unless the breaker is open: then it rejects with a {@link CircuitOpenError}. What `fn` throws counts as a
   * failure and is thrown on; only an `AbortError` is the caller's own doing, and is ignored.
   */
  run<T>(fn: () => T | PromiseLike<T>): Promise<T>;
  readonly state: CircuitState;
}

/**
 * Stops calling what is down. *Closed*, every call passes; when `failureRatio` of at least `minCalls` calls within
 * `windowMs` failed, or `minCalls` one after another, it *opens* and none does. After the open time it is *half-open*: `halfOpenCalls` probes pass and no
 * more. When `failureRatio` of them fail it opens for twice as long; when all have ended otherwise it closes.
 *
 * Open times are `openMs × 2ⁿ` up to `maxOpenMs`, shortened at random by up to a fifth. They grow as long as probes fail,
 * and when it opens again within a window of closing. Calls that were under way when it opened no longer count.
 *
 * Half of 20 calls within 30 s lies between resilience4j (50 % of 100 calls) and Polly (10 % of 100 within 30 s), for
 * fewer calls: one target behind a paced client sees tens of them a minute, not hundreds.
 *
 * Every call is O(1): the window is a ring of ten counters. It needs no timer.
 *
 * @throws {ConfigError} on a bad option.
 * @example
 * const breaker = circuitBreaker({ name: 'shop.example' });
 * const page = await breaker.run(() => load(url));
 */
export function circuitBreaker(options: CircuitBreakerOptions = {}): CircuitBreaker {
  const { name = 'this call', clock = systemClock, random = Math.random } = options;
  const policy = breakerPolicy(options);
  const state = breakerState();

  function tryPass(): CircuitPass {
    const now = clock.now();
    const waitMs = breakerWaitMs(state, policy, now);
    if (waitMs > 0) return { ok: false, retryInMs: Math.ceil(waitMs) };
    const ticket = breakerPass(state, policy, now);
    let over = false;
    return {
      ok: true,
      done(success) {
        if (over) return;
        over = true;
        const outcome = success === 'ignore' ? IGNORED : success ? SUCCESS : FAILURE;
        breakerDone(state, policy, ticket, outcome, clock.now(), random);
      },
    };
  }

  return {
    tryPass,
    async run(fn) {
      const pass = tryPass();
      if (!pass.ok) throw new CircuitOpenError(name, pass.retryInMs);
      try {
        const value = await fn();
        pass.done(true);
        return value;
      } catch (error) {
        pass.done(error instanceof Error && error.name === 'AbortError' ? 'ignore' : false);
        throw error;
      }
    },
    get state(): CircuitState {
      const now = clock.now();
      if (state.phase === CLOSED) {
        breakerAdvance(state, policy, now);
        return { kind: 'closed', calls: state.calls, failures: state.failures };
      }
      const room = breakerRoom(state, policy, now);
      if (state.phase === OPEN && room === 0) return { kind: 'open', retryInMs: Math.ceil(state.until - now) };
      return { kind: 'half-open', room };
    },
  };
}

/** The numbers of {@link CircuitBreakerOptions}, checked and filled in. */
export function breakerPolicy(options: CircuitBreakerOptions = {}): BreakerPolicy {
  const failureRatio = positive('failureRatio', options.failureRatio ?? 0.5);
  if (failureRatio > 1) throw invalid('failureRatio', 'a number > 0, at most 1', failureRatio);
  const openMs = positive('openMs', options.openMs ?? 10_000, 'milliseconds');
  const maxOpenMs = positive('maxOpenMs', options.maxOpenMs ?? Math.max(300_000, openMs), 'milliseconds');
  if (maxOpenMs < openMs) throw invalid('maxOpenMs', `at least openMs (${openMs})`, maxOpenMs);
  return {
    failureRatio,
    minCalls: count('minCalls', options.minCalls ?? 20),
    windowMs: positive('windowMs', options.windowMs ?? 30_000, 'milliseconds'),
    openMs,
    maxOpenMs,
    halfOpenCalls: count('halfOpenCalls', options.halfOpenCalls ?? 1),
    probeTimeoutMs: positive('probeTimeoutMs', options.probeTimeoutMs ?? 60_000, 'milliseconds'),
  };
}
