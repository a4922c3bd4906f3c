/** Handle of a pending timer; opaque, to be handed back to {@link Clock.clearTimeout}. */
export type TimerHandle = unknown;

/**
 * The time everything in paceline runs on. Injected, so that tests and replays can own it.
 *
 * `now` is monotonic: a wall clock that is set back an hour must never stop or release a queue.
 * `wallNow` is only used to read absolute dates that a server sent.
 */
export interface Clock {
  /** Milliseconds on a monotonic clock, with fractions. Only differences mean anything. */
  now(): number;
  /** Milliseconds since the Unix epoch. */
  wallNow(): number;
  /** Calls `callback` once, `delayMs` milliseconds from now. */
  setTimeout(callback: () => void, delayMs: number): TimerHandle;
  /** Cancels a timer; a handle that has fired is ignored. */
  clearTimeout(handle: TimerHandle): void;
}

/** The longest delay a Node timer can represent; a longer one would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The process's own clock: `performance.now`, `Date.now` and the global timers. */
export const systemClock: Clock = {
  now: () => performance.now(),
  wallNow: () => Date.now(),
  setTimeout: (callback, delayMs) => setTimeout(callback, Math.min(delayMs, LONGEST_TIMER_MS)),
  clearTimeout: (handle) => clearTimeout(handle as NodeJS.Timeout),
};

/** A source of randomness: uniform in [0, 1), like `Math.random`. */
export type Random = () => number;

/**
 * A small seeded generator (mulberry32), for tests, simulations and replays. Not for secrets.
 *
 * @example
 * const random = seededRandom(42);
 * random(); // the same number on every run
 */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
