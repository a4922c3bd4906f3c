import type { TimerHandle } from './clock.ts';
import type { Pool } from './gateway/pool.ts';
import type { Lane } from './lanes.ts';
import type { Grant } from './store/store.ts';
import type { ListedWaiter } from './waiters.ts';

/** A request that wants a permit. */
export interface Waiter extends ListedWaiter {
  lane: Lane | undefined;
  /** Slots it takes, an integer ≥ 1. */
  readonly cost: number;
  /** Which of the target's rates count for it; undefined for all. */
  readonly applies: readonly boolean[] | undefined;
  /** Any pool of the target's will do. */
  readonly free: boolean;
  queuedAt: number;
  /** When it gives up, on the clock; `Infinity` = never. */
  giveUpAt: number;
  /** The longest wait it was asked for with, in milliseconds. */
  readonly maxWaitMs: number;
  giveUpTimer: TimerHandle | undefined;
  /** How long its permit must last in the store, in milliseconds, where that is longer than any request's. */
  readonly deadlineMs?: number;
  /** Called at most once a wait, synchronously: the request may leave now. */
  granted(grant: Grant): void;
  /** Its pool has been left for another, which it is to wait for instead. Not called for those that asked for their pool. */
  moved?(pool: Pool): void;
  refused(error: Error): void;
}
