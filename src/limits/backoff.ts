import type { Random } from '../clock.ts';
import { nonNegative } from '../validate.ts';

/** Options of the three jitters. */
export interface BackoffOptions {
  /** Scale of the first delay in milliseconds, finite, ≥ 0. @default 1000 */
  readonly baseMs?: number;
  /** No delay is longer; milliseconds, finite, ≥ 0. Below `baseMs` it simply wins. @default 60_000 */
  readonly capMs?: number;
  /** @default Math.random */
  readonly random?: Random;
}

/**
 * Milliseconds to wait before a retry, always finite and in [0, capMs].
 *
 * `attempt` is 0 for the first retry; anything that is not above 0 counts as 0. `previousMs` is the delay before the last
 * attempt; only {@link decorrelatedJitter} looks at it.
 */
export type Backoff = (attempt: number, previousMs?: number) => number;

/**
 * Full jitter: `U(0, min(cap, base · 2ⁿ))`. In AWS's simulation of 100 contending clients the fewest calls and the
 * soonest end of all, so it is the one to take.
 * Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
 *
 * @throws {ConfigError} on a bad option.
 * @example
 * const delayMs = fullJitter({ baseMs: 500 });
 * delayMs(0); // 0 … 500
 * delayMs(3); // 0 … 4000
 */
export function fullJitter(options: BackoffOptions = {}): Backoff {
  const { baseMs, capMs, random } = resolve(options);
  return (attempt) => random() * exponential(baseMs, capMs, attempt);
}

/**
 * Equal jitter: half of `min(cap, base · 2ⁿ)`, plus up to as much again. For when a minimum wait matters more than
 * spreading out. Source as for {@link fullJitter}.
 *
 * @throws {ConfigError} on a bad option.
 * @example
 * equalJitter({ baseMs: 500 })(3); // 2000 … 4000
 */
export function equalJitter(options: BackoffOptions = {}): Backoff {
  const { baseMs, capMs, random } = resolve(options);
  return (attempt) => {
    const half = exponential(baseMs, capMs, attempt) / 2;
    return Math.min(capMs, half + random() * half); // the sum may round up
  };
}

/**
 * Decorrelated jitter: `min(cap, U(base, previous · 3))`. Keeps no state: hand it the delay it gave last; without one
 * (or with one under base) it starts from `base`. Source as for {@link fullJitter}.
 *
 * @throws {ConfigError} on a bad option.
 * @example
 * const next = decorrelatedJitter({ baseMs: 500 });
 * let delayMs = next(0);         // 500 … 1500
 * delayMs = next(1, delayMs);    // 500 … three times the last
 */
export function decorrelatedJitter(options: BackoffOptions = {}): Backoff {
  const { baseMs, capMs, random } = resolve(options);
  return (_attempt, previousMs = baseMs) => {
    const previous = previousMs > baseMs ? Math.min(previousMs, capMs) : baseMs;
    return Math.min(capMs, baseMs + random() * Math.max(0, previous * 3 - baseMs));
  };
}

function resolve({ baseMs = 1000, capMs = 60_000, random = Math.random }: BackoffOptions): Required<BackoffOptions> {
  nonNegative('baseMs', baseMs, 'milliseconds');
  nonNegative('capMs', capMs, 'milliseconds');
  return { baseMs, capMs, random };
}

/** `min(cap, base · 2ⁿ)`. 2¹⁰²³ is the last power of two there is; Infinity times a base of 0 would be NaN. */
function exponential(baseMs: number, capMs: number, attempt: number): number {
  return Math.min(capMs, baseMs * 2 ** (attempt > 0 ? Math.min(attempt, 1023) : 0));
}
