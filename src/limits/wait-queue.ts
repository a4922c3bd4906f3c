import type { Clock, TimerHandle } from '../clock.ts';

/** What a {@link WaitQueue} hands out. Both functions are synchronous and told the time. */
export interface Source<G> {
  /** Milliseconds until `cost` can be granted: ≤ 0 now, `Infinity` when only a release can bring it. Takes nothing. */
  waitMs(cost: number, nowMs: number): number;
  /** Grants `cost`; only called right after `waitMs` answered ≤ 0 for it. */
  grant(cost: number, nowMs: number): G;
}

/** How one waiter waits. */
export interface WaitOptions {
  /** @default 1 */
  readonly cost?: number;
  /** Higher goes first; equals go first come, first served. @default 0 */
  readonly priority?: number;
  readonly signal?: AbortSignal;
}

/** Those who wait for a {@link Source}. */
export interface WaitQueue<G> {
  /** How many wait. */
  readonly size: number;
  /** The sum of their costs. */
  readonly cost: number;
  /** Resolves with the grant; rejects with `signal.reason` on abort, having taken nothing. */
  wait(options?: WaitOptions): Promise<G>;
  /** Serves everyone whose time has come. To be called whenever something was released. */
  drain(nowMs?: number): void;
}

interface Waiter<G> {
  readonly cost: number;
  readonly lane: Lane<G>;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (grant: G) => void;
  readonly reject: (reason: unknown) => void;
  previous: Waiter<G> | undefined;
  next: Waiter<G> | undefined;
}

interface Lane<G> {
  readonly priority: number;
  head: Waiter<G> | undefined;
  tail: Waiter<G> | undefined;
}

interface Abortable<G> {
  readonly waiters: Set<Waiter<G>>;
  readonly listener: () => void;
}

/**
 * The queue under every waiting verb. Strictly in order: a cheap waiter never overtakes a dear one of its priority.
 *
 * There is one timer, for the head, whatever the number of waiters; a timer that fires early finds the head not due
 * and is set again. Waiters are a linked list and those of one signal a set, so serving, aborting one and aborting
 * all of them cost O(1) a waiter. An empty queue holds no timer and no listener.
 */
export function waitQueue<G>(source: Source<G>, clock: Clock): WaitQueue<G> {
  const lanes: Lane<G>[] = []; // by falling priority, none empty: lanes[0].head is the head
  const abortables = new Map<AbortSignal, Abortable<G>>();
  let size = 0;
  let totalCost = 0;
  let timer: TimerHandle | undefined;
  let timerDueMs = 0;

  function laneOf(priority: number): Lane<G> {
    let at = 0;
    while (at < lanes.length && lanes[at].priority > priority) at++;
    if (lanes[at]?.priority !== priority) lanes.splice(at, 0, { priority, head: undefined, tail: undefined });
    return lanes[at];
  }

  function add(waiter: Waiter<G>): void {
    const { lane, signal } = waiter;
    waiter.previous = lane.tail;
    if (lane.tail === undefined) lane.head = waiter;
    else lane.tail.next = waiter;
    lane.tail = waiter;
    size++;
    totalCost += waiter.cost;
    if (signal === undefined) return;
    // One listener a signal: addEventListener looks through all listeners it has, which is quadratic over many waiters.
    let abortable = abortables.get(signal);
    if (abortable === undefined) {
      abortable = { waiters: new Set(), listener: () => abort(signal) };
      abortables.set(signal, abortable);
      signal.addEventListener('abort', abortable.listener, { once: true });
    }
    abortable.waiters.add(waiter);
  }

  function remove(waiter: Waiter<G>): void {
    const { lane, previous, next, signal } = waiter;
    if (previous === undefined) lane.head = next;
    else previous.next = next;
    if (next === undefined) lane.tail = previous;
    else next.previous = previous;
    if (lane.head === undefined) lanes.splice(lanes.indexOf(lane), 1);
    size--;
    totalCost -= waiter.cost;
    const abortable = signal && abortables.get(signal);
    if (abortable === undefined) return;
    abortable.waiters.delete(waiter);
    if (abortable.waiters.size > 0) return;
    signal!.removeEventListener('abort', abortable.listener);
    abortables.delete(signal!);
  }

  function abort(signal: AbortSignal): void {
    for (const waiter of abortables.get(signal)?.waiters ?? []) {
      remove(waiter);
      waiter.reject(signal.reason);
    }
    drain(); // the next one may need less than the one that left
  }

  function drain(nowMs = clock.now()): void {
    let waitMs = Number.POSITIVE_INFINITY;
    while (size > 0) {
      const head = lanes[0].head!;
      waitMs = source.waitMs(head.cost, nowMs);
      if (waitMs > 0) break;
      waitMs = Number.POSITIVE_INFINITY;
      remove(head);
      head.resolve(source.grant(head.cost, nowMs));
    }
    arm(nowMs, waitMs);
  }

  function arm(nowMs: number, waitMs: number): void {
    const delayMs = Math.ceil(waitMs); // timers have whole milliseconds; truncated, they would be early
    if (timer !== undefined) {
      // A timer that is due before the head costs one look at the clock, less than setting it anew each time.
      if (size > 0 && timerDueMs <= nowMs + delayMs) return;
      clock.clearTimeout(timer);
      timer = undefined;
    }
    if (delayMs === Number.POSITIVE_INFINITY) return;
    timerDueMs = nowMs + delayMs;
    timer = clock.setTimeout(() => {
      timer = undefined;
      drain();
    }, delayMs);
  }

  return {
    get size() {
      return size;
    },
    get cost() {
      return totalCost;
    },
    drain,
    wait({ cost = 1, priority = 0, signal } = {}) {
      if (signal?.aborted) return Promise.reject(signal.reason);
      const nowMs = clock.now();
      if (size === 0 && source.waitMs(cost, nowMs) <= 0) return Promise.resolve(source.grant(cost, nowMs));
      return new Promise<G>((resolve, reject) => {
        const lane = laneOf(priority);
        add({ cost, lane, signal, resolve, reject, previous: undefined, next: undefined });
        if (lane === lanes[0] && lane.head === lane.tail) drain(nowMs); // it is the new head: the timer may have to change
      });
    },
  };
}
