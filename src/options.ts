import type { ConnectionOptions } from 'node:tls';
import {
  type Adaptation,
  type AdaptiveOptions,
  type BreakerOptions,
  type HealthOptions,
  resolveAdaptation,
} from './adaptation.ts';
import { type CacheOptions, type ResolvedCache, resolveCache } from './cache/options.ts';
import { type Clock, type Random, systemClock } from './clock.ts';
import type { Carrier } from './gateway/agents.ts';
import type { PoolRoute } from './gateway/pool.ts';
import { type PoolOptions, type ResolvedPool, resolvePools } from './gateway/pool-options.ts';
import type { GatewayFunction } from './gateway/template.ts';
import type { Classify } from './outcome.ts';
import {
  type ResolvedRetry,
  type ResolvedTimeouts,
  type RetryOptions,
  resolveHeaders,
  resolveRetry,
  resolveTimeouts,
  type TimeoutOptions,
} from './request-options.ts';
import { type MemoryStore, memoryStore } from './store/memory.ts';
import type { Store } from './store/store.ts';
import { type TargetClassifier, targetClassifier } from './target/classifier.ts';
import { builtinTiers } from './target/tiers.ts';
import type { TargetRule, TierOptions } from './target/types.ts';
import { hasMethods, invalid, knownOnly } from './validate.ts';

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
  /**
   * Keeps responses that may be kept, and sends equal requests under way once: a hit, or a request that joins another, takes no
   * permit and spends nothing. Requests on a session, through a pool other than the usual one, or with credentials (`authorization`,
   * `cookie`) take no part. A response with another verdict than `ok` is never kept.
   * @default false
   */
  readonly cache?: boolean | CacheOptions;
  /** The caller's own verdict on a response, asked first; `undefined` leaves it to the built-in. */
  readonly classify?: Classify;
  /** How budgets and concurrency follow what targets tolerate; `false` keeps them as they are. @default true */
  readonly adaptive?: boolean | AdaptiveOptions;
  /** When an egress is left out at a target for its health; `false` for never. @default true */
  readonly health?: boolean | HealthOptions;
  /** When a target, or a pool's gateway, is left alone because it is down; `false` for never. @default true */
  readonly breaker?: boolean | BreakerOptions;
  /**
   * Whether HTML pages with 200 or 202 are looked at too, for what a block says; refusals always are. The response is handed over once
   * the first 8 KB of its body are there, decoded, or all of it, or a second has passed since its headers. @default false
   */
  readonly inspectBody?: boolean;
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
  readonly retry: ResolvedRetry;
  readonly timeouts: ResolvedTimeouts;
  readonly headers: readonly (readonly [string, string])[];
  readonly cache: ResolvedCache | undefined;
  readonly classify: Classify | undefined;
  readonly adaptation: Adaptation;
  readonly inspectBody: boolean;
  readonly clock: Clock;
  readonly random: Random;
  readonly transport: Transport | undefined;
}

const KNOWN = [
  ...['gateway', 'params', 'pools', 'targets', 'tiers', 'defaultTier', 'store', 'retry', 'timeouts', 'headers'],
  ...['cache', 'classify', 'inspectBody', 'adaptive', 'health', 'breaker', 'requestTls', 'proxyTls', 'clock', 'random'],
  'transport',
];
const KNOWN_RULE = ['match', 'name', 'tier', 'pools', 'budget', 'rate', 'concurrency', 'scope'];

/** Checks everything a caller can get wrong, and fills in the defaults. */
export function resolveOptions(options: ProxyManagerOptions): ResolvedOptions {
  knownOnly('options', options, KNOWN);
  for (const name of ['random', 'classify', 'transport'] as const) {
    if (options[name] !== undefined && typeof options[name] !== 'function') {
      throw invalid(name, 'a function', options[name]);
    }
  }
  if (options.inspectBody !== undefined && typeof options.inspectBody !== 'boolean') {
    throw invalid('inspectBody', 'true or false', options.inspectBody);
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
    cache: resolveCache(options.cache),
    classify: options.classify,
    adaptation: resolveAdaptation(options),
    inspectBody: options.inspectBody ?? false,
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
    const rates: readonly unknown[] = Array.isArray(rule.rate) ? rule.rate : rule.rate === undefined ? [] : [rule.rate];
    for (const [n, rate] of rates.entries()) {
      const at = Array.isArray(rule.rate) ? `targets[${i}].rate[${n}]` : `targets[${i}].rate`;
      knownOnly(at, rate, ['limit', 'windowMs', 'burst', 'path']);
    }
    for (const pool of rule.pools ?? []) {
      if (!pools.has(pool)) throw invalid(`targets[${i}].pools`, `names among ${[...pools].join(', ')}`, pool);
    }
  }
  for (const [name, tier] of Object.entries(tiers)) {
    knownOnly(`tiers.${name}`, tier, ['budget', 'poolType']);
    if (tier.budget !== undefined) knownOnly(`tiers.${name}.budget`, tier.budget, ['limit', 'windowMs', 'spacing']);
  }
}
