import type { Clock, TimerHandle } from './clock.ts';
import type { Pool, PoolRoute } from './gateway/pool.ts';
import type { Ladder } from './ladder.ts';
import type { Lane } from './lanes.ts';
import type { Traffic } from './stats.ts';
import type { Policy } from './store/store.ts';

/** One target's lanes, and the one timer that wakes the first of them that is due. */
export class TargetQueue {
  readonly key: string;
  readonly policy: Policy;
  /** By the route they are pinned to, else by their pool; several where a target has rates for some of its paths. */
  readonly lanes: Map<Pool | PoolRoute, Lane[]> = new Map();
  /** Those in which somebody waits, by turn. */
  readonly needy: Set<Lane> = new Set();
  /** When its timer is due; `Infinity` for none. */
  timerDueAt: number = Infinity;
  private timer: TimerHandle | undefined;
  /** Requests granted and not over. */
  active = 0;
  /** The pool of its requests, where nothing else is said; and the ladder, where there are several to choose from. */
  readonly pool: Pool;
  readonly ladder: Ladder | undefined;
  /** Slowest answer seen lately, in milliseconds: how long an aborted request may still be on its way. */
  slowestMs = 1000;
  /** What its requests are counted by. */
  traffic: Traffic | undefined;

  constructor(key: string, policy: Policy, pool: Pool, ladder: Ladder | undefined) {
    this.key = key;
    this.policy = policy;
    this.pool = pool;
    this.ladder = ladder;
  }

  /** Calls `wake` then, and not before. */
  setTimer(clock: Clock, dueAt: number, wake: () => void): void {
    this.clearTimer(clock);
    this.timerDueAt = dueAt;
    // Whole milliseconds, rounded up: a timer that is cut short would find nothing to do.
    const ms = Math.max(0, Math.ceil(dueAt - clock.now()));
    this.timer = clock.setTimeout(() => {
      this.timer = undefined;
      this.timerDueAt = Infinity;
      wake();
    }, ms);
  }

  clearTimer(clock: Clock): void {
    if (this.timer === undefined) return;
    clock.clearTimeout(this.timer);
    this.timer = undefined;
    this.timerDueAt = Infinity;
  }

  /** When the first of its lanes that is not being served is to be. */
  get nextWakeAt(): number {
    let next = Infinity;
    for (const { asking, wakeAt } of this.needy) if (!asking && wakeAt < next) next = wakeAt;
    return next;
  }

  /** Of a route that may never be used again nothing is kept. */
  forget(lane: Lane): void {
    const { pin } = lane;
    if (pin === undefined) return;
    const others = this.lanes.get(pin)?.filter((other) => other !== lane) ?? [];
    if (others.length === 0) this.lanes.delete(pin);
    else this.lanes.set(pin, others);
  }
}
