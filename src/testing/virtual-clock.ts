import type { Clock, TimerHandle } from '../clock.ts';
import { invalid, nonNegative } from '../validate.ts';
import { type HeapTimer, TimerHeap } from './timer-heap.ts';

/** Options of {@link virtualClock}. */
export interface VirtualClockOptions {
  /** What `now()` starts at, in milliseconds. @default 0 */
  readonly startMs?: number;
  /** What `wallNow()` starts at, in milliseconds since the Unix epoch. @default 1_767_225_600_000 (2026-01-01T00:00:00Z) */
  readonly wallMs?: number;
}

/** Limits of {@link VirtualClock.runUntil}. */
export interface RunOptions {
  /** The most virtual time that may pass, in milliseconds. @default 86_400_000 (one day) */
  readonly maxMs?: number;
  /**
   * How many turns of the event loop may pass without a timer before it counts as a deadlock.
   * Raise it when the code under test also does real I/O. @default 100
   */
  readonly idleTurns?: number;
}

/** A {@link Clock} that only moves when it is told to. Hand it to whatever takes a `clock`. */
export interface VirtualClock extends Clock {
  /** How many timers are waiting. */
  readonly pending: number;
  /**
   * Moves time on by `ms`, firing the timers on the way in the order they are due (first set first among equals), each at
   * its own instant. Between timers the event loop turns, so that the code under test can react and set further timers,
   * which fire too if they are due in time. Rejects with whatever a timer's callback throws.
   */
  advance(ms: number): Promise<void>;
  /** As {@link advance}, up to the instant `nowMs` of `now()`. An instant in the past is refused. */
  advanceTo(nowMs: number): Promise<void>;
  /** As {@link advance}, but without a turn between timers: promises only continue after the call. */
  advanceSync(ms: number): void;
  /**
   * Moves time on, timer by timer, until `promise` settles, and gives its result. No time passes that is not needed.
   * Throws when it cannot settle any more: no timer waits and nothing happens.
   */
  runUntil<T>(promise: PromiseLike<T>, options?: RunOptions): Promise<T>;
  /** Moves time on, timer by timer, until none is waiting. Throws when some still are after `maxMs` milliseconds. */
  runUntilIdle(maxMs: number): Promise<void>;
  /** Moves only `wallNow()`, forwards or backwards, as a clock that is set does. No timer fires. */
  jumpWall(ms: number): void;
}

/** What a Node timer can represent; a longer delay is cut to it, as the system clock cuts it. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** Turns of the event loop between timers: promises need one, streams and `setImmediate` a few. */
const TURNS = 2;
/** Timers at a single instant before it counts as a loop that sets itself again with no delay. */
const MOST_AT_ONE_INSTANT = 1_000_000;

// Taken at load, so that a test runner's fake timers cannot stop the clock from turning.
const immediate = setImmediate;

async function turn(times: number): Promise<void> {
  for (let i = 0; i < times; i++) await new Promise<void>((resolve) => immediate(resolve));
}

/**
 * A clock for tests: hours pass in milliseconds, and always in the same order.
 *
 * @example
 * const clock = virtualClock();
 * const done = somethingThatWaits({ clock });
 * await clock.advance(60_000);     // a minute passes
 * await clock.runUntil(done);      // as much more as it takes
 */
export function virtualClock(options: VirtualClockOptions = {}): VirtualClock {
  const { startMs = 0, wallMs = Date.UTC(2026, 0, 1) } = options;
  if (!Number.isFinite(startMs)) throw invalid('startMs', 'a finite number of milliseconds', startMs);
  if (!Number.isFinite(wallMs)) throw invalid('wallMs', 'a finite number of milliseconds', wallMs);

  const timers = new TimerHeap();
  let now = startMs;
  let wallOffset = wallMs - startMs;
  let running = false;
  let atThisInstant = 0;

  /** Two drivers at once would each move the other's time. */
  async function drive<T>(work: () => Promise<T>): Promise<T> {
    if (running) throw new Error('virtualClock: it is being advanced already; await that first');
    running = true;
    try {
      return await work();
    } finally {
      running = false;
    }
  }

  function fire(timer: HeapTimer): void {
    timers.remove(timer);
    if (timer.due > now) {
      now = timer.due;
      atThisInstant = 0;
    } else if (++atThisInstant > MOST_AT_ONE_INSTANT) {
      throw new Error(
        `virtualClock: more than ${MOST_AT_ONE_INSTANT} timers at ${now} ms: one sets itself again at once`,
      );
    }
    timer.callback();
  }

  function next(untilMs: number): HeapTimer | undefined {
    const timer = timers.peek();
    return timer !== undefined && timer.due <= untilMs ? timer : undefined;
  }

  function reach(instant: number): void {
    if (instant > now) {
      now = instant;
      atThisInstant = 0;
    }
  }

  async function runTo(instant: number): Promise<void> {
    await turn(TURNS);
    for (let timer = next(instant); timer !== undefined; timer = next(instant)) {
      fire(timer);
      await turn(TURNS);
    }
    reach(instant);
  }

  async function runUntil<T>(promise: PromiseLike<T>, { maxMs = 86_400_000, idleTurns = 100 }: RunOptions): Promise<T> {
    let settled = false;
    const settle = (): void => {
      settled = true;
    };
    promise.then(settle, settle);
    const end = now + nonNegative('maxMs', maxMs);
    for (;;) {
      await turn(TURNS);
      if (settled) return promise;
      const timer = timers.peek();
      if (timer !== undefined) {
        if (timer.due > end) throw new Error(`virtualClock: the promise is still pending after ${maxMs} ms`);
        fire(timer);
        continue;
      }
      for (let i = 0; i < idleTurns && !settled && timers.size === 0; i++) await turn(1);
      if (!settled && timers.size === 0) {
        throw new Error(
          `virtualClock: deadlock at ${now} ms: the promise is pending, no timer waits and nothing happens`,
        );
      }
    }
  }

  return {
    now: () => now,
    wallNow: () => now + wallOffset,
    setTimeout(callback, delayMs): TimerHandle {
      const delay = delayMs > 0 ? Math.min(delayMs, LONGEST_TIMER_MS) : 0;
      return timers.add(now + delay, callback);
    },
    clearTimeout(handle) {
      if (handle !== undefined && handle !== null) timers.remove(handle as HeapTimer);
    },
    get pending() {
      return timers.size;
    },
    advance(ms) {
      return drive(async () => runTo(now + nonNegative('ms', ms)));
    },
    advanceTo(nowMs) {
      return drive(async () => {
        if (!(nowMs >= now && Number.isFinite(nowMs))) throw invalid('nowMs', `an instant ≥ ${now} (now)`, nowMs);
        await runTo(nowMs);
      });
    },
    advanceSync(ms) {
      if (running) throw new Error('virtualClock: it is being advanced already; await that first');
      running = true;
      try {
        const instant = now + nonNegative('ms', ms);
        for (let timer = next(instant); timer !== undefined; timer = next(instant)) fire(timer);
        reach(instant);
      } finally {
        running = false;
      }
    },
    runUntil(promise, options = {}) {
      return drive(() => runUntil(promise, options));
    },
    runUntilIdle(maxMs) {
      return drive(async () => {
        const end = now + nonNegative('maxMs', maxMs);
        await turn(TURNS);
        for (let timer = next(end); timer !== undefined; timer = next(end)) {
          fire(timer);
          await turn(TURNS);
        }
        if (timers.size > 0) throw new Error(`virtualClock: ${timers.size} timers are still waiting after ${maxMs} ms`);
      });
    },
    jumpWall(ms) {
      if (!Number.isFinite(ms)) throw invalid('ms', 'a finite number of milliseconds', ms);
      wallOffset += ms;
    },
  };
}
