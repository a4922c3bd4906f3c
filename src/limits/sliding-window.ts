import { type Clock, systemClock } from '../clock.ts';
import { count, invalid, nonNegative, positive } from '../validate.ts';
import { waitQueue } from './wait-queue.ts';

/** Options of {@link slidingWindow}. */
export interface SlidingWindowOptions {
  /** How many may arrive per window; an integer from 1 to 16,777,216. 8 bytes each. */
  readonly limit: number;
  /** Length of the window in milliseconds, > 0. */
  readonly windowMs: number;
  /** @default systemClock */
  readonly clock?: Clock;
}

/** The right to one request, held from the grant until one of its methods is called; the first call counts, later ones do nothing. */
export interface Slot {
  /**
   * The answer, or the failure, is here: the slot cools for one window from now, and then is free.
   * A request that was aborted or timed out may still arrive: `graceMs` (finite, ≥ 0, else a {@link ConfigError} and the
   * slot stays busy) is how much longer the slot must cool for that. @default 0
   */
  release(graceMs?: number): void;
  /** The target never saw the request: the slot is free at once. */
  giveBack(): void;
  /** `release()`, so that `using slot = await window.acquire()` works. */
  [Symbol.dispose](): void;
}

/** See {@link slidingWindow}. */
export interface SlidingWindow {
  /** A slot, if one is free and nobody waits for it. */
  tryAcquire(): Slot | undefined;
  /** A slot as soon as one is free, first come, first served; rejects with `signal.reason` on abort. Whoever gets one must release it. */
  acquire(options?: { readonly signal?: AbortSignal }): Promise<Slot>;
  /** Takes a slot and releases it at once: the plain sliding-window log, stamped now. Only right when the target sees the request now. */
  hit(): boolean;
  /**
   * Milliseconds, rounded up to whole ones, until somebody who queued up now would get a slot, going by the slots that are
   * cooling: 0 = now, `Infinity` = not before somebody releases one. Takes nothing.
   */
  waitMs(): number;
  /** How many slots are free right now; 0 while anybody waits. */
  readonly available: number;
}

/**
 * The exact sliding window, by slots. **In every half-open window of `windowMs`, as the target's clock sees it, at most
 * `limit` requests arrive**, whatever the latency.
 *
 * There are `limit` slots. A slot is busy from the grant until the response (or the failure) is there, then it cools for
 * one window. The target saw the request somewhere between grant and release, so two uses of one slot reach it at least
 * one window apart. The price is latency ÷ window of the throughput. A slot that is never released is never used again.
 *
 * Memory: 8 bytes a slot. Acquire and release are O(1); a release is O(slots that come free later), which only graces bring about.
 *
 * @throws {ConfigError} on a bad option.
 * @example
 * const window = slidingWindow({ limit: 20, windowMs: 60_000 });
 * using slot = await window.acquire({ signal });
 * const response = await fetch(url);
 */
export function slidingWindow(options: SlidingWindowOptions): SlidingWindow {
  const { clock = systemClock } = options;
  const limit = count('limit', options.limit);
  if (limit > 2 ** 24) throw invalid('limit', 'an integer from 1 to 16777216', limit);
  const windowMs = positive('windowMs', options.windowMs, 'milliseconds');

  // The slots that are not busy, as a ring of the times they are free from, soonest first.
  const freeAtMs = new Float64Array(limit).fill(Number.NEGATIVE_INFINITY);
  let head = 0;
  let idle = limit;

  const at = (position: number): number => (head + position) % limit;
  const isFree = (nowMs: number): boolean => idle > 0 && freeAtMs[head] <= nowMs;

  function take(): void {
    head = at(1);
    idle--;
  }

  function put(fromMs: number): void {
    let position = idle++;
    // Without graces releases come in the order of time, and this loop ends at once.
    for (; position > 0 && freeAtMs[at(position - 1)] > fromMs; position--) {
      freeAtMs[at(position)] = freeAtMs[at(position - 1)];
    }
    freeAtMs[at(position)] = fromMs;
  }

  function putFirst(): void {
    head = at(limit - 1);
    freeAtMs[head] = Number.NEGATIVE_INFINITY;
    idle++;
  }

  function end(graceMs: number | undefined): void {
    const nowMs = clock.now();
    if (graceMs === undefined) putFirst();
    else put(nowMs + windowMs + graceMs);
    if (queue.size > 0) queue.drain(nowMs);
  }

  function grant(): Slot {
    take();
    return new BusySlot(end);
  }

  const queue = waitQueue<Slot>(
    { waitMs: (_cost, nowMs) => (idle === 0 ? Number.POSITIVE_INFINITY : freeAtMs[head] - nowMs), grant },
    clock,
  );

  /** Whether a slot is there for somebody who comes now. */
  function open(nowMs: number): boolean {
    if (queue.size > 0) queue.drain(nowMs); // their timer may be late
    return queue.size === 0 && isFree(nowMs);
  }

  return {
    tryAcquire: () => (open(clock.now()) ? grant() : undefined),
    acquire: ({ signal } = {}) => queue.wait({ signal }),
    hit() {
      const nowMs = clock.now();
      if (!open(nowMs)) return false;
      take();
      put(nowMs + windowMs);
      return true;
    },
    waitMs() {
      const nowMs = clock.now();
      if (open(nowMs)) return 0;
      return queue.size >= idle ? Number.POSITIVE_INFINITY : Math.ceil(freeAtMs[at(queue.size)] - nowMs);
    },
    get available() {
      const nowMs = clock.now();
      if (!open(nowMs)) return 0;
      let low = 1; // slots [0, low) are free, [high, idle) are not
      let high = idle;
      while (low < high) {
        const middle = (low + high) >>> 1;
        if (freeAtMs[at(middle)] <= nowMs) low = middle + 1;
        else high = middle;
      }
      return low;
    },
  };
}

class BusySlot implements Slot {
  #end: ((graceMs: number | undefined) => void) | undefined;

  constructor(end: (graceMs: number | undefined) => void) {
    this.#end = end;
  }

  release(graceMs = 0): void {
    this.#finish(nonNegative('graceMs', graceMs, 'milliseconds'));
  }

  giveBack(): void {
    this.#finish(undefined);
  }

  [Symbol.dispose](): void {
    this.#finish(0);
  }

  #finish(graceMs: number | undefined): void {
    const end = this.#end;
    this.#end = undefined;
    end?.(graceMs);
  }
}
