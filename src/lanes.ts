import type { Clock } from './clock.ts';
import { BudgetExceededError, CircuitOpenError } from './errors.ts';
import type { Pool, PoolRoute } from './gateway/pool.ts';
import type { TargetQueue } from './queues.ts';
import { isTargets } from './store/answers.ts';
import type { Demand, Grant, Reservation } from './store/store.ts';
import type { Waiter } from './waiter.ts';
import { WaiterList } from './waiters.ts';

/** A known way out that frees up this soon is waited for, rather than minting another session. */
const PATIENCE_MS = 50;

/** So many calls of the store at once, for one lane: while it decides one, what the other brought is handed out. */
const MOST_CALLS = 2;

/** Those who wait for the same thing: any route of a pool, or one certain route, at one target, under the same of its rates. */
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
  /** Other processes may bring what it waits for, without a word: look again in so many milliseconds. */
  pollMs: number | undefined;
  /** What it waits for may come with any settle: a place among the concurrent ones, or a slot that is in flight. */
  settleBound = false;
  /** The target as a whole is at its limit: what is refused to one lane is refused to all. */
  targetBound = false;
  /** What is waited for is the end of an outage, of the target or of the gateway. */
  circuitBound = false;
  /** A probe decides how long that is: nobody is refused for it beforehand. */
  probing = false;
  /** Waiters that take more slots than one. */
  private costly = 0;
  /** The pool did not grow for it, since sessions on trial were going to serve those who waited then. */
  heldBack = false;
  asking = false;
  again = false;
  /** It is among its queue's needy, and there may be more to forget when nobody waits here any more. */
  listed = false;
  /** Calls of the store that are not answered yet, and the permits they ask for. */
  private calls = 0;
  private asked = 0;
  /** Something was settled while the store was being asked: its answer may not know of it. */
  missed = false;
  /** Who came while the store was being asked: whether their wait is too long is known when it has answered. */
  unjudged: Waiter[] = [];
  private readonly clock: Clock;

  constructor(
    queue: TargetQueue,
    pool: Pool,
    pin: PoolRoute | undefined,
    applies: readonly boolean[] | undefined,
    deadlineMs: number,
    clock: Clock,
  ) {
    this.clock = clock;
    this.queue = queue;
    this.pool = pool;
    this.pin = pin;
    this.demand = {
      count: 1,
      cost: 1,
      policy: queue.policy,
      applies,
      pool: pool.name,
      ways: pool,
      poolConcurrency: pool.options.concurrency,
      pin,
      offer: pin === undefined ? (after) => this.offer(after) : undefined,
      // Where nothing has to be made, there is nothing to be patient for.
      patienceMs: pool.mints ? PATIENCE_MS : 0,
      horizonMs: 0,
      deadlineMs,
    };
  }

  /** It may take a function of the caller's, who may do anything meanwhile. */
  private offer(after: number): PoolRoute | undefined {
    this.list();
    return this.pool.offer(after, this.waiters.size, this.queue.policy.limit);
  }

  /** Whether the pool would hold back if it were asked now. */
  get isHeldBack(): boolean {
    return this.pool.holdsBack(this.waiters.size, this.queue.policy.limit);
  }

  /** At the end of its priority, or with `front` at the beginning. */
  add(waiter: Waiter, front: boolean): void {
    const { demand } = this;
    waiter.lane = this;
    if (waiter.cost > 1) this.costly++;
    // Permits are fungible: as long as somebody waits for one that is held for long, all of them last.
    if (waiter.deadlineMs !== undefined && waiter.deadlineMs > demand.deadlineMs) {
      demand.deadlineMs = waiter.deadlineMs;
      this.list();
    }
    if (front) this.waiters.unshift(waiter);
    else this.waiters.push(waiter);
    // The store may take its time: who comes meanwhile waits.
    if (this.asking) this.list();
  }

  /**
   * From now on others know that somebody waits here. Most requests find nobody before them and a free slot: those need not be known,
   * and there is nothing to undo after them.
   */
  list(): void {
    if (this.listed) return;
    this.listed = true;
    this.queue.needy.add(this);
  }

  remove(waiter: Waiter): void {
    this.waiters.remove(waiter);
    waiter.lane = undefined;
    if (waiter.cost > 1) this.costly--;
    if (waiter.giveUpTimer === undefined) return;
    this.clock.clearTimeout(waiter.giveUpTimer);
    waiter.giveUpTimer = undefined;
  }

  /** Wants what all others want: one slot, under all of the target's rates. */
  get isPlain(): boolean {
    return this.demand.cost === 1 && this.demand.applies === undefined;
  }

  /** Calls of the store are on their way. */
  get isWaiting(): boolean {
    return this.calls > 0;
  }

  sent(count: number): void {
    this.calls++;
    this.asked += count;
    // Other targets must not be promised the same places meanwhile.
    this.pool.asked += count;
  }

  answered(): void {
    this.calls--;
  }

  /** What an answered call was for is not waited for any more. */
  done(count: number): void {
    this.asked -= count;
    this.pool.asked -= count;
    this.asking = this.isWaiting;
  }

  /**
   * What the store is to be asked for: those at the head who want the same, in turn, so that one who needs many slots is not
   * passed by for ever. While it decides a full call, another full one may be on its way.
   */
  next(most: number): Demand | undefined {
    const { waiters, demand, asked } = this;
    const count = Math.min(waiters.size - asked, this.pool.room, most);
    if (count <= 0) return undefined;
    if (asked > 0) {
      const another = this.calls < MOST_CALLS && count === most && this.costly === 0 && demand.cost === 1;
      return another ? { ...demand, count } : undefined;
    }
    demand.count = count;
    demand.cost = 1;
    if (this.costly === 0) return demand;
    const cost = waiters.head!.cost;
    let same = 0;
    for (let next: Waiter | undefined = waiters.head; next?.cost === cost && same < count; same++) {
      next = waiters.next(next);
    }
    demand.cost = cost;
    demand.count = same;
    return demand;
  }

  /** Who is next in turn for a permit of so many slots: while the store was asked, others may have come to the head, or left it. */
  nextFor(cost: number): Waiter | undefined {
    const { waiters } = this;
    let next = waiters.head;
    while (next !== undefined && next.cost !== cost) next = waiters.next(next);
    return next;
  }

  /** The store had no more: what it says is in the way. Another way out may be there in `offerInMs`, whatever that is. */
  heldUp({ retryInMs, limiting, probing, pollMs }: Reservation, offerInMs: number): void {
    this.circuitBound = limiting === 'breaker';
    this.probing = probing === true;
    this.pollMs = pollMs;
    this.targetBound = isTargets(limiting);
    this.dueAt = this.clock.now() + Math.min(retryInMs, offerInMs);
    this.settleBound = limiting === 'concurrency' || limiting === 'breaker' || retryInMs === Infinity;
  }

  /** Refuses all who wait, but for those at the head that a call which is not over may bring something. */
  refuseRest(error: Error): void {
    const rest: Waiter[] = [];
    let place = 0;
    for (let waiter = this.waiters.head; waiter !== undefined; waiter = this.waiters.next(waiter)) {
      if (place++ >= this.asked) rest.push(waiter);
    }
    for (const waiter of rest) {
      if (waiter.lane !== this) continue;
      this.remove(waiter);
      waiter.refused(error);
    }
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
    if (dueAt === Infinity || this.probing || dueAt <= waiter.giveUpAt || (this.pin === undefined && pool.trying))
      return false;
    const { maxWaitMs } = waiter;
    const waitMs = dueAt - this.clock.now();
    this.remove(waiter);
    waiter.refused(
      this.circuitBound
        ? new CircuitOpenError(queue.key, waitMs)
        : new BudgetExceededError({ target: queue.key, waitMs, maxWaitMs }),
    );
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
