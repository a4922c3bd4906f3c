import { type Dispatcher, Dispatcher1Wrapper, type Request, type RequestInit } from 'undici';
import type { CacheStats } from './cache/layer.ts';
import type { ExchangeInfo, PaceOptions } from './call.ts';
import { PacedDispatcher } from './dispatcher.ts';
import { Engine } from './engine.ts';
import type { PacelineEventName, PacelineEvents } from './events.ts';
import { Fetcher } from './fetch.ts';
import { showAs } from './inspect.ts';
import { acquire, type Lease } from './lease.ts';
import type { LeaseOptions } from './lease-options.ts';
import { type ProxyManagerOptions, resolveOptions } from './options.ts';
import { Session, type SessionOptions } from './session.ts';
import { checkSessionOptions, checkStrict } from './session-options.ts';
import { Stamp } from './stamp.ts';
import type { EgressStats, TrafficStats } from './stats.ts';
import type { Snapshot, Store, TargetSnapshot } from './store/store.ts';
import { invalid } from './validate.ts';

/** What the global fetch takes: a string, a URL, or a Request, undici's or Node's own. */
export type FetchInput = string | URL | Request | globalThis.Request;

/** What the global fetch gives, by type; the object is undici's. */
export type FetchResponse = globalThis.Response;

/** What the global fetch takes, and how to pace it. */
export type FetchInit = (RequestInit | globalThis.RequestInit) & { readonly pace?: PaceOptions };

/** One pool in {@link ManagerStats}. */
export interface PoolStats extends TrafficStats {
  readonly type: string;
  /** Sessions alive now. */
  readonly sessions: number;
  /** Requests using it now, and how many may. */
  readonly inUse: number;
  readonly concurrency: number;
  /**
   * How well its budgets hold. `verified`: each exit's address is known · `assumed`: one session, one IP, on the provider's word ·
   * `pool`: only for all exits together, since they rotate unseen.
   */
  readonly egress: 'verified' | 'assumed' | 'pool';
}

export interface TargetStats extends TrafficStats {
  /** The budgets as they stand, one entry an egress; absent for targets that are idle. */
  readonly state: TargetSnapshot | undefined;
}

/** See {@link ProxyManager.stats}. */
export interface ManagerStats extends EgressStats {
  /** Requests waiting for a permit, and requests under way. */
  readonly waiting: number;
  readonly inFlight: number;
  /** What the cache has saved; absent without one. */
  readonly cache: CacheStats | undefined;
  readonly pools: Readonly<Record<string, PoolStats>>;
  readonly targets: Readonly<Record<string, TargetStats>>;
}

/**
 * Paces requests through rotating proxies: each leaves when, and from where, its target tolerates it.
 *
 * @throws {ConfigError} when an option does not make sense.
 * @example
 * const proxies = new ProxyManager({ gateway: 'http://user-session-{session}:pass@gw.example.com:10000' });
 * const res = await proxies.fetch('https://shop.example/item/1');
 * await proxies.close();
 */
export class ProxyManager {
  readonly #engine: Engine;
  readonly #fetcher: Fetcher;
  #dispatcher: PacedDispatcher | undefined;
  #closing: Promise<void> | undefined;
  #forced = false;

  constructor(options: ProxyManagerOptions = {}) {
    this.#engine = new Engine(resolveOptions(options));
    this.#fetcher = new Fetcher(this.#engine);
    showAs(this, () => `ProxyManager ${JSON.stringify(this.toJSON())}`);
  }

  /**
   * A drop-in for the global fetch. Waits for a permit, sends, tries again where that makes sense.
   * After the last attempt a response is handed over as it is, as fetch does; an error is thrown.
   * A body that is a stream is sent once; that of a Request is held up to 1 MiB, and can be sent again. `init.dispatcher` is refused.
   *
   * @throws {BudgetExceededError} when no slot comes within `pace.maxWaitMs`
   * @throws {GatewayError} when the gateway refuses for good · {RetriesExhaustedError} when every attempt failed
   * @throws {QueueTimeoutError} | {DeadlineError} when a time limit passed · TypeError as fetch does
   */
  readonly fetch = (input: FetchInput, init?: FetchInit): Promise<FetchResponse> =>
    this.#fetcher.fetch(input, init as { pace?: PaceOptions }) as Promise<unknown> as Promise<FetchResponse>;

  /**
   * Paces somebody else's fetch; it must take `dispatcher` (Node's own does, undici's does).
   *
   * @example
   * const paced = proxies.wrap(globalThis.fetch);
   */
  wrap<R extends { status: number; body: { cancel(): Promise<void> } | null }>(
    fetchLike: (input: never, init: never) => Promise<R>,
  ): (input: FetchInput, init?: FetchInit) => Promise<R> {
    if (typeof fetchLike !== 'function') throw invalid('fetchLike', 'a function', fetchLike);
    return (input, init) =>
      this.#fetcher.fetchThrough(input, init as { pace?: PaceOptions }, async (request) => {
        // Node 22 and 24 bring an older undici, which speaks another handler interface.
        const dispatcher = new Dispatcher1Wrapper(request.init.dispatcher!);
        return fetchLike(request.input as never, { ...request.init, dispatcher } as never);
      });
  }

  /** The manager as an undici Dispatcher: paced, not retried. For `undici.request(url, { dispatcher })` and `setGlobalDispatcher`. */
  get dispatcher(): Dispatcher {
    this.#dispatcher ??= new PacedDispatcher(this.#engine, (force) => this.close({ force }));
    return this.#dispatcher;
  }

  /** Opens a sticky session: one exit for all its requests, and a cookie jar of its own. */
  session(options: SessionOptions = {}): Session {
    checkSessionOptions(options);
    const { pool } = options;
    const first = this.#engine.targets.allPools().next().value!;
    const from = pool === undefined ? first : this.#engine.targets.pool(pool, 'session.pool');
    if (options.strict) checkStrict(from);
    return new Session(this.#engine, this.#fetcher, from, options);
  }

  /**
   * A permit handed over, for clients that are not on undici: a browser, curl, got, axios. Waits in the same queue as `fetch`, and
   * takes one slot of one egress. Tried once: after a `GatewayError` that is `retryable`, acquire again.
   *
   * @throws {BudgetExceededError} when no slot comes within `maxWaitMs` · {QueueTimeoutError} when the wait took too long
   * @throws {GatewayError} when the exit was to be learnt and could not · {ConfigError} for a pool that rotates with every tunnel
   * @throws the signal's reason when it is aborted · {ClosedError} when the manager is closed
   * @example
   * await using lease = await proxies.acquire('https://shop.example/', { signal: AbortSignal.timeout(30_000) });
   * const { status, headers } = await axios.get('https://shop.example/', { proxy: false, httpsAgent: new HttpsProxyAgent(lease.proxyUrl) });
   * lease.settle({ status, headers });
   */
  acquire(url: string | URL, options: LeaseOptions = {}): Promise<Lease> {
    return acquire(this.#engine, url, options);
  }

  /** What is known of a response's way; `undefined` for responses of others. */
  exchange(response: object): ExchangeInfo | undefined {
    return Stamp.of(response)?.info();
  }

  /** Counts since the start, and the budgets as they stand; without those (`state`) while the store does not answer. */
  async stats(): Promise<ManagerStats> {
    const engine = this.#engine;
    const snapshot = await inspected(engine.options.store);
    const states = new Map(snapshot.targets.map((state) => [state.target, state]));
    const pools: Record<string, PoolStats> = {};
    for (const pool of engine.targets.allPools()) {
      const { type, concurrency } = pool.options;
      const { name, sessions, inUse, certainty: egress } = pool;
      pools[name] = { type, sessions, inUse, concurrency, egress, ...engine.stats.poolStats(name) };
    }
    const targets: Record<string, TargetStats> = {};
    for (const [name, traffic] of engine.stats.targetStats()) targets[name] = { ...traffic, state: states.get(name) };
    const { waiting } = engine.admission;
    const inFlight = engine.exchanges.size - waiting;
    return { ...engine.stats.egresses(), waiting, inFlight, cache: engine.cache?.stats, pools, targets };
  }

  /** Listens to an event; returns the function that stops it. The same goes to the diagnostics channel `paceline:<event>`. */
  on<N extends PacelineEventName>(event: N, listener: (event: PacelineEvents[N]) => void): () => void {
    return this.#engine.events.on(event, listener);
  }

  /**
   * Takes no more requests, lets those there are come to their end, those that wait for a slot too, and frees every socket and timer.
   * `close({ force: true })`, also after a `close()` that still waits, fails them at once with a `ClosedError`. A second plain `close()` waits
   * along with the first. A body that nobody reads is cut after a second.
   */
  close(options: { readonly force?: boolean } = {}): Promise<void> {
    const force = options.force === true;
    if (force) this.#fetcher.stop();
    if (this.#closing === undefined) this.#closing = this.#engine.close(force);
    else if (force && !this.#forced)
      this.#closing = Promise.all([this.#closing, this.#engine.close(true)]).then(() => {});
    this.#forced ||= force;
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  toJSON(): object {
    return {
      name: 'ProxyManager',
      pools: [...this.#engine.targets.allPools()].map(({ name, options }) => ({ name, type: options.type })),
    };
  }
}

/** What this process has counted is worth having also when the store is down. */
async function inspected(store: Store): Promise<Snapshot> {
  try {
    return await store.inspect();
  } catch {
    return { targets: [] };
  }
}
