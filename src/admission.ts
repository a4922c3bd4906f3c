import type { Clock } from './clock.ts';
import { ClosedError, QueueTimeoutError, StoreError } from './errors.ts';
import type { Pool, PoolRoute } from './gateway/pool.ts';
import type { Ladder } from './ladder.ts';
import { Lane } from './lanes.ts';
import { TargetQueue } from './queues.ts';
import { areVerdicts, isLater } from './store/answers.ts';
import type { Awaitable, Binding, Grant, Policy, Report, Store, Verdict } from './store/store.ts';
import { type AdmissionListener, Turns } from './turns.ts';
import type { Waiter } from './waiter.ts';

export type { Lane } from './lanes.ts';
export type { TargetQueue } from './queues.ts';
export type { AdmissionListener } from './turns.ts';
export type { Waiter } from './waiter.ts';

/** Queues remembered while nobody waits in them. */
const MOST_IDLE_QUEUES = 10_000;

/**
 * Who waits for what. Slots are fungible: a request that gives up hands its turn to the next one.
 * Waiting costs one timer a target, set to a known instant; nothing polls.
 */
export class Admission {
  private readonly store: Store;
  private readonly clock: Clock;
  private readonly listener: AdmissionListener;
  private readonly deadlineMs: number;
  private readonly turns: Turns;
  private readonly queues = new Map<string, TargetQueue>();
  private forgetAt = MOST_IDLE_QUEUES;
  private closed = false;

  /** `mostPerCall`: permits asked of the store at a time, where it is not for the queue to say. */
  constructor(store: Store, clock: Clock, deadlineMs: number, listener: AdmissionListener, mostPerCall?: number) {
    this.store = store;
    this.clock = clock;
    this.deadlineMs = deadlineMs;
    this.listener = listener;
    this.turns = new Turns(store, clock, deadlineMs, listener, mostPerCall);
  }

  /** Requests that wait for a permit. */
  get waiting(): number {
    let sum = 0;
    for (const { needy } of this.queues.values()) for (const { waiters } of needy) sum += waiters.size;
    return sum;
  }

  queue(key: string, make: () => { policy: Policy; pool: Pool; ladder?: Ladder | undefined }): TargetQueue {
    let queue = this.queues.get(key);
    if (queue === undefined) {
      const { policy, pool, ladder } = make();
      queue = new TargetQueue(key, policy, pool, ladder);
      if (this.queues.size >= this.forgetAt) this.forgetIdle();
      this.queues.set(key, queue);
    }
    return queue;
  }

  known(key: string): TargetQueue | undefined {
    return this.queues.get(key);
  }

  /** Queues a request; with `front`, before all others of its priority. */
  take(waiter: Waiter, queue: TargetQueue, pool: Pool, pin: PoolRoute | undefined, front: boolean): void {
    if (this.closed) {
      waiter.refused(new ClosedError());
      return;
    }
    const lane = this.lane(queue, pool, pin, waiter.applies);
    lane.add(waiter, front);
    // Behind others, or before an instant already known, there is nothing new to ask; unless the pool grows for so many.
    const { waiters } = lane;
    const first = waiters.head === waiter && (waiters.size === 1 || lane.dueAt <= this.clock.now());
    if (first || (lane.heldBack && !lane.isHeldBack)) this.turns.drain(lane);
    if (waiter.level !== undefined && waiter.giveUpAt !== Infinity) this.limitWait(waiter, lane);
  }

  /** The request no longer wants a permit. */
  leave(waiter: Waiter): void {
    const { lane } = waiter;
    if (lane === undefined) return;
    lane.remove(waiter);
    if (lane.waiters.size === 0) this.turns.forget(lane);
  }

  /** Moves a permit to the exit its tunnel really has, or takes it back. */
  bind(grant: Grant, egress: string): Awaitable<Binding> {
    let binding: Awaitable<Binding>;
    try {
      binding = this.store.bind(grant.target, grant, egress);
    } catch (error) {
      throw this.failed(error);
    }
    const { pool } = grant.route;
    if (isLater(binding)) {
      binding = binding.then(
        (bound) => bound,
        (error) => {
          throw this.failed(error);
        },
      );
    }
    if (!this.turns.pools.isShort(pool)) return binding;
    // Once the caller has heard of it, and perhaps retired the session: only then is it known what the pool has.
    const soon = (): void => queueMicrotask(() => this.turns.pools.grew(pool, grant.target));
    if (!isLater(binding)) {
      soon();
      return binding;
    }
    return binding.then((bound) => {
      queueMicrotask(soon);
      return bound;
    });
  }

  /** Tells the store how a permit went on; wakes whom that helps. */
  settle(queue: TargetQueue, report: Report): void {
    let verdicts: Awaitable<readonly Verdict[]>;
    try {
      verdicts = this.store.settle(queue.key, [report]);
    } catch (error) {
      this.listener.storeFailed(error);
      return;
    }
    if (isLater(verdicts)) {
      verdicts.then(
        (changed) => this.settled(queue, report, changed),
        (error) => this.listener.storeFailed(error),
      );
    } else this.settled(queue, report, verdicts);
  }

  private settled(queue: TargetQueue, { graceMs, grant }: Report, changed: readonly Verdict[]): void {
    if (!areVerdicts(changed)) {
      this.failed(new StoreError(`settle: expected an array of verdicts, got ${String(changed)}`));
      return;
    }
    if (changed.length > 0) this.listener.verdicts(changed);
    if (queue.needy.size === 0) return;
    this.turns.askFor(queue, (lane) => {
      if (!lane.asking) return lane.isOpen(graceMs) && lane.sharesWith(grant);
      lane.missed = true;
      return false;
    });
  }

  /** The target never saw the request: its slot goes to the next in line. */
  cancel(queue: TargetQueue, grant: Grant): void {
    this.turns.giveBack(queue, grant);
  }

  /** A request that was granted a permit is over: its place in the pool is free. */
  finished(queue: TargetQueue, pool: Pool): void {
    queue.active--;
    pool.inUse--;
    this.turns.pools.fill(pool);
  }

  /** Something became free at this target. */
  wake(queue: TargetQueue): void {
    this.turns.askFor(queue, () => true);
  }

  /** A target's requests are to take another pool: those that wait for the one before, too. */
  move(queue: TargetQueue, from: Pool, to: Pool): void {
    for (const lane of queue.lanes.get(from) ?? []) {
      const waiting: Waiter[] = [];
      for (let next = lane.waiters.head; next !== undefined; next = lane.waiters.next(next)) waiting.push(next);
      for (const waiter of waiting) {
        if (waiter.moved === undefined || !waiter.free) continue;
        lane.remove(waiter);
        waiter.moved(to);
      }
      if (lane.waiters.size === 0) this.turns.forget(lane);
    }
  }

  /** A pool's gateway is down: those who wait for it, and may take another, do. */
  leavePool(from: Pool): void {
    for (const queue of this.queues.values()) {
      const to = queue.ladder === undefined ? from : queue.ladder.inPlaceOf(from);
      if (to !== from) this.move(queue, from, to);
    }
  }

  /** No more takers; those who wait go on waiting, or fail with `error`. */
  close(error?: Error): void {
    this.closed = true;
    if (error === undefined) return;
    for (const queue of this.queues.values()) {
      for (const lane of [...queue.needy]) {
        lane.refuseAll(error);
        this.turns.forget(lane);
      }
    }
  }

  private failed(error: unknown): StoreError {
    this.listener.storeFailed(error);
    return StoreError.from(error);
  }

  private lane(
    queue: TargetQueue,
    pool: Pool,
    pin: PoolRoute | undefined,
    applies: readonly boolean[] | undefined,
  ): Lane {
    const lanes = queue.lanes.get(pin ?? pool);
    if (lanes !== undefined) for (const lane of lanes) if (lane.demand.applies === applies) return lane;
    const lane = new Lane(queue, pool, pin, applies, this.deadlineMs, this.clock);
    if (lanes === undefined) queue.lanes.set(pin ?? pool, [lane]);
    else lanes.push(lane);
    return lane;
  }

  /** Bounds a wait: at once when the next slot is known to be too late, else by a timer. */
  private limitWait(waiter: Waiter, lane: Lane): void {
    if (lane.asking) lane.unjudged.push(waiter);
    else if (lane.refuseIfLate(waiter)) {
      if (lane.waiters.size === 0) this.turns.forget(lane);
      return;
    }
    waiter.giveUpTimer = this.clock.setTimeout(
      () => {
        this.leave(waiter);
        waiter.refused(new QueueTimeoutError({ target: lane.queue.key, waitedMs: this.clock.now() - waiter.queuedAt }));
      },
      Math.max(0, Math.ceil(waiter.giveUpAt - this.clock.now())),
    );
  }

  /** Looks again when there are twice as many as are in use: else a program of many targets would look all the time. */
  private forgetIdle(): void {
    for (const [key, queue] of this.queues) if (queue.active === 0 && queue.needy.size === 0) this.queues.delete(key);
    this.forgetAt = Math.max(MOST_IDLE_QUEUES, 2 * this.queues.size);
  }
}
