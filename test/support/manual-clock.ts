import type { Clock } from '../../src/clock.ts';

/** A clock that stands still until it is told to move. */
export interface ManualClock extends Clock {
  /** Moves time on by `ms`, firing what falls due, in order, each at its own time. */
  advance(ms: number): void;
  /** Sets the time without firing anything; back, too. */
  jump(toMs: number): void;
  /** Fires the next timer now, however early: what a coarse timer may do. */
  fireEarly(): void;
  /** How many timers are set. */
  readonly timers: number;
}

/** A {@link ManualClock} at `startMs`; the wall clock runs along with it, from `wallStartMs`. */
export function manualClock(startMs = 0, wallStartMs = 1_700_000_000_000): ManualClock {
  let nowMs = startMs;
  let serial = 0;
  const timers = new Map<number, { dueMs: number; callback: () => void }>();

  function next(): [number, { dueMs: number; callback: () => void }] | undefined {
    return [...timers].sort(([i, a], [j, b]) => a.dueMs - b.dueMs || i - j)[0];
  }

  return {
    now: () => nowMs,
    wallNow: () => wallStartMs + nowMs - startMs,
    setTimeout(callback, delayMs) {
      timers.set(++serial, { dueMs: nowMs + delayMs, callback });
      return serial;
    },
    clearTimeout: (handle) => void timers.delete(handle as number),
    advance(ms) {
      const endMs = nowMs + ms;
      for (let timer = next(); timer && timer[1].dueMs <= endMs; timer = next()) {
        nowMs = Math.max(nowMs, timer[1].dueMs);
        timers.delete(timer[0]);
        timer[1].callback();
      }
      nowMs = endMs;
    },
    jump(toMs) {
      nowMs = toMs;
    },
    fireEarly() {
      const timer = next();
      if (timer === undefined) throw new Error('no timer is set');
      timers.delete(timer[0]);
      timer[1].callback();
    },
    get timers() {
      return timers.size;
    },
  };
}
