import { systemClock } from '../clock.ts';
import { count, invalid } from '../validate.ts';
import { waitQueue } from './wait-queue.ts';

/** Options of {@link concurrencyLimit}. */
export interface ConcurrencyLimitOptions {
  /** How many may run at a time; an integer ≥ 1. */
  readonly limit: number;
}

/** Options of {@link ConcurrencyLimit.acquire}. */
export interface AcquireOptions {
  readonly signal?: AbortSignal;
  /** Any finite number; higher goes first, equals go first come, first served. @default 0 */
  readonly priority?: number;
}

/** One place taken. Releasing it twice is the same as once. */
export interface Releaser {
  release(): void;
  /** `release()`, so that `using place = await limit.acquire()` works. */
  [Symbol.dispose](): void;
}

/** See {@link concurrencyLimit}. */
export interface ConcurrencyLimit {
  /** A place, if one is free. While anybody waits none is. */
  tryAcquire(): Releaser | undefined;
  /** A place as soon as one is free. Rejects with `signal.reason` on abort: no place is taken, the turn goes to the next. */
  acquire(options?: AcquireOptions): Promise<Releaser>;
  /** Places taken. Over `limit` for a while after it was lowered. */
  readonly active: number;
  /** How many wait. */
  readonly waiting: number;
  /** May be set at any time: raised, it wakes waiters at once; lowered, nobody is let in until `active` has fallen under it. */
  limit: number;
}

/**
 * A counting semaphore with priorities: at most `limit` places are taken at a time.
 *
 * @throws {ConfigError} on a limit that is no integer ≥ 1, here or when set later; `acquire` rejects with one on a bad priority.
 * @example
 * const limit = concurrencyLimit({ limit: 30 });
 * using place = await limit.acquire({ signal });
 * await work();
 */
export function concurrencyLimit(options: ConcurrencyLimitOptions): ConcurrencyLimit {
  let limit = count('limit', options.limit);
  let active = 0;

  function release(): void {
    active--;
    queue.drain(0);
  }

  function grant(): Releaser {
    active++;
    return new Place(release);
  }

  // Only a release brings a place, never time: the queue needs no timer.
  const queue = waitQueue<Releaser>(
    { waitMs: () => (active < limit ? 0 : Number.POSITIVE_INFINITY), grant },
    { ...systemClock, now: () => 0 },
  );

  return {
    // Waiters are served whenever a place comes free, so a free place means that nobody waits.
    tryAcquire: () => (active < limit ? grant() : undefined),
    acquire({ signal, priority = 0 } = {}) {
      if (!Number.isFinite(priority)) return Promise.reject(invalid('priority', 'a finite number', priority));
      return queue.wait({ signal, priority });
    },
    get active() {
      return active;
    },
    get waiting() {
      return queue.size;
    },
    get limit() {
      return limit;
    },
    set limit(value) {
      limit = count('limit', value);
      queue.drain(0);
    },
  };
}

class Place implements Releaser {
  #end: (() => void) | undefined;

  constructor(end: () => void) {
    this.#end = end;
  }

  release(): void {
    const end = this.#end;
    this.#end = undefined;
    end?.();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}
