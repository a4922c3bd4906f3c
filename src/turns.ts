import type { Clock } from './clock.ts';
import { StoreError } from './errors.ts';
import type { Lane } from './lanes.ts';
import { PoolLines } from './pool-lines.ts';
import type { TargetQueue } from './queues.ts';
import { isLater, isReservation, isTargets } from './store/answers.ts';
import type { Awaitable, Grant, Reservation, Store, Verdict } from './store/store.ts';

/** Permits asked of the store in one call: enough to serve a burst, small enough to leave some for other processes. */
const MOST_PER_CALL = 256;

/** What the rest of the library hears of. */
export interface AdmissionListener {
  verdicts(verdicts: readonly Verdict[]): void;
  storeFailed(error: unknown): void;
}

/** What the store was asked for. */
interface Asked {
  readonly count: number;
  readonly cost: number;
  readonly deadlineMs: number;
}

/** When the store is asked, for whom, and who gets what it grants. */
export class Turns {
  private readonly store: Store;
  private readonly clock: Clock;
  private readonly listener: AdmissionListener;
  private readonly deadlineMs: number;
  /** Those who wait for something of their pool. */
  readonly pools: PoolLines = new PoolLines((lane) => this.drain(lane));
  private readonly mostPerCall: number;

  constructor(
    store: Store,
    clock: Clock,
    deadlineMs: number,
    listener: AdmissionListener,
    mostPerCall: number = MOST_PER_CALL,
  ) {
    this.store = store;
    this.clock = clock;
    this.deadlineMs = deadlineMs;
    this.listener = listener;
    this.mostPerCall = mostPerCall;
  }

  /** Asks for the lanes that something may have helped, in turn; when the target itself is at its limit, once for all of them. */
  askFor(queue: TargetQueue, helped: (lane: Lane) => boolean): void {
    if (queue.needy.size === 0) return;
    let refused: Lane | undefined;
    for (const lane of [...queue.needy]) {
      if (lane.waiters.size === 0 || !helped(lane)) continue;
      if (refused !== undefined && lane.targetBound && lane.isPlain && !lane.asking) {
        lane.dueAt = refused.dueAt;
        lane.wakeAt = refused.wakeAt;
        continue;
      }
      this.drain(lane);
      if (lane.targetBound && lane.isPlain && !lane.asking && lane.waiters.size > 0) refused = lane;
    }
  }

  /** Asks the store for as many permits as can be used, until it has no more; then sets the timer. */
  drain(lane: Lane): void {
    if (lane.asking) lane.again = true;
    else this.ask(lane);
  }

  private ask(lane: Lane): void {
    this.send(lane);
    if (!lane.asking) this.schedule(lane);
  }

  private send(lane: Lane): void {
    lane.asking = true;
    for (;;) {
      const demand = lane.next(this.mostPerCall);
      if (demand !== undefined || !lane.isWaiting) lane.again = lane.missed = false;
      if (demand === undefined) break;
      // As it is now: the lane's own demand changes.
      const asked = { count: demand.count, cost: demand.cost ?? 1, deadlineMs: demand.deadlineMs };
      let answer: Awaitable<Reservation>;
      try {
        answer = this.store.reserve(lane.queue.key, demand);
      } catch (error) {
        this.failed(lane, error);
        break;
      }
      if (isLater(answer)) this.later(lane, answer, asked);
      else if (!this.understood(lane, answer) || !this.deliver(lane, answer, asked)) break;
    }
    lane.asking = lane.isWaiting;
    if (lane.waiters.size > 0) lane.list();
  }

  /** The store's answer comes later. */
  private later(lane: Lane, answer: PromiseLike<Reservation>, asked: Asked): void {
    const { count } = asked;
    lane.sent(count);
    answer.then(
      (reservation) => {
        lane.answered();
        // While the store decides the next call, what this one brought is handed out.
        if (isReservation(reservation) && reservation.grants.length === count) this.send(lane);
        lane.done(count);
        if (this.understood(lane, reservation) && this.deliver(lane, reservation, asked)) this.ask(lane);
        else if (!lane.asking) this.schedule(lane);
        this.pools.fill(lane.pool);
      },
      (error) => {
        lane.answered();
        lane.done(count);
        this.failed(lane, error);
        if (!lane.asking) this.schedule(lane);
        this.pools.fill(lane.pool);
      },
    );
  }

  /** Gives back a permit that nobody used: its slot goes to the next in line. */
  giveBack(queue: TargetQueue, grant: Grant): void {
    const back = (): void => {
      this.askFor(queue, (lane) => lane.sharesWith(grant));
      this.pools.grew(grant.route.pool, queue.key);
    };
    const failed = (error: unknown): void => this.listener.storeFailed(error);
    let answer: Awaitable<void>;
    try {
      answer = this.store.cancel(queue.key, [grant]);
    } catch (error) {
      failed(error);
      return;
    }
    if (isLater(answer)) answer.then(back, failed);
    else back();
  }

  /** An empty lane holds nothing: not its timer, not its place with the pool. */
  forget(lane: Lane): void {
    const { queue } = lane;
    lane.demand.deadlineMs = this.deadlineMs;
    lane.listed = false;
    queue.needy.delete(lane);
    this.pools.forget(lane);
    queue.forget(lane);
    lane.circuitBound = false;
    if (queue.needy.size === 0) queue.clearTimer(this.clock);
  }

  /** Hands the permits out. Returns whether to ask for more. */
  private deliver(lane: Lane, reservation: Reservation, asked: Asked): boolean {
    const { pool, queue } = lane;
    const { grants } = reservation;
    // Who is granted one may be over at once: what is still to be handed out is not room for others.
    pool.asked += grants.length;
    for (const grant of grants) {
      if (grant.startInMs > 0) this.clock.setTimeout(() => this.hand(lane, grant, asked), Math.ceil(grant.startInMs));
      else this.hand(lane, grant, asked);
    }
    // To the end of the line; where nobody waits it keeps its place until it is forgotten, for somebody may come before that.
    if (grants.length > 0 && lane.waiters.size > 0 && queue.needy.delete(lane)) queue.needy.add(lane);
    const { failure } = pool;
    pool.failure = undefined;
    // Whatever a session could not be made for, nobody waits for it.
    if (grants.length === asked.count) return true;
    lane.list();
    if (failure !== undefined) lane.refuseAll(failure);
    const grows = lane.pin === undefined && !isTargets(reservation.limiting) && pool.hasOthers;
    lane.heldBack = grows && lane.isHeldBack;
    this.pools.grows(lane, grows);
    lane.heldUp(reservation, grows ? Math.max(1, pool.offerInMs(lane.heldBack)) : Infinity);
    const { unjudged } = lane;
    lane.unjudged = [];
    for (const waiter of unjudged) if (waiter.lane === lane) lane.refuseIfLate(waiter);
    return lane.again || (lane.missed && lane.isOpen(0));
  }

  private hand(lane: Lane, grant: Grant, { cost, deadlineMs }: Asked): void {
    const waiter = lane.nextFor(cost);
    lane.pool.asked--;
    // While a remote store was asked one may have come that will hold its permit for longer than these last, or the gateway may have failed.
    const lasting = (waiter?.deadlineMs ?? 0) <= Math.max(deadlineMs, this.deadlineMs);
    if (waiter === undefined || !lasting || lane.pool.circuit.isOpen) {
      this.giveBack(lane.queue, grant);
      this.pools.fill(lane.pool);
      return;
    }
    lane.remove(waiter);
    lane.pool.inUse++;
    lane.queue.active++;
    waiter.granted(grant);
  }

  /** After a drain: who still waits is woken by the pool, by a settle, or by the timer. */
  private schedule(lane: Lane): void {
    const { queue, pool } = lane;
    lane.unjudged.length = 0;
    if (lane.waiters.size === 0) {
      if (lane.listed) this.forget(lane);
      else queue.forget(lane);
      return;
    }
    if (pool.room <= 0) {
      // When a place comes free nobody knows, and what was known of the slots may be out of date by then. When the gateway is tried again is known.
      const circuitWaitMs = pool.circuit.waitMs;
      lane.dueAt = lane.wakeAt = circuitWaitMs > 0 ? this.clock.now() + circuitWaitMs : Infinity;
      lane.circuitBound = circuitWaitMs > 0;
      lane.probing = false;
      lane.pollMs = undefined;
      lane.targetBound = lane.settleBound = false;
      this.pools.waitForRoom(lane);
      this.wakeAt(queue, lane.wakeAt);
      return;
    }
    // What is in flight is settled, or lost and given up for, by its deadline: nobody waits for ever.
    const lookAgainMs = lane.pollMs ?? this.deadlineMs;
    lane.wakeAt = lane.settleBound ? Math.min(lane.dueAt, this.clock.now() + lookAgainMs) : lane.dueAt;
    this.wakeAt(queue, lane.wakeAt);
  }

  private wakeAt(queue: TargetQueue, dueAt: number): void {
    if (dueAt < queue.timerDueAt) queue.setTimer(this.clock, dueAt, () => this.onTimer(queue));
  }

  private onTimer(queue: TargetQueue): void {
    const now = this.clock.now();
    this.askFor(queue, (lane) => lane.wakeAt <= now);
    this.wakeAt(queue, queue.nextWakeAt);
  }

  /** Whether the store gave an answer; else that is for those who wait, and nobody is left waiting for ever. */
  private understood(lane: Lane, answer: unknown): boolean {
    if (isReservation(answer)) return true;
    this.failed(lane, new StoreError('the store answered reserve with something else than grants and retryInMs'));
    return false;
  }

  private failed(lane: Lane, error: unknown): void {
    this.listener.storeFailed(error);
    lane.refuseRest(StoreError.from(error));
    // Who was refused may have come again, or sent others: for them the store is asked anew, but not at once and for ever.
    if (lane.again) lane.dueAt = this.clock.now();
  }
}
