import type { ConnectionOptions } from 'node:tls';
import { ConfigError } from '../errors.ts';
import type { PoolType } from '../target/types.ts';
import { count, invalid, positive } from '../validate.ts';
import {
  compileTemplate,
  type GatewayFunction,
  type GatewayTemplate,
  type ProxyEndpoint,
  parseProxyUrl,
} from './template.ts';

/**
 * How the address of an exit is learnt.
 *
 * - `{ header }`: the gateway names it on its answer to CONNECT · `{ probeUrl }`: a "what is my IP" page, asked once a session
 * - `'session'`: assumed: one session, one IP, as the provider says
 */
export type EgressOptions = { readonly header: string } | { readonly probeUrl: string } | 'session';

/** One pool: exactly one of `gateway`, `proxies` and `direct`. */
export interface PoolOptions {
  /** @default 'residential' for a gateway, 'static' for proxies, 'direct' for direct */
  readonly type?: PoolType;
  /** A backconnect gateway: a URL template with `{session}`, or a function that makes the URL. */
  readonly gateway?: string | GatewayFunction;
  /** Values for the template's other placeholders. */
  readonly params?: Readonly<Record<string, string>>;
  /** URLs of proxies with one exit each. */
  readonly proxies?: readonly string[];
  /** The machine's own address. */
  readonly direct?: boolean;
  /** `session`: few exits, each kept for many requests. `per-request`: a new exit, and a new tunnel, for each. @default 'session' */
  readonly rotation?: 'session' | 'per-request';
  /** The most sessions at a time, an integer ≥ 1. @default 100, mobile 32 */
  readonly maxSessions?: number;
  /** How long a session is used, in milliseconds: no longer than the provider holds its IP. @default 600_000 */
  readonly sessionTtlMs?: number;
  /** Requests at a time, an integer ≥ 1. @default datacenter and direct 50, residential 30, mobile 16, static 20 a proxy */
  readonly concurrency?: number;
  /** How the exits' addresses are learnt. @default from the headers `x-brd-ip` or `x-egress-ip` when the gateway sends one, else 'session' */
  readonly egress?: EgressOptions;
  /** Exits behind a gateway that rotates on every request and does not name them; an integer ≥ 1. */
  readonly poolSize?: number;
  /** TLS with the targets. */
  readonly requestTls?: ConnectionOptions;
  /** TLS with the gateway. */
  readonly proxyTls?: ConnectionOptions;
}

export interface ResolvedPool {
  readonly name: string;
  readonly type: PoolType;
  readonly way:
    | { readonly kind: 'gateway'; url: GatewayTemplate['url'] }
    | { readonly kind: 'static'; readonly proxies: readonly ProxyEndpoint[] }
    | { readonly kind: 'direct' };
  readonly params: Readonly<Record<string, string>>;
  readonly rotation: 'session' | 'per-request';
  readonly maxSessions: number;
  readonly sessionTtlMs: number;
  readonly concurrency: number;
  /** Headers of the CONNECT answer to look for, in lower case. */
  readonly egressHeaders: readonly string[];
  readonly probeUrl: URL | undefined;
  readonly poolSize: number | undefined;
  readonly requestTls: ConnectionOptions | undefined;
  readonly proxyTls: ConnectionOptions | undefined;
}

interface Shorthand {
  readonly gateway?: string | GatewayFunction;
  readonly params?: Readonly<Record<string, string>>;
  readonly pools?: Readonly<Record<string, PoolOptions>>;
  readonly requestTls?: ConnectionOptions;
  readonly proxyTls?: ConnectionOptions;
}

const TYPES: readonly PoolType[] = ['direct', 'datacenter', 'residential', 'mobile', 'static'];
const CONCURRENCY = { direct: 50, datacenter: 50, residential: 30, mobile: 16, static: 20 } as const;
const KNOWN_HEADERS = ['x-brd-ip', 'x-egress-ip'];
const KNOWN = new Set([
  ...['type', 'gateway', 'params', 'proxies', 'direct', 'rotation', 'maxSessions', 'sessionTtlMs', 'concurrency'],
  ...['egress', 'poolSize', 'requestTls', 'proxyTls'],
]);

/** The pools of a manager; one direct pool when none is given. */
export function resolvePools(options: Shorthand): ResolvedPool[] {
  const { gateway, params, pools = {}, requestTls, proxyTls } = options;
  const tls = { ...(requestTls && { requestTls }), ...(proxyTls && { proxyTls }) };
  const resolved: ResolvedPool[] = [];
  if (gateway !== undefined) {
    if ('default' in pools) {
      throw new ConfigError('pools.default: expected another name, since `gateway` makes the pool "default"', {
        option: 'pools.default',
      });
    }
    resolved.push(resolvePool('default', 'gateway', { ...tls, gateway, ...(params && { params }) }));
  }
  for (const [name, pool] of Object.entries(pools)) {
    if (!/^[A-Za-z0-9_.-]{1,64}$/.test(name)) throw invalid('pools', 'names of 1 to 64 of A–Z a–z 0–9 . _ -', name);
    resolved.push(resolvePool(name, `pools.${name}.gateway`, { ...tls, ...pool }));
  }
  if (resolved.length === 0) resolved.push(resolvePool('direct', 'pools.direct', { ...tls, direct: true }));
  return resolved;
}

function resolvePool(name: string, gatewayOption: string, pool: PoolOptions): ResolvedPool {
  const at = `pools.${name}`;
  for (const key of Object.keys(pool)) {
    if (!KNOWN.has(key)) throw invalid(`${at}.${key}`, `one of ${[...KNOWN].join(', ')}`, 'an unknown option');
  }
  const ways = [pool.gateway !== undefined, pool.proxies !== undefined, pool.direct === true].filter(Boolean).length;
  if (ways !== 1) throw invalid(at, 'exactly one of gateway, proxies and direct', `${ways} of them`);
  const rotation = pool.rotation ?? 'session';
  if (rotation !== 'session' && rotation !== 'per-request') {
    throw invalid(`${at}.rotation`, "'session' or 'per-request'", rotation);
  }
  const { egress } = pool;
  const { egressHeaders, probeUrl } = resolveEgress(`${at}.egress`, egress);
  const { way, type: standardType } = resolveWay(gatewayOption, at, pool, rotation);
  if (rotation === 'per-request') checkRotating(at, pool);
  const type = pool.type ?? standardType;
  if (!TYPES.includes(type)) throw invalid(`${at}.type`, TYPES.join(', '), type);
  const standardConcurrency = CONCURRENCY[type] * (way.kind === 'static' && type === 'static' ? way.proxies.length : 1);
  return {
    name,
    type,
    way,
    params: pool.params ?? {},
    rotation,
    maxSessions: count(`${at}.maxSessions`, pool.maxSessions ?? (type === 'mobile' ? 32 : 100)),
    sessionTtlMs: positive(`${at}.sessionTtlMs`, pool.sessionTtlMs ?? 600_000, 'milliseconds'),
    concurrency: count(`${at}.concurrency`, pool.concurrency ?? standardConcurrency),
    egressHeaders,
    probeUrl,
    poolSize: pool.poolSize === undefined ? undefined : count(`${at}.poolSize`, pool.poolSize),
    requestTls: pool.requestTls,
    proxyTls: pool.proxyTls,
  };
}

function resolveWay(
  gatewayOption: string,
  at: string,
  pool: PoolOptions,
  rotation: 'session' | 'per-request',
): { way: ResolvedPool['way']; type: PoolType } {
  if (pool.direct === true) return { way: { kind: 'direct' }, type: 'direct' };
  if (pool.proxies !== undefined) {
    if (!Array.isArray(pool.proxies) || pool.proxies.length === 0) {
      throw invalid(`${at}.proxies`, 'at least one proxy URL', pool.proxies);
    }
    const proxies = pool.proxies.map((url: string, i: number) => parseProxyUrl(`${at}.proxies[${i}]`, url));
    return { way: { kind: 'static', proxies }, type: 'static' };
  }
  const { gateway } = pool;
  if (typeof gateway === 'function')
    return { way: { kind: 'gateway', url: (p) => String(gateway(p)) }, type: 'residential' };
  if (typeof gateway !== 'string') throw invalid(gatewayOption, 'a URL template or a function', gateway);
  const template = compileTemplate(gatewayOption, gateway, pool.params ?? {});
  if (rotation === 'session' && !template.hasSession) {
    throw new ConfigError(
      `${gatewayOption}: expected {session} in the template, since sessions are asked for; ` +
        "or say rotation: 'per-request' with egress: { header } or poolSize",
      { option: gatewayOption },
    );
  }
  return { way: { kind: 'gateway', url: template.url }, type: 'residential' };
}

/** Where every request leaves from another exit, budgets need its name on the CONNECT answer, or the number of exits. */
function checkRotating(at: string, pool: PoolOptions): void {
  if (pool.gateway === undefined)
    throw invalid(`${at}.rotation`, "'session' for static and direct pools", 'per-request');
  const named = typeof pool.egress === 'object' && 'header' in pool.egress;
  if (!named && pool.poolSize === undefined) {
    throw invalid(
      `${at}.poolSize`,
      "the number of exits, or egress: { header }, with rotation: 'per-request'",
      undefined,
    );
  }
}

function resolveEgress(
  at: string,
  egress: EgressOptions | undefined,
): Pick<ResolvedPool, 'egressHeaders' | 'probeUrl'> {
  if (egress === undefined) return { egressHeaders: KNOWN_HEADERS, probeUrl: undefined };
  if (egress === 'session') return { egressHeaders: [], probeUrl: undefined };
  if (typeof egress === 'object' && egress !== null && 'header' in egress) {
    if (typeof egress.header !== 'string' || !/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(egress.header)) {
      throw invalid(`${at}.header`, 'a header name', egress.header);
    }
    return { egressHeaders: [egress.header.toLowerCase()], probeUrl: undefined };
  }
  if (typeof egress === 'object' && egress !== null && 'probeUrl' in egress) {
    try {
      const probeUrl = new URL(egress.probeUrl);
      if (/^https?:$/.test(probeUrl.protocol)) return { egressHeaders: [], probeUrl };
    } catch {}
    throw invalid(`${at}.probeUrl`, 'an http or https URL', egress.probeUrl);
  }
  throw invalid(at, "{ header }, { probeUrl } or 'session'", egress);
}
