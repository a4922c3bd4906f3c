import type { ConnectionOptions } from 'node:tls';
import { type Clock, type Random, systemClock } from './clock.ts';
import type { Carrier } from './gateway/agents.ts';
import type { PoolRoute } from './gateway/pool.ts';
import { type PoolOptions, type ResolvedPool, resolvePools } from './gateway/pool-options.ts';
import type { GatewayFunction } from './gateway/template.ts';
import type { Classify } from './outcome.ts';
import { type MemoryStore, memoryStore } from './store/memory.ts';
import type { Store } from './store/store.ts';
import { type TargetClassifier, targetClassifier } from './target/classifier.ts';
import { builtinTiers } from './target/tiers.ts';
import type { TargetRule, TierOptions } from './target/types.ts';
import { count, invalid, knownOnly, nonNegative, positive, within } from './validate.ts';

/** How failed attempts are tried again. */
export interface RetryOptions {
  /** Attempts in all, the first included; an integer ≥ 1. @default 5 */
  readonly attempts?: number;
  /** Base of the full-jitter backoff, in milliseconds, ≥ 0. @default 1000 */
  readonly baseMs?: number;
  /** The longest backoff, in milliseconds. @default 60_000 */
  readonly capMs?: number;
  /**
   * Methods that may be sent twice. Others are tried again only when the target never saw them.
   * @default ['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE', 'QUERY']
   */
  readonly methods?: readonly string[];
  /** Extra sends allowed over all requests of this manager, as a share of them, 0 to 10; besides 10 a second. @default 0.2 */
  readonly ratio?: number;
  /** A Retry-After beyond this is not waited for: the response is handed over instead. Milliseconds. @default 300_000 */
  readonly maxRetryAfterMs?: number;
}

/** Time limits, in milliseconds. */
export interface TimeoutOptions {
  /** To an open tunnel, the gateway's answer and the TLS handshake with the target included. @default 10_000 */
  readonly connectMs?: number;
  /** From the request to the response's headers; undici looks about twice a second. @default 30_000 */
  readonly headersMs?: number;
  /** Between two pieces of the body; undici looks about twice a second. @default 30_000 */
  readonly bodyMs?: number;
  /** For everything: waiting, all attempts and the body. @default none */
  readonly totalMs?: number;
  /** In the queue, an attempt. @default none */
  readonly queueMs?: number;
}

export interface ProxyManagerOptions {
  /** Shorthand for one residential pool: a URL template or a function. */
  readonly gateway?: string | GatewayFunction;
  /** Values for the placeholders of `gateway`. */
  readonly params?: Readonly<Record<string, string>>;
  /** Named pools. Without any, and without a gateway, requests go out directly. */
  readonly pools?: Readonly<Record<string, PoolOptions>>;
  /** Rules for targets, in any order: the most specific one matches. */
  readonly targets?: readonly TargetRule[];
  /** Overrides of, and additions to, the built-in tiers. */
  readonly tiers?: Readonly<Record<string, TierOptions>>;
  /** Tier of targets without a rule. @default 'mid', at 15 a minute */
  readonly defaultTier?: string;
  /** Where the state lives. @default memoryStore() */
  readonly store?: Store;
  readonly retry?: RetryOptions;
  readonly timeouts?: TimeoutOptions;
  /** Sent with every request that does not set them itself. */
  readonly headers?: Readonly<Record<string, string>>;
  /** The caller's own verdict on a response, asked first; `undefined` leaves it to the built-in. */
  readonly classify?: Classify;
  /** TLS with the targets, for all pools. */
  readonly requestTls?: ConnectionOptions;
  /** TLS with the gateways, for all pools. */
  readonly proxyTls?: ConnectionOptions;
  /** @default the system's */
  readonly clock?: Clock;
  /** Jitter and session ids. @default Math.random */
  readonly random?: Random;
  /** What carries the requests, in place of sockets: for simulations. */
  readonly transport?: Transport;
}

/** Makes the carrier of a route. */
export type Transport = (route: PoolRoute) => Carrier;

export interface ResolvedOptions {
  readonly pools: readonly ResolvedPool[];
  readonly classifier: TargetClassifier;
  readonly tiers: (name: string) => TargetClassifier;
  readonly tierNames: ReadonlySet<string>;
  readonly store: Store | MemoryStore;
  readonly ownsStore: boolean;
  readonly retry: Required<Omit<RetryOptions, 'methods'>> & { readonly methods: ReadonlySet<string> };
  readonly timeouts: {
    readonly connectMs: number;
    readonly headersMs: number;
    readonly bodyMs: number;
    readonly totalMs: number | undefined;
    readonly queueMs: number | undefined;
  };
  readonly headers: readonly (readonly [string, string])[];
  readonly classify: Classify | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly transport: Transport | undefined;
}

const KNOWN = [
  ...['gateway', 'params', 'pools', 'targets', 'tiers', 'defaultTier', 'store', 'retry', 'timeouts', 'headers'],
  ...['classify', 'requestTls', 'proxyTls', 'clock', 'random', 'transport'],
];
const KNOWN_RETRY = ['attempts', 'baseMs', 'capMs', 'methods', 'ratio', 'maxRetryAfterMs'];
const KNOWN_TIMEOUTS = ['connectMs', 'headersMs', 'bodyMs', 'totalMs', 'queueMs'];
const KNOWN_RULE = ['match', 'name', 'tier', 'pools', 'budget', 'rate', 'concurrency', 'scope'];
const RETRY_METHODS = ['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE', 'QUERY'];
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** Checks everything a caller can get wrong, and fills in the defaults. */
export function resolveOptions(options: ProxyManagerOptions): ResolvedOptions {
  knownOnly('options', options, KNOWN);
  for (const name of ['random', 'classify', 'transport'] as const) {
    if (options[name] !== undefined && typeof options[name] !== 'function') {
      throw invalid(name, 'a function', options[name]);
    }
  }
  hasMethods('clock', options.clock, ['now', 'wallNow', 'setTimeout', 'clearTimeout']);
  hasMethods('store', options.store, ['reserve', 'bind', 'settle', 'cancel', 'inspect', 'close']);
  const clock = options.clock ?? systemClock;
  const random = options.random ?? Math.random;
  const pools = resolvePools(options);
  const shared = {
    ...(options.targets === undefined ? undefined : { rules: options.targets, rulesOption: 'targets' }),
    ...(options.tiers === undefined ? undefined : { tiers: options.tiers }),
  };
  const { defaultTier } = options;
  const classifier = targetClassifier({ ...shared, ...(defaultTier !== undefined && { defaultTier }) });
  checkRules(options, new Set(pools.map((pool) => pool.name)));
  const byTier = new Map<string, TargetClassifier>();
  return {
    pools,
    classifier,
    tiers(name) {
      let own = byTier.get(name);
      if (own === undefined) {
        own = targetClassifier({ ...(options.tiers && { tiers: options.tiers }), defaultTier: name });
        byTier.set(name, own);
      }
      return own;
    },
    tierNames: new Set([...Object.keys(builtinTiers), ...Object.keys(options.tiers ?? {})]),
    store: options.store ?? memoryStore({ clock, random }),
    ownsStore: options.store === undefined,
    retry: resolveRetry(options.retry),
    timeouts: resolveTimeouts(options.timeouts),
    headers: resolveHeaders(options.headers),
    classify: options.classify,
    clock,
    random,
    transport: options.transport,
  };
}

/** What the classifier, which has checked the rest, does not look at: the pools, and names it does not know. */
function checkRules({ targets = [], tiers = {} }: ProxyManagerOptions, pools: ReadonlySet<string>): void {
  for (const [i, rule] of targets.entries()) {
    knownOnly(`targets[${i}]`, rule, KNOWN_RULE);
    if (rule.budget !== undefined) knownOnly(`targets[${i}].budget`, rule.budget, ['limit', 'windowMs', 'spacing']);
    if (rule.rate !== undefined) knownOnly(`targets[${i}].rate`, rule.rate, ['limit', 'windowMs', 'burst']);
    for (const pool of rule.pools ?? []) {
      if (!pools.has(pool)) throw invalid(`targets[${i}].pools`, `names among ${[...pools].join(', ')}`, pool);
    }
  }
  for (const [name, tier] of Object.entries(tiers)) {
    knownOnly(`tiers.${name}`, tier, ['budget', 'poolType']);
    if (tier.budget !== undefined) knownOnly(`tiers.${name}.budget`, tier.budget, ['limit', 'windowMs', 'spacing']);
  }
}

function hasMethods(option: string, value: unknown, methods: readonly string[]): void {
  if (value === undefined) return;
  const complete = methods.every((name) => typeof (value as Record<string, unknown> | null)?.[name] === 'function');
  if (!complete) throw invalid(option, `an object with ${methods.join(', ')}`, value);
}

function resolveRetry(retry: RetryOptions = {}): ResolvedOptions['retry'] {
  knownOnly('retry', retry, KNOWN_RETRY);
  const baseMs = nonNegative('retry.baseMs', retry.baseMs ?? 1000, 'milliseconds');
  const capMs = nonNegative('retry.capMs', retry.capMs ?? 60_000, 'milliseconds');
  if (capMs < baseMs) throw invalid('retry.capMs', `milliseconds ≥ retry.baseMs (${baseMs})`, capMs);
  const methods = retry.methods ?? RETRY_METHODS;
  if (!Array.isArray(methods) || !methods.every((method) => typeof method === 'string' && TOKEN.test(method))) {
    throw invalid('retry.methods', 'an array of HTTP methods', methods);
  }
  return {
    attempts: count('retry.attempts', retry.attempts ?? 5),
    baseMs,
    capMs,
    methods: new Set(methods.map((method) => method.toUpperCase())),
    ratio: within('retry.ratio', retry.ratio ?? 0.2, 0, 10),
    maxRetryAfterMs: nonNegative('retry.maxRetryAfterMs', retry.maxRetryAfterMs ?? 300_000, 'milliseconds'),
  };
}

function resolveTimeouts(timeouts: TimeoutOptions = {}): ResolvedOptions['timeouts'] {
  knownOnly('timeouts', timeouts, KNOWN_TIMEOUTS);
  const ms = (name: keyof TimeoutOptions, standard: number): number =>
    Math.ceil(positive(`timeouts.${name}`, timeouts[name] ?? standard, 'milliseconds'));
  return {
    connectMs: ms('connectMs', 10_000),
    headersMs: ms('headersMs', 30_000),
    bodyMs: ms('bodyMs', 30_000),
    totalMs: timeouts.totalMs === undefined ? undefined : ms('totalMs', 0),
    queueMs: timeouts.queueMs === undefined ? undefined : ms('queueMs', 0),
  };
}

function resolveHeaders(headers: Readonly<Record<string, string>> = {}): [string, string][] {
  // Headers, a Map or a list of pairs have no keys: their content would be lost without a word.
  if (typeof headers !== 'object' || headers === null || Symbol.iterator in headers) {
    throw invalid('headers', 'an object of names and values', headers);
  }
  return Object.entries(headers).map(([name, value]) => {
    if (!TOKEN.test(name)) throw invalid('headers', 'valid header names', name);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the very thing to be kept out
    if (typeof value !== 'string' || /[\u0000-\u0008\u000a-\u001f\u007f]/.test(value)) {
      throw invalid(`headers.${name}`, 'a string without control characters', typeof value === 'string' ? '…' : value);
    }
    return [name.toLowerCase(), value];
  });
}
