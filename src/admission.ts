import type { Clock, TimerHandle } from './clock.ts';
import { BudgetExceededError, ClosedError, QueueTimeoutError } from './errors.ts';
import type { Pool, PoolRoute } from './gateway/pool.ts';
import type { Awaitable, Binding, Demand, Grant, Policy, Report, Reservation, Store, Verdict } from './store/store.ts';
import { type ListedWaiter, WaiterList } from './waiters.ts';

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

/** Permits asked of the store in one call: enough to serve a burst, small enough to leave some for other processes. */
const MOST_PER_CALL = 256;

/** A known way out that frees up this soon is waited for, rather than minting another session. */
const PATIENCE_MS = 50;

/** Queues remembered while nobody waits in them. */
const MOST_IDLE_QUEUES = 10_000;

/** What the rest of the library hears of. */
export interface AdmissionListener {
  verdicts(verdicts: readonly Verdict[]): void;
  storeFailed(error: unknown): void;
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
  concurrencyBound = false;
  asking = false;
  again = false;

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
}

/** One target's lanes, and the one timer that wakes the first of them that is due. */
export class TargetQueue {
  readonly key: string;
  readonly policy: Policy;
  readonly lanes: Map<string, Lane> = new Map();
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

/**
 * Who waits for what. Slots are fungible: a request that gives up hands its turn to the next one.
 * Waiting costs one timer a target, set to a known instant; nothing polls.
 */
export class Admission {
  private readonly store: Store;
  private readonly clock: Clock;
  private readonly listener: AdmissionListener;
  private readonly deadlineMs: number;
  private readonly queues = new Map<string, TargetQueue>();
  /** Lanes that wait for room in a pool, in turn. */
  private readonly poolBound = new Map<Pool, Set<Lane>>();
  private closed = false;
  waiting = 0;

  constructor(store: Store, clock: Clock, deadlineMs: number, listener: AdmissionListener) {
    this.store = store;
    this.clock = clock;
    this.deadlineMs = deadlineMs;
    this.listener = listener;
  }

  queue(key: string, policy: () => Policy): TargetQueue {
    let queue = this.queues.get(key);
    if (queue === undefined) {
      queue = new TargetQueue(key, policy());
      if (this.queues.size >= MOST_IDLE_QUEUES) this.forgetIdle();
      this.queues.set(key, queue);
    }
    return queue;
  }

  /** Queues a request; with `front`, before all others of its priority. */
  take(waiter: Waiter, queue: TargetQueue, pool: Pool, pin: PoolRoute | undefined, front: boolean): void {
    if (this.closed) {
      waiter.refused(new ClosedError());
      return;
    }
    const lane = this.lane(queue, pool, pin);
    waiter.lane = lane;
    this.waiting++;
    if (front) lane.waiters.unshift(waiter);
    else lane.waiters.push(waiter);
    // Behind others, or before an instant already known, there is nothing new to ask.
    if (lane.waiters.head === waiter && !(lane.dueAt > this.clock.now() && lane.waiters.size > 1)) this.drain(lane);
    if (waiter.level !== undefined && waiter.giveUpAt !== Infinity) this.limitWait(waiter, lane);
  }

  /** The request no longer wants a permit. */
  leave(waiter: Waiter): void {
    if (waiter.level === undefined) return;
    const { lane } = waiter;
    this.unlist(waiter);
    if (lane !== undefined && lane.waiters.size === 0) this.forget(lane);
  }

  bind(grant: Grant, egress: string): Awaitable<Binding> {
    return this.store.bind(grant.target, grant, egress);
  }

  /** Tells the store how a permit went on; wakes whom that helps. */
  settle(queue: TargetQueue, report: Report): void {
    const verdicts = this.store.settle(queue.key, [report]);
    const done = (changed: readonly Verdict[]): void => {
      if (changed.length > 0) this.listener.verdicts(changed);
      for (const lane of queue.lanes.values()) {
        if (lane.waiters.size > 0 && (lane.dueAt === Infinity || lane.concurrencyBound)) this.drain(lane);
      }
    };
    whenDone(verdicts, done, (error) => this.listener.storeFailed(error));
  }

  /** The target never saw the request: its slot goes to the next in line. */
  cancel(queue: TargetQueue, grant: Grant): void {
    whenDone(
      this.store.cancel(queue.key, [grant]),
      () => this.wake(queue),
      (error) => this.listener.storeFailed(error),
    );
  }

  /** A request that was granted a permit is over: its place in the pool is free. */
  finished(queue: TargetQueue, pool: Pool): void {
    queue.active--;
    pool.inUse--;
    const bound = this.poolBound.get(pool);
    if (bound === undefined || pool.room <= 0) return;
    for (const lane of bound) {
      bound.delete(lane);
      if (lane.waiters.size > 0) {
        this.drain(lane);
        if (pool.room <= 0) return;
      }
    }
  }

  /** Something became free at this target. */
  wake(queue: TargetQueue): void {
    for (const lane of queue.lanes.values()) if (lane.waiters.size > 0) this.drain(lane);
  }

  /** No more takers; those who wait go on waiting, or fail with `error`. */
  close(error?: Error): void {
    this.closed = true;
    if (error === undefined) return;
    for (const queue of this.queues.values()) {
      this.clock.clearTimeout(queue.timer);
      for (const lane of [...queue.lanes.values()]) {
        for (let waiter = lane.waiters.head; waiter !== undefined; waiter = lane.waiters.head) {
          this.unlist(waiter);
          waiter.refused(error);
        }
      }
      queue.lanes.clear();
    }
  }

  private lane(queue: TargetQueue, pool: Pool, pin: PoolRoute | undefined): Lane {
    const key = pin === undefined ? pool.name : `${pin.id} `;
    let lane = queue.lanes.get(key);
    if (lane === undefined || lane.pin !== pin) {
      lane = new Lane(queue, pool, pin, this.deadlineMs);
      queue.lanes.set(key, lane);
    }
    return lane;
  }

  /** Asks the store for as many permits as can be used, until it has no more; then sets the timer. */
  private drain(lane: Lane): void {
    if (lane.asking) {
      lane.again = true;
      return;
    }
    lane.asking = true;
    for (;;) {
      lane.again = false;
      const count = Math.min(lane.waiters.size, lane.pool.room, MOST_PER_CALL);
      if (count <= 0) break;
      lane.demand.count = count;
      let answer: Awaitable<Reservation>;
      try {
        answer = this.store.reserve(lane.queue.key, lane.demand);
      } catch (error) {
        this.storeFailed(lane, error);
        break;
      }
      if ('then' in answer) {
        answer.then(
          (reservation) => {
            lane.asking = false;
            if (this.deliver(lane, reservation, count) || lane.again) this.drain(lane);
            else this.schedule(lane);
          },
          (error) => {
            lane.asking = false;
            this.storeFailed(lane, error);
          },
        );
        return;
      }
      if (!this.deliver(lane, answer, count) && !lane.again) break;
    }
    lane.asking = false;
    this.schedule(lane);
  }

  /** Hands the permits out. Returns whether to ask for more. */
  private deliver(lane: Lane, { grants, retryInMs, limiting }: Reservation, count: number): boolean {
    for (const grant of grants) {
      if (grant.startInMs > 0) this.clock.setTimeout(() => this.hand(lane, grant), Math.ceil(grant.startInMs));
      else this.hand(lane, grant);
    }
    if (grants.length === count) return true;
    const { failure } = lane.pool;
    if (failure !== undefined) {
      lane.pool.failure = undefined;
      this.refuseAll(lane, failure);
    }
    const grows = lane.pin === undefined && limiting !== 'rate' && limiting !== 'concurrency';
    const waitMs = grows ? Math.min(retryInMs, Math.max(1, lane.pool.offerInMs())) : retryInMs;
    lane.dueAt = this.clock.now() + waitMs;
    lane.concurrencyBound = limiting === 'concurrency';
    return false;
  }

  private hand(lane: Lane, grant: Grant): void {
    const waiter = lane.waiters.head;
    if (waiter === undefined) {
      this.cancel(lane.queue, grant);
      return;
    }
    this.unlist(waiter);
    lane.pool.inUse++;
    lane.queue.active++;
    waiter.granted(grant);
  }

  /** After a drain: who still waits is woken by the pool, by a settle, or by the timer. */
  private schedule(lane: Lane): void {
    const { queue, pool } = lane;
    if (lane.waiters.size === 0) {
      this.forget(lane);
      return;
    }
    if (pool.room <= 0) {
      let bound = this.poolBound.get(pool);
      if (bound === undefined) {
        bound = new Set();
        this.poolBound.set(pool, bound);
      }
      bound.add(lane);
      return;
    }
    if (lane.dueAt < queue.timerDueAt) this.setTimer(queue, lane.dueAt);
  }

  private setTimer(queue: TargetQueue, dueAt: number): void {
    this.clock.clearTimeout(queue.timer);
    queue.timerDueAt = dueAt;
    // Whole milliseconds, rounded up: a timer that is cut short would find nothing to do.
    queue.timer = this.clock.setTimeout(() => this.onTimer(queue), Math.max(0, Math.ceil(dueAt - this.clock.now())));
  }

  private onTimer(queue: TargetQueue): void {
    queue.timer = undefined;
    queue.timerDueAt = Infinity;
    const now = this.clock.now();
    let next = Infinity;
    for (const lane of queue.lanes.values()) {
      if (lane.waiters.size === 0) continue;
      if (lane.dueAt <= now) this.drain(lane);
      if (lane.waiters.size > 0 && lane.dueAt > now && lane.dueAt < next) next = lane.dueAt;
    }
    if (next < queue.timerDueAt) this.setTimer(queue, next);
  }

  /** Bounds a wait: at once when the next slot is known to be too late, else by a timer. */
  private limitWait(waiter: Waiter, lane: Lane): void {
    const now = this.clock.now();
    const maxWaitMs = waiter.giveUpAt - waiter.queuedAt;
    if (lane.dueAt !== Infinity && lane.dueAt > waiter.giveUpAt) {
      const error = new BudgetExceededError({ target: lane.queue.key, waitMs: lane.dueAt - now, maxWaitMs });
      this.leave(waiter);
      waiter.refused(error);
      return;
    }
    waiter.giveUpTimer = this.clock.setTimeout(
      () => {
        this.leave(waiter);
        waiter.refused(new QueueTimeoutError({ target: lane.queue.key, waitedMs: this.clock.now() - waiter.queuedAt }));
      },
      Math.max(0, Math.ceil(waiter.giveUpAt - now)),
    );
  }

  private unlist(waiter: Waiter): void {
    waiter.lane?.waiters.remove(waiter);
    waiter.lane = undefined;
    this.waiting--;
    if (waiter.giveUpTimer !== undefined) {
      this.clock.clearTimeout(waiter.giveUpTimer);
      waiter.giveUpTimer = undefined;
    }
  }

  /** An empty lane holds nothing: not its timer, not its place with the pool. */
  private forget(lane: Lane): void {
    const { queue } = lane;
    this.poolBound.get(lane.pool)?.delete(lane);
    if (lane.pin !== undefined) queue.lanes.delete(`${lane.pin.id} `);
    if (queue.timer === undefined) return;
    for (const other of queue.lanes.values()) if (other.waiters.size > 0) return;
    this.clock.clearTimeout(queue.timer);
    queue.timer = undefined;
    queue.timerDueAt = Infinity;
  }

  private storeFailed(lane: Lane, error: unknown): void {
    this.listener.storeFailed(error);
    this.refuseAll(lane, error as Error);
  }

  private refuseAll(lane: Lane, error: Error): void {
    for (let waiter = lane.waiters.head; waiter !== undefined; waiter = lane.waiters.head) {
      this.unlist(waiter);
      waiter.refused(error);
    }
  }

  private forgetIdle(): void {
    for (const [key, queue] of this.queues) {
      let busy = queue.active > 0;
      for (const lane of queue.lanes.values()) if (lane.waiters.size > 0) busy = true;
      if (!busy) this.queues.delete(key);
      if (this.queues.size < MOST_IDLE_QUEUES / 2) return;
    }
  }
}

/** Goes on at once when the answer is there, else when it comes. */
function whenDone<T>(answer: Awaitable<T>, done: (value: T) => void, failed: (error: unknown) => void): void {
  if (typeof answer === 'object' && answer !== null && 'then' in answer) answer.then(done, failed);
  else done(answer as T);
}
