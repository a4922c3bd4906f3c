import { type Clock, systemClock, type TimerHandle } from './clock.ts';
import { ConfigError } from './errors.ts';
import { count, invalid, nonNegative } from './validate.ts';

/** Options of {@link batcher}. */
export interface BatcherOptions<K, V> {
  /** A batch leaves when it has this many keys; an integer ≥ 1. @default 100 */
  readonly maxSize?: number;
  /** A batch leaves when its first key has waited this long; milliseconds, finite, ≥ 0. @default 10 */
  readonly maxDelayMs?: number;
  /**
   * Fetches the values of `keys`, none of which is there twice: an array in the order of the keys, or a Map by key. An
   * Error in the place of a value rejects that key alone; what it throws rejects them all. `signal` aborts when nobody
   * waits for the batch any more.
   */
  readonly fetchMany: (keys: readonly K[], options: { readonly signal: AbortSignal }) => Answer<K, V>;
  /** @default systemClock */
  readonly clock?: Clock;
}

type Results<K, V> = readonly (V | Error)[] | ReadonlyMap<K, V | Error>;
type Answer<K, V> = Results<K, V> | PromiseLike<Results<K, V>>;

/** What {@link batcher} returns. Rejects with `signal.reason` on abort: the key leaves the batch if nobody else wants it. */
export type Batcher<K, V> = (key: K, options?: { readonly signal?: AbortSignal }) => Promise<V>;

interface Waiter<V> {
  readonly resolve: (value: V) => void;
  readonly reject: (reason: unknown) => void;
  /** Stops listening to the signal. */
  readonly leave: () => void;
}

/** One request of many keys, from its first key to its results. */
interface Batch<K, V> {
  readonly waiters: Map<K, Set<Waiter<V>>>;
  readonly controller: AbortController;
  timer: TimerHandle;
  /** The keys that were asked for; undefined until it has left. */
  sent: readonly K[] | undefined;
}

/**
 * Makes one request of many: keys that are asked for within `maxDelayMs` of each other are fetched together, so that they
 * spend one slot of a budget. Who asks for a key that is already waiting or under way gets that result too. Nothing is
 * kept afterwards: it is no cache. Keys are told apart as a Map does.
 *
 * @throws {ConfigError} on a bad option. A result of the wrong shape or length rejects its batch with one.
 * @example
 * const user = batcher({
 *   maxSize: 50,
 *   maxDelayMs: 20,
 *   fetchMany: async (ids: readonly number[], { signal }) => {
 *     const response = await proxies.fetch(`https://api.example.com/users?ids=${ids}`, { signal });
 *     return (await response.json()) as User[];
 *   },
 * });
 * const [ann, bob] = await Promise.all([user(1), user(2)]); // one request
 */
export function batcher<K, V>(options: BatcherOptions<K, V>): Batcher<K, V> {
  const { fetchMany, clock = systemClock } = options;
  const maxSize = count('maxSize', options.maxSize ?? 100);
  const maxDelayMs = nonNegative('maxDelayMs', options.maxDelayMs ?? 10, 'milliseconds');
  if (typeof fetchMany !== 'function') throw invalid('fetchMany', 'a function', fetchMany);

  const batches = new Map<K, Batch<K, V>>(); // of every key that waits or is under way
  let open: Batch<K, V> | undefined;

  function begin(): Batch<K, V> {
    const batch: Batch<K, V> = {
      waiters: new Map(),
      controller: new AbortController(),
      timer: undefined,
      sent: undefined,
    };
    batch.timer = clock.setTimeout(() => send(batch), maxDelayMs);
    return batch;
  }

  /** No more keys for this batch. */
  function close(batch: Batch<K, V>): void {
    clock.clearTimeout(batch.timer);
    if (open === batch) open = undefined;
  }

  function send(batch: Batch<K, V>): void {
    close(batch);
    batch.sent = [...batch.waiters.keys()];
    receive(batch, batch.sent).catch((error: unknown) => {
      for (const key of batch.sent!) finish(batch, key, (waiter) => waiter.reject(error));
    });
  }

  async function receive(batch: Batch<K, V>, keys: readonly K[]): Promise<void> {
    const results = await fetchMany([...keys], { signal: batch.controller.signal });
    if (!(results instanceof Map) && !Array.isArray(results)) throw invalid('fetchMany', 'an array or a Map', results);
    if (Array.isArray(results) && results.length !== keys.length) {
      throw invalid('fetchMany', `${keys.length} results, one for each key in their order`, results);
    }
    keys.forEach((key, i) => {
      const missing = results instanceof Map && !results.has(key);
      const result = missing
        ? new ConfigError('fetchMany: expected a result for every key, got a Map without this one', {
            option: 'fetchMany',
          })
        : results instanceof Map
          ? results.get(key)
          : results[i];
      finish(batch, key, (waiter) => (result instanceof Error ? waiter.reject(result) : waiter.resolve(result as V)));
    });
  }

  function finish(batch: Batch<K, V>, key: K, tell: (waiter: Waiter<V>) => void): void {
    forget(batch, key);
    for (const waiter of batch.waiters.get(key) ?? []) {
      waiter.leave();
      tell(waiter);
    }
    batch.waiters.delete(key);
  }

  function forget(batch: Batch<K, V>, key: K): void {
    if (batches.get(key) === batch) batches.delete(key);
  }

  function abort(batch: Batch<K, V>, key: K, waiter: Waiter<V>, reason: unknown): void {
    const waiters = batch.waiters.get(key)!;
    waiters.delete(waiter);
    if (waiters.size === 0) {
      batch.waiters.delete(key);
      // A key under way stays known: its result may still be had by others.
      if (batch.sent === undefined) forget(batch, key);
      if (batch.waiters.size === 0) drop(batch, reason);
    }
    waiter.reject(reason);
  }

  /** Nobody waits for any of it. */
  function drop(batch: Batch<K, V>, reason: unknown): void {
    close(batch);
    for (const key of batch.sent ?? []) forget(batch, key);
    batch.controller.abort(reason);
  }

  return (key, { signal } = {}) => {
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise<V>((resolve, reject) => {
      const batch = batches.get(key) ?? (open ??= begin());
      batches.set(key, batch);
      const onAbort = (): void => abort(batch, key, waiter, signal!.reason);
      const waiter: Waiter<V> = { resolve, reject, leave: () => signal?.removeEventListener('abort', onAbort) };
      signal?.addEventListener('abort', onAbort, { once: true });
      const waiters = batch.waiters.get(key);
      if (waiters === undefined) batch.waiters.set(key, new Set([waiter]));
      else waiters.add(waiter);
      if (batch.sent === undefined && batch.waiters.size === maxSize) send(batch);
    });
  };
}
