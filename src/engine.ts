import type { Dispatcher } from 'undici';
import { Admission, type TargetQueue } from './admission.ts';
import type { Call } from './call.ts';
import type { Clock } from './clock.ts';
import { egressKey } from './egress-key.ts';
import { ClosedError, GatewayError, StoreError } from './errors.ts';
import { Events } from './events.ts';
import { Exchange } from './exchange.ts';
import { type Carrier, carrier } from './gateway/agents.ts';
import { Carriers } from './gateway/carriers.ts';
import type { Dial } from './gateway/dial.ts';
import { Pool, type PoolRoute } from './gateway/pool.ts';
import { probeEgress } from './gateway/probe.ts';
import type { ResolvedOptions } from './options.ts';
import { classifyOutcome, type ResponseFacts } from './outcome.ts';
import { SessionBook } from './session-book.ts';
import { Stats } from './stats.ts';
import type { Outcome } from './store/store.ts';
import { policyOf } from './target/policy.ts';
import type { Target } from './target/types.ts';
import { invalid } from './validate.ts';

/** Open ways out kept at a time, whatever the number of sessions: each holds up to a tunnel an origin. */
const MOST_CARRIERS = 512;

/** A body that has not moved for this long when the manager closes is one that nobody reads, in milliseconds. */
const CLOSE_PATIENCE_MS = 1000;

/** Grace on top of a request's own time limits before the store takes its permit for lost, in milliseconds. */
const DEADLINE_GRACE_MS = 60_000;

const OUTCOMES: ReadonlySet<unknown> = new Set<Outcome>([
  'ok',
  'rate-limited',
  'blocked',
  'challenged',
  'target-error',
  'gateway-error',
  'network-error',
  'ignored',
]);

/** The parts of a manager, and the questions a request asks of them. */
export class Engine {
  readonly options: ResolvedOptions;
  readonly clock: Clock;
  readonly events: Events = new Events();
  readonly stats: Stats = new Stats();
  readonly admission: Admission;
  readonly carriers: Carriers;
  readonly sessions: SessionBook;
  readonly timeouts: ResolvedOptions['timeouts'];
  readonly exchanges: Set<Exchange> = new Set();
  private readonly pools = new Map<string, Pool>();
  private readonly retiered = new WeakMap<Target, Map<string, Target>>();
  private readonly probes = new WeakMap<PoolRoute, Promise<void>>();
  private drained: (() => void) | undefined;
  /** Calls of fetch under way, between their exchanges too. */
  private calls = 0;
  /** No new calls; and then nothing at all any more. */
  closed = false;
  private ended = false;

  constructor(options: ResolvedOptions) {
    const { clock, timeouts } = options;
    this.options = options;
    this.clock = clock;
    this.timeouts = timeouts;
    const deadlineMs = 2 * timeouts.connectMs + timeouts.headersMs + DEADLINE_GRACE_MS;
    this.admission = new Admission(options.store, clock, deadlineMs, {
      verdicts: (verdicts) => {
        for (const { target, egress, forMs } of verdicts) this.events.emit('cooldown', { target, egress, forMs });
      },
      storeFailed: (error) => {
        this.events.emit('store-error', { error: StoreError.from(error) });
      },
    });
    for (const pool of options.pools) this.pools.set(pool.name, new Pool(pool, clock, options.random));
    this.carriers = new Carriers(options.transport ?? ((route) => this.open(route)), MOST_CARRIERS);
    this.sessions = new SessionBook(this);
  }

  /** Sends one request, paced. */
  dispatch(call: Call, options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    const exchange = new Exchange(this, call, options, handler);
    // The further hops and attempts of a call that was there before are part of what is drained.
    if (this.ended || (this.closed && call.attempts === 0)) {
      exchange.turnAway(new ClosedError());
    } else exchange.start();
    return true;
  }

  /** A call of fetch begins; to be followed by `finish`. */
  begin(): void {
    if (this.closed) throw new ClosedError();
    this.calls++;
  }

  finish(): void {
    this.calls--;
    this.exchangeOver();
  }

  classify(url: string, tier: string | undefined): Target {
    const target = this.options.classifier.classify(url);
    if (tier === undefined) return target;
    // Another tier's budget, under the rule's other limits.
    let others = this.retiered.get(target);
    if (others === undefined) {
      others = new Map();
      this.retiered.set(target, others);
    }
    let other = others.get(tier);
    if (other === undefined) {
      const { budget, poolType, tier: name } = this.options.tiers(tier).classify(url);
      other = Object.freeze({ ...target, tier: name, budget, poolType });
      others.set(tier, other);
    }
    return other;
  }

  pool(name: string, option = 'pace.pool'): Pool {
    const pool = this.pools.get(name);
    if (pool === undefined) throw invalid(option, `one of ${[...this.pools.keys()].join(', ')}`, name);
    return pool;
  }

  /** The pool asked for, else the rule's first, else the first of the tier's type, else the first there is. */
  poolFor(target: Target, asked: string | undefined): Pool {
    if (asked !== undefined) return this.pool(asked);
    if (target.pools !== undefined) return this.pool(target.pools[0]);
    let first: Pool | undefined;
    for (const pool of this.pools.values()) {
      if (pool.options.type === target.poolType) return pool;
      first ??= pool;
    }
    return first!;
  }

  allPools(): IterableIterator<Pool> {
    return this.pools.values();
  }

  /** Requests under a tier of their own are counted apart from the target's others. */
  queueFor(target: Target, tier: string | undefined): TargetQueue {
    const key = tier === undefined ? target.name : `${target.name}#${target.tier}`;
    return this.admission.queue(key, () => policyOf(target));
  }

  outcomeOf(facts: ResponseFacts): Outcome {
    const { classify } = this.options;
    if (classify !== undefined) {
      try {
        const own = classify(facts);
        if (OUTCOMES.has(own)) return own as Outcome;
      } catch (error) {
        // The caller's bug must not lose the permit: it surfaces on its own.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
    return classifyOutcome(facts);
  }

  /** Key of the exit that a CONNECT answer names. */
  egressOf(dial: Dial, pool: Pool): string | undefined {
    for (const name of pool.options.egressHeaders) {
      const value = dial.headers[name];
      if (typeof value === 'string' && value.length > 0 && value.length <= 256) return egressKey(value);
    }
    return undefined;
  }

  /** The exit behind a route became known; it may be another one than before, or one that is in use already. */
  learned(route: PoolRoute, egress: string, duplicate: boolean, queue: TargetQueue): void {
    if (route.weight !== 1) return;
    const first = !route.verified;
    if (!first && route.egress === egress) return;
    route.egress = egress;
    route.verified = true;
    const pool = this.pool(route.pool);
    if (first && route.shared && pool.mints) pool.minted(egress, duplicate, queue.policy.windowMs);
    if (this.events.wants('egress')) {
      this.events.emit('egress', {
        pool: route.pool,
        session: route.session,
        egress,
        duplicate: duplicate && route.shared,
      });
    }
    if (duplicate && route.shared && pool.mints) {
      pool.retire(route);
      this.carriers.retire(route);
    }
  }

  /** Learns a route's exit from its probe page, once, however many requests ask. */
  probe(route: PoolRoute, by: Carrier, url: URL): Promise<void> {
    let running = this.probes.get(route);
    if (running === undefined) {
      running = probeEgress(by, url, route.pool, this.timeouts.headersMs).then(
        (egress) => {
          // It counts once a permit is bound to it: the exit may be one that is in use already.
          route.probed = egress;
        },
        (error) => {
          this.probes.delete(route);
          throw error;
        },
      );
      this.probes.set(route, running);
    }
    return running;
  }

  /** A session whose exit is gone is not lent again; a proxy that is down rests. */
  failedDial(route: PoolRoute, pool: Pool, error: Error): void {
    if (!(error instanceof GatewayError)) return;
    if (pool.failed(route, error.kind === 'exit-failed')) this.carriers.retire(route);
  }

  exchangeOver(): void {
    if (this.exchanges.size === 0 && this.calls === 0) this.drained?.();
  }

  /** Lets what runs come to its end (with `force`, cuts it), cuts bodies that nobody reads, then frees everything. */
  async close(force: boolean): Promise<void> {
    this.closed = true;
    if (!force) await this.drain();
    this.ended = true;
    const error = new ClosedError();
    this.admission.close(error);
    for (const exchange of [...this.exchanges]) exchange.cut(error);
    await this.carriers.destroy();
    if (this.options.ownsStore) await this.options.store.close();
  }

  private async drain(): Promise<void> {
    const { clock } = this;
    while (!this.ended && (this.exchanges.size > 0 || this.calls > 0)) {
      const before = new Map([...this.exchanges].map((exchange) => [exchange, exchange.progress]));
      const { promise, resolve } = Promise.withResolvers<void>();
      this.drained = resolve;
      const timer = clock.setTimeout(resolve, CLOSE_PATIENCE_MS);
      await promise;
      clock.clearTimeout(timer);
      this.drained = undefined;
      const alive = [...this.exchanges];
      if (this.calls > 0) continue;
      if (alive.every((exchange) => exchange.answered && before.get(exchange) === exchange.progress)) return;
    }
  }

  private open(route: PoolRoute): Carrier {
    const { options } = this.pool(route.pool);
    return carrier(route.endpoint, {
      clock: this.clock,
      pool: route.pool,
      connectMs: this.timeouts.connectMs,
      rotating: route.weight !== 1,
      requestTls: options.requestTls,
      proxyTls: options.proxyTls,
    });
  }
}
