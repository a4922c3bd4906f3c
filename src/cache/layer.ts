import { cacheStores, type Dispatcher, interceptors } from 'undici';
import { Call } from '../call.ts';
import type { Engine, Entry } from '../engine.ts';
import { StoreError } from '../errors.ts';
import { Flight, type FlightHost } from './flight.ts';
import { GuardedStore } from './guarded-store.ts';
import type { ResolvedCache } from './options.ts';
import { isOwn, joinKey, type PlainHeaders, plainHeaders } from './request-key.ts';
import { Watch } from './watch.ts';

/** What the cache has saved: see `stats().cache`. */
export interface CacheStats {
  /** Answered without a send. */
  readonly hits: number;
  /** Sent, since the cache had nothing, or nothing fresh. */
  readonly misses: number;
  /** Of those, stale entries that the target confirmed with a 304. */
  readonly revalidated: number;
  /** Answered together with an equal request under way. */
  readonly joined: number;
}

/** Key under which a request travels through undici's cache, which copies its options. */
const kAsked: unique symbol = Symbol('paceline request');

/** A request of an unsafe method: it only drops what it may have changed. */
interface Passing {
  readonly call: Call;
  readonly options: Dispatcher.DispatchOptions;
}

interface AskedOptions extends Dispatcher.DispatchOptions {
  readonly [kAsked]: Flight | Passing;
}

const SAFE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'QUERY', 'CONNECT']);

/** Cache and deduplication above the pacing: a hit, or a request that joins another one, takes no permit and spends nothing. */
export class CacheLayer implements Entry, FlightHost {
  private readonly engine: Engine;
  private readonly options: ResolvedCache;
  private readonly store: GuardedStore;
  private readonly through: Dispatcher['dispatch'];
  private readonly flights = new Map<string, Flight>();
  private readonly refreshing = new Set<string>();
  private hits = 0;
  private misses = 0;
  private revalidated = 0;
  private joined = 0;

  constructor(engine: Engine, options: ResolvedCache) {
    const { store, memory, methods, type, origins, defaultMaxAgeMs } = options;
    this.engine = engine;
    this.options = options;
    this.store = new GuardedStore(store ?? new cacheStores.MemoryCacheStore(memory), (error) => {
      engine.events.emit('store-error', { error: StoreError.from(error) });
    });
    // `cacheByDefault` is in milliseconds, as undici uses it.
    const cache = interceptors.cache({
      store: this.store,
      methods: [...methods],
      type,
      ...(origins && { origins: [...origins] }),
      ...(defaultMaxAgeMs !== undefined && { cacheByDefault: defaultMaxAgeMs }),
    });
    this.through = cache((asked, handler) => this.send(asked as AskedOptions, handler));
  }

  dispatch(call: Call, options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    const { engine } = this;
    const { method } = options;
    const past = (): boolean => engine.dispatch(call, options, handler);
    // What still runs while the manager closes needs no cache any more; what is new is refused.
    if (engine.closed || options.upgrade) return past();
    if (!SAFE.has(method)) return this.pass(call, options, handler);
    const headers = options.body == null ? plainHeaders(options.headers) : undefined;
    if (headers === undefined || isOwn(headers) || !this.isShared(call, options)) return past();
    const { dedupe } = this.options;
    const key = dedupe && joinKey(dedupe, call, options, headers);
    if (key === undefined && !this.options.methods.includes(method as never)) return past();
    const under = key === undefined ? undefined : this.flights.get(key);
    if (under !== undefined) {
      this.joined++;
      under.join(call, handler);
    } else this.begin(call, options, handler, headers, key);
    return true;
  }

  boarded(flight: Flight): void {
    // By now there may be another one under its key.
    if (this.flights.get(flight.key!) === flight) this.flights.delete(flight.key!);
  }

  hit({ call, options }: Flight): void {
    this.hits++;
    const { name, tier } = this.engine.targets.classify(`${options.origin}${options.path}`, call.pace.tier);
    call.target = name;
    call.tier = tier;
  }

  get stats(): CacheStats {
    const { hits, misses, revalidated, joined } = this;
    return { hits, misses, revalidated, joined };
  }

  close(): void {
    this.store.close();
  }

  private begin(
    call: Call,
    options: Dispatcher.DispatchOptions,
    handler: Dispatcher.DispatchHandler,
    headers: PlainHeaders,
    key: string | undefined,
  ): void {
    const maxBehind = key === undefined ? Infinity : this.options.dedupe!.maxBufferSize;
    const flight = new Flight(call, options, key, maxBehind, this);
    if (key !== undefined) this.flights.set(key, flight);
    flight.join(call, handler);
    if (flight.givenUp !== undefined) return;
    const asked: AskedOptions = { ...options, headers, [kAsked]: flight };
    try {
      this.store.lookingFor(flight, () => void this.through(asked, flight));
    } catch (error) {
      flight.onResponseError(undefined, error as Error);
    }
  }

  /** What undici's cache has no answer to. */
  private send(options: AskedOptions, handler: Dispatcher.DispatchHandler): boolean {
    const { engine, store } = this;
    const asked = options[kAsked];
    if (!(asked instanceof Flight))
      return engine.dispatch(asked.call, asked.options, new Watch(store, asked.call, handler));
    const { givenUp, stored } = asked;
    if (givenUp !== undefined) {
      handler.onResponseError?.(undefined as never, givenUp);
      return true;
    }
    const headers = options.headers as PlainHeaders;
    const confirming = 'if-none-match' in headers || 'if-modified-since' in headers;
    const sent = { ...asked.options, ...(confirming && { headers }) };
    if (asked.answered) return this.refresh(asked, sent, handler);
    const done = (confirmed: boolean): void => {
      if (confirmed) this.revalidated++;
    };
    this.misses++;
    const watch = new Watch(store, asked.call, handler, asked, confirming ? stored : undefined, done);
    return engine.dispatch(asked.call, sent, watch);
  }

  /** `stale-while-revalidate`: the answer is given, the entry is brought up to date behind it; once, however many were answered. */
  private refresh(flight: Flight, sent: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    const key = JSON.stringify([sent.method, sent.origin, sent.path, sent.headers]);
    if (this.refreshing.has(key)) return true;
    this.refreshing.add(key);
    const { tier } = flight.call.pace;
    const call = new Call(tier === undefined ? {} : { tier }, undefined, false);
    const done = (): void => void this.refreshing.delete(key);
    return this.engine.dispatch(call, sent, new Watch(this.store, call, handler, undefined, flight.stored, done));
  }

  private pass(call: Call, options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    if (plainHeaders(options.headers) === undefined) return this.engine.dispatch(call, options, handler);
    const asked: AskedOptions = { ...options, [kAsked]: { call, options } };
    return this.through(asked, handler);
  }

  /** A session's answers are its own; those through another pool than the usual one may be for another country. */
  private isShared({ sticky, pace }: Call, options: Dispatcher.DispatchOptions): boolean {
    if (sticky) return false;
    if (pace.pool === undefined && pace.tier === undefined) return true;
    const { engine } = this;
    const url = `${options.origin}${options.path}`;
    try {
      const target = engine.targets.classify(url, undefined);
      const usual = engine.targets.firstPool(target);
      if (pace.pool === undefined) return engine.targets.firstPool(engine.targets.classify(url, pace.tier)) === usual;
      // Without a name, a rule with a ladder of pools may take any of them.
      return engine.targets.pool(pace.pool) === usual && (target.pools?.length ?? 1) === 1;
    } catch {
      // Left to the engine, which says what is wrong.
      return false;
    }
  }
}
