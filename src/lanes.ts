import type { Clock, TimerHandle } from './clock.ts';
import { BudgetExceededError } from './errors.ts';
import type { Pool, PoolRoute } from './gateway/pool.ts';
import type { Demand, Grant, Policy } from './store/store.ts';
import { type ListedWaiter, WaiterList } from './waiters.ts';

/** A known way out that frees up this soon is waited for, rather than minting another session. */
const PATIENCE_MS = 50;

/** A request that wants a permit. */
export interface Waiter extends ListedWaiter {
  lane: Lane | undefined;
  queuedAt: number;
  /** When it gives up, on the clock; `Infinity` = never. */
  giveUpAt: number;
  /** The longest wait it was asked for with, in milliseconds. */
  readonly maxWaitMs: number;
  giveUpTimer: TimerHandle | undefined;
  /** Called at most once a wait, synchronously: the request may leave now. */
  granted(grant: Grant): void;
  refused(error: Error): void;
}

/** Those who wait for the same thing: any route of a pool, or one certain route, at one target. */
export class Lane {
  readonly queue: TargetQueue;
  readonly pool: Pool;
  readonly pin: PoolRoute | undefined;
  readonly waiters: WaiterList<Waiter> = new WaiterList();
  readonly demand: { -readonly [K in keyof Demand]: Demand[K] };
  /** When asking the store again can help; `Infinity` = only after something was settled. */
  dueAt: number = Infinity;
  /** When the timer asks again: `dueAt`, or when whatever is in flight must have been settled or lost. */
  wakeAt: number = Infinity;
  /** What it waits for may come with any settle: a place among the concurrent ones, or a slot that is in flight. */
  settleBound = false;
  /** The target as a whole is at its limit: what is refused to one lane is refused to all. */
  targetBound = false;
  /** The pool did not grow for it, since sessions on trial were going to serve those who waited then. */
  heldBack = false;
  asking = false;
  again = false;
  /** Something was settled while the store was being asked: its answer may not know of it. */
  missed = false;
  /** Who came while the store was being asked: whether their wait is too long is known when it has answered. */
  unjudged: Waiter[] = [];
  private readonly clock: Clock;

  constructor(queue: TargetQueue, pool: Pool, pin: PoolRoute | undefined, deadlineMs: number, clock: Clock) {
    this.clock = clock;
    this.queue = queue;
    this.pool = pool;
    this.pin = pin;
    this.demand = {
      count: 1,
      policy: queue.policy,
      pool: pool.name,
      pin,
      offer: pin === undefined ? (after) => pool.offer(after, this.waiters.size, queue.policy.limit) : undefined,
      patienceMs: PATIENCE_MS,
      horizonMs: 0,
      deadlineMs,
    };
  }

  /** Whether the pool would hold back if it were asked now. */
  get isHeldBack(): boolean {
    return this.pool.holdsBack(this.waiters.size, this.queue.policy.limit);
  }

  /** At the end of its priority, or with `front` at the beginning. */
  add(waiter: Waiter, front: boolean): void {
    waiter.lane = this;
    if (front) this.waiters.unshift(waiter);
    else this.waiters.push(waiter);
    this.queue.needy.add(this);
  }

  remove(waiter: Waiter): void {
    this.waiters.remove(waiter);
    waiter.lane = undefined;
    if (waiter.giveUpTimer === undefined) return;
    this.clock.clearTimeout(waiter.giveUpTimer);
    waiter.giveUpTimer = undefined;
  }

  refuseAll(error: Error): void {
    for (let waiter = this.waiters.head; waiter !== undefined; waiter = this.waiters.head) {
      this.remove(waiter);
      waiter.refused(error);
    }
  }

  /** Refuses a waiter at once when nothing comes in time for it, as far as is known; a session on trial may serve it any moment. */
  refuseIfLate(waiter: Waiter): boolean {
    const { dueAt, pool, queue } = this;
    if (dueAt === Infinity || dueAt <= waiter.giveUpAt || (this.pin === undefined && pool.trying)) return false;
    const { maxWaitMs } = waiter;
    this.remove(waiter);
    waiter.refused(new BudgetExceededError({ target: queue.key, waitMs: dueAt - this.clock.now(), maxWaitMs }));
    return true;
  }

  /** Whether a settle may help: for a place or a slot in flight it waits for, or since it waits for the end of a long cooldown. */
  isOpen(graceMs: number): boolean {
    const { settleBound, pin, dueAt, queue } = this;
    if (settleBound || pin !== undefined || dueAt === Infinity) return settleBound;
    return dueAt > this.clock.now() + graceMs + queue.policy.windowMs;
  }

  /** Whether a permit that ended, or was given back, may have left something for this lane. */
  sharesWith({ route, egress }: Grant): boolean {
    const { pin } = this;
    return pin === undefined || this.targetBound || pin === route || pin.egress === egress;
  }
}

/** One target's lanes, and the one timer that wakes the first of them that is due. */
export class TargetQueue {
  readonly key: string;
  readonly policy: Policy;
  /** By the route they are pinned to, else by their pool. */
  readonly lanes: Map<Pool | PoolRoute, Lane> = new Map();
  /** Those in which somebody waits, by turn. */
  readonly needy: Set<Lane> = new Set();
  timer: TimerHandle | undefined;
  timerDueAt: number = Infinity;
  /** Requests granted and not over. */
  active = 0;
  /** Slowest answer seen lately, in milliseconds: how long an aborted request may still be on its way. */
  slowestMs = 1000;

  constructor(key: string, policy: Policy) {
    this.key = key;
    this.policy = policy;
  }
}

/** Lanes that wait for something of their pool, in turn. */
export class PoolLine {
  private readonly lines = new Map<string, Set<Lane>>();

  add(lane: Lane): void {
    const line = this.lines.get(lane.pool.name);
    if (line === undefined) this.lines.set(lane.pool.name, new Set([lane]));
    else line.add(lane);
  }

  delete(lane: Lane): void {
    const line = this.lines.get(lane.pool.name);
    if (line?.delete(lane) && line.size === 0) this.lines.delete(lane.pool.name);
  }

  has(pool: string): boolean {
    return this.lines.has(pool);
  }

  /** Those who stand in line at the moment: not who joins, or joins again, meanwhile. */
  of(pool: string): Lane[] {
    const line = this.lines.get(pool);
    return line === undefined ? [] : [...line];
  }
}
