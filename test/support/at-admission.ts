import { Admission, type Lane, type TargetQueue, type Waiter } from '../../src/admission.ts';
import type { Clock, TimerHandle } from '../../src/clock.ts';
import { Pool, type PoolRoute } from '../../src/gateway/pool.ts';
import { type PoolOptions, resolvePools } from '../../src/gateway/pool-options.ts';
import type { BreakerPolicy } from '../../src/limits/breaker-core.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type {
  Awaitable,
  Binding,
  Demand,
  Grant,
  Outcome,
  Policy,
  Report,
  Reservation,
  Snapshot,
  Store,
  Verdict,
} from '../../src/store/store.ts';
import { type VirtualClock, virtualClock } from '../../src/testing/virtual-clock.ts';
import type { Level } from '../../src/waiters.ts';
import { storePolicy } from './at-store.ts';

/** The memory store, counted; what it grants and what ends is kept. */
export class CountingStore implements Store {
  readonly inner: MemoryStore;
  reserves = 0;
  granted = 0;

  constructor(clock: Clock) {
    this.inner = new MemoryStore(clock, () => 0);
  }

  reserve(target: string, demand: Demand): Awaitable<Reservation> {
    this.reserves++;
    const reservation = this.inner.reserve(target, demand);
    this.granted += reservation.grants.length;
    return reservation;
  }

  bind(target: string, grant: Grant, egress: string): Awaitable<Binding> {
    return this.inner.bind(target, grant, egress);
  }

  settle(target: string, reports: readonly Report[]): Awaitable<readonly Verdict[]> {
    return this.inner.settle(target, reports);
  }

  cancel(target: string, grants: readonly Grant[]): Awaitable<void> {
    return this.inner.cancel(target, grants);
  }

  inspect(target?: string): Snapshot {
    return this.inner.inspect(target);
  }

  close(): void {}
}

/** The same, with every answer as late as `later` makes it, and the decision taken on the way there or on the way back. */
export class LateStore extends CountingStore {
  private readonly later: () => PromiseLike<void>;
  /** Calls of `reserve` fail while this is set. */
  failure: Error | undefined;

  constructor(clock: Clock, later: () => PromiseLike<void>) {
    super(clock);
    this.later = later;
  }

  override async reserve(target: string, demand: Demand): Promise<Reservation> {
    const { count } = demand;
    await this.later();
    if (this.failure !== undefined) throw this.failure;
    const reservation = super.reserve(target, { ...demand, count });
    await this.later();
    return reservation;
  }

  override async bind(target: string, grant: Grant, egress: string): Promise<Binding> {
    await this.later();
    return super.bind(target, grant, egress);
  }

  override async settle(target: string, reports: readonly Report[]): Promise<readonly Verdict[]> {
    await this.later();
    return super.settle(target, reports);
  }

  override async cancel(target: string, grants: readonly Grant[]): Promise<void> {
    await this.later();
    return super.cancel(target, grants);
  }
}

export interface Wish {
  readonly priority?: number;
  readonly maxWaitMs?: number;
  readonly target?: string;
  readonly pool?: string;
  readonly pin?: PoolRoute;
  readonly front?: boolean;
  readonly cost?: number;
  readonly applies?: readonly boolean[];
  /** Called when it is granted its permit. */
  readonly then?: (client: Client) => void;
  /** Called when it is refused. */
  readonly otherwise?: (client: Client) => void;
}

/** Someone who waits for a permit, and says how that went. */
export class Client implements Waiter {
  readonly number: number;
  readonly priority: number;
  readonly queuedAt: number;
  readonly giveUpAt: number;
  readonly maxWaitMs: number;
  readonly cost: number;
  readonly applies: readonly boolean[] | undefined;
  readonly free: boolean;
  pool: Pool;
  readonly queue: TargetQueue;
  lane: Lane | undefined;
  before: Client | undefined;
  after: Client | undefined;
  level: Level | undefined;
  giveUpTimer: TimerHandle | undefined;
  grant: Grant | undefined;
  error: Error | undefined;
  /** When it was granted or refused. */
  at: number | undefined;
  left = false;
  private readonly desk: Desk;
  private readonly wish: Wish;

  constructor(desk: Desk, number: number, wish: Wish, pool: Pool, queue: TargetQueue) {
    this.desk = desk;
    this.number = number;
    this.wish = wish;
    this.pool = pool;
    this.queue = queue;
    this.priority = wish.priority ?? 0;
    this.cost = wish.cost ?? 1;
    this.applies = wish.applies;
    this.free = wish.pin === undefined && wish.pool === undefined;
    this.queuedAt = desk.clock.now();
    this.maxWaitMs = wish.maxWaitMs ?? Infinity;
    this.giveUpAt = this.queuedAt + this.maxWaitMs;
  }

  get waiting(): boolean {
    return !this.left && this.at === undefined;
  }

  granted(grant: Grant): void {
    if (!this.waiting) throw new Error(`client ${this.number} was served twice, or after it had left`);
    this.grant = grant;
    this.at = this.desk.clock.now();
    this.desk.served.push(this.number);
    this.wish.then?.(this);
  }

  refused(error: Error): void {
    if (!this.waiting) throw new Error(`client ${this.number} was refused twice, or after it had left`);
    this.error = error;
    this.at = this.desk.clock.now();
    this.wish.otherwise?.(this);
  }

  moved(pool: Pool): void {
    this.pool = pool;
    this.desk.admission.take(this, this.queue, pool, undefined, false);
  }

  /** Gives up waiting. */
  leave(): void {
    this.left = true;
    this.desk.admission.leave(this);
  }

  /** The answer came, and the exchange is over. */
  answer(outcome: Outcome = 'ok', report: Partial<Report> = {}): void {
    const grant = this.grant!;
    this.desk.admission.settle(this.queue, {
      grant,
      outcome,
      retryAfterMs: undefined,
      graceMs: 0,
      end: true,
      ...report,
    });
    this.desk.admission.finished(this.queue, this.pool);
  }

  /** Aborted before the request was sent. */
  cancel(): void {
    this.desk.admission.cancel(this.queue, this.grant!);
    this.desk.admission.finished(this.queue, this.pool);
  }
}

export interface DeskOptions {
  readonly policy?: Partial<Policy>;
  readonly pools?: Record<string, PoolOptions>;
  readonly clock?: VirtualClock;
  readonly store?: (clock: VirtualClock) => CountingStore;
  readonly deadlineMs?: number;
  /** The clock that the admission sees, when it is not quite the one of the test. */
  readonly seen?: (clock: VirtualClock) => Clock;
  /** Permits asked of the store at a time. */
  readonly mostPerCall?: number;
  /** Of the pools' gateways. */
  readonly breaker?: BreakerPolicy;
}

/** `count` static proxies: ways out that are all known. */
export function proxies(count: number, options: PoolOptions = {}): PoolOptions {
  return {
    proxies: Array.from({ length: count }, (_, i) => `http://10.0.${i >> 8}.${i & 255}:8080`),
    concurrency: 10_000,
    ...options,
  };
}

/** An admission in virtual time, with a store that counts and clients that only wait. */
export class Desk {
  readonly clock: VirtualClock;
  readonly store: CountingStore;
  readonly admission: Admission;
  readonly pools: Map<string, Pool>;
  readonly verdicts: Verdict[] = [];
  readonly failures: unknown[] = [];
  /** Numbers of the clients in the order they were served. */
  readonly served: number[] = [];
  readonly clients: Client[] = [];
  private readonly policy: Policy;

  constructor({
    policy,
    pools = { pool: proxies(1) },
    clock = virtualClock(),
    store,
    deadlineMs = 60_000,
    seen,
    breaker,
    mostPerCall,
  }: DeskOptions = {}) {
    this.clock = clock;
    this.policy = storePolicy(policy);
    this.store = store?.(clock) ?? new CountingStore(clock);
    let seed = 0;
    const random = (): number => ((seed = (seed + 0.618034) % 1), seed);
    this.pools = new Map(
      resolvePools({ pools }).map((options) => [options.name, new Pool(options, clock, random, breaker)]),
    );
    const listener = {
      verdicts: (verdicts: readonly Verdict[]) => void this.verdicts.push(...verdicts),
      storeFailed: (error: unknown) => void this.failures.push(error),
    };
    this.admission = new Admission(this.store, seen?.(clock) ?? clock, deadlineMs, listener, mostPerCall);
  }

  get pool(): Pool {
    return this.pools.values().next().value!;
  }

  come(wish: Wish = {}): Client {
    const { target = 'shop.test', pool, pin, front = false } = wish;
    const its = pool === undefined ? this.pool : this.pools.get(pool)!;
    const queue = this.admission.queue(target, () => ({ policy: this.policy, pool: its }));
    const client = new Client(this, this.clients.length, wish, its, queue);
    this.clients.push(client);
    this.admission.take(client, queue, its, pin, front);
    return client;
  }

  /** Permits in flight, as the store sees it. */
  get active(): number {
    return this.store.inspect().targets.reduce((sum, { active }) => sum + active, 0);
  }

  get busy(): number {
    return this.store
      .inspect()
      .targets.flatMap(({ egresses }) => egresses)
      .reduce((sum, { busy }) => sum + busy, 0);
  }
}
