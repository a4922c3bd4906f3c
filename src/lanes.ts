import type { TimerHandle } from './clock.ts';
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
  /** Who came while the store was being asked: whether their wait is too long is known when it has answered. */
  unjudged: Waiter[] = [];

  constructor(queue: TargetQueue, pool: Pool, pin: PoolRoute | undefined, deadlineMs: number) {
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
