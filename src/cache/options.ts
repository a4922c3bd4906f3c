import type { interceptors } from 'undici';
import { invalid, knownOnly, positive } from '../validate.ts';

/** Where responses are kept: undici's interface, so that its `cacheStores.MemoryCacheStore` and `SqliteCacheStore` fit. */
export type CacheStore = NonNullable<NonNullable<Parameters<typeof interceptors.cache>[0]>['store']>;

/** Methods whose responses may be kept or shared. */
export type CacheMethod = 'GET' | 'HEAD' | 'OPTIONS' | 'TRACE';

/** Options of `cache`. What may be kept, and for how long, is what the responses say (RFC 9111); ages go by the system's clock. */
export interface CacheOptions {
  /** @default one in memory, emptied by `close()`. One of your own stays as it is, and is yours to close. */
  readonly store?: CacheStore;
  /** Responses kept in memory, an integer ≥ 0; with 0 none are, and requests are only joined. @default 1024 */
  readonly maxCount?: number;
  /** Bytes of all bodies kept in memory, an integer ≥ 0. @default 104_857_600 */
  readonly maxSize?: number;
  /** A longer body is not kept in memory, in bytes, an integer ≥ 0. @default 5_242_880 */
  readonly maxEntrySize?: number;
  /** @default ['GET'] */
  readonly methods?: readonly CacheMethod[];
  /** `private` also keeps what is meant for one user alone; only when all requests are that user's. @default 'shared' */
  readonly type?: 'shared' | 'private';
  /** Only these origins, in their usual form (`https://shop.example`), or those that match. @default all */
  readonly origins?: readonly (string | RegExp)[];
  /** For how long to keep what says nothing about it, in milliseconds, > 0. @default not at all */
  readonly defaultMaxAgeMs?: number;
  /** Equal requests under way at the same time are sent once. @default true */
  readonly dedupe?: boolean | DedupeOptions;
}

/** Options of `cache.dedupe`. */
export interface DedupeOptions {
  /** @default those of the cache */
  readonly methods?: readonly CacheMethod[];
  /** Requests with one of these headers are sent each on its own. @default [] */
  readonly skipHeaderNames?: readonly string[];
  /** Headers in which equal requests may differ, such as an `x-request-id`; that of the first is sent. @default [] */
  readonly excludeHeaderNames?: readonly string[];
  /** How far a reader may fall behind the fastest one before its body fails, in bytes, > 0. @default 16_777_216 */
  readonly maxBufferSize?: number;
}

export interface ResolvedCache {
  readonly store: CacheStore | undefined;
  readonly memory: { readonly maxCount?: number; readonly maxSize?: number; readonly maxEntrySize?: number };
  readonly methods: readonly CacheMethod[];
  readonly type: 'shared' | 'private';
  readonly origins: readonly (string | RegExp)[] | undefined;
  readonly defaultMaxAgeMs: number | undefined;
  readonly dedupe: ResolvedDedupe | undefined;
}

export interface ResolvedDedupe {
  readonly methods: readonly CacheMethod[];
  readonly skipped: ReadonlySet<string>;
  readonly excluded: ReadonlySet<string>;
  readonly maxBufferSize: number;
}

const MEMORY = ['maxCount', 'maxSize', 'maxEntrySize'] as const;
const KNOWN = ['store', ...MEMORY, 'methods', 'type', 'origins', 'defaultMaxAgeMs', 'dedupe'];
const KNOWN_DEDUPE = ['methods', 'skipHeaderNames', 'excludeHeaderNames', 'maxBufferSize'];
const METHODS: readonly unknown[] = ['GET', 'HEAD', 'OPTIONS', 'TRACE'];
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** Checks `cache`; `undefined` when there is to be none. */
export function resolveCache(cache: boolean | CacheOptions | undefined): ResolvedCache | undefined {
  if (cache === undefined || cache === false) return undefined;
  const options = cache === true ? {} : cache;
  if (typeof options !== 'object' || options === null) throw invalid('cache', 'a boolean or an object', options);
  knownOnly('cache', options, KNOWN);
  const { store, type = 'shared', origins, defaultMaxAgeMs } = options;
  for (const name of MEMORY) {
    const value = options[name];
    if (value === undefined) continue;
    if (!Number.isSafeInteger(value) || value < 0) throw invalid(`cache.${name}`, 'an integer ≥ 0', value);
    if (store !== undefined) throw invalid(`cache.${name}`, 'none beside cache.store', value);
  }
  checkStore(store);
  if (type !== 'shared' && type !== 'private') throw invalid('cache.type', "'shared' or 'private'", type);
  if (defaultMaxAgeMs !== undefined) positive('cache.defaultMaxAgeMs', defaultMaxAgeMs, 'milliseconds');
  checkOrigins(origins);
  const methods = methodsOf('cache.methods', options.methods ?? ['GET']);
  const { maxCount, maxSize, maxEntrySize } = options;
  return {
    store,
    memory: {
      ...(maxCount !== undefined && { maxCount }),
      ...(maxSize !== undefined && { maxSize }),
      ...(maxEntrySize !== undefined && { maxEntrySize }),
    },
    methods,
    type,
    origins,
    defaultMaxAgeMs,
    dedupe: resolveDedupe(options.dedupe === undefined ? true : options.dedupe, methods),
  };
}

function checkStore(store: unknown): void {
  if (store === undefined) return;
  const named = store as Record<string, unknown> | null;
  const complete = ['get', 'createWriteStream', 'delete'].every((name) => typeof named?.[name] === 'function');
  if (!complete) throw invalid('cache.store', 'an object with get, createWriteStream, delete', store);
}

function checkOrigins(origins: unknown): void {
  if (origins === undefined) return;
  if (!Array.isArray(origins)) throw invalid('cache.origins', 'an array of origins', origins);
  for (const origin of origins) {
    if (origin instanceof RegExp) continue;
    // One that no request can have would switch the cache off without a word.
    const own = typeof origin === 'string' && URL.parse(origin)?.origin;
    if (!own || own !== origin.toLowerCase())
      throw invalid('cache.origins', "origins as 'https://shop.example'", origin);
  }
}

function resolveDedupe(dedupe: boolean | DedupeOptions, standard: readonly CacheMethod[]): ResolvedDedupe | undefined {
  if (dedupe === false) return undefined;
  const options = dedupe === true ? {} : dedupe;
  if (typeof options !== 'object' || options === null) throw invalid('cache.dedupe', 'a boolean or an object', options);
  knownOnly('cache.dedupe', options, KNOWN_DEDUPE);
  const { maxBufferSize = 16_777_216, skipHeaderNames = [], excludeHeaderNames = [] } = options;
  return {
    methods: methodsOf('cache.dedupe.methods', options.methods ?? standard),
    skipped: namesOf('cache.dedupe.skipHeaderNames', skipHeaderNames),
    excluded: namesOf('cache.dedupe.excludeHeaderNames', excludeHeaderNames),
    maxBufferSize: positive('cache.dedupe.maxBufferSize', maxBufferSize, 'bytes'),
  };
}

function methodsOf(option: string, methods: readonly CacheMethod[]): readonly CacheMethod[] {
  const known = Array.isArray(methods) && methods.length > 0 && methods.every((method) => METHODS.includes(method));
  if (!known) throw invalid(option, `one or more of ${METHODS.join(', ')}`, show(methods));
  return [...methods];
}

function namesOf(option: string, names: readonly string[]): ReadonlySet<string> {
  const good = Array.isArray(names) && names.every((name) => typeof name === 'string' && TOKEN.test(name));
  if (!good) throw invalid(option, 'an array of header names', show(names));
  return new Set(names.map((name) => name.toLowerCase()));
}

function show(list: unknown): unknown {
  return Array.isArray(list) ? list.join(', ') : list;
}
