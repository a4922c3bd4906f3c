import type { ConnectionOptions } from 'node:tls';
import { ConfigError } from '../errors.ts';
import type { PoolType } from '../target/types.ts';
import { count, invalid, knownOnly, positive } from '../validate.ts';
import {
  compileTemplate,
  functionTemplate,
  type GatewayFunction,
  type GatewayParams,
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
  /**
   * Requests at a time, an integer ≥ 1. @default datacenter and direct 200, residential 100, mobile 50, static 50 a proxy; a target begins with
   * 50, 30, 16 and 20 of them, and comes to more while it stays quiet
   */
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
    | { readonly kind: 'gateway'; endpoint(params: GatewayParams): ProxyEndpoint }
    | { readonly kind: 'static'; readonly proxies: readonly ProxyEndpoint[] }
    | { readonly kind: 'direct' };
  readonly params: Readonly<Record<string, string>>;
  /** Its gateway is a function of the caller's. */
  readonly custom: boolean;
  readonly rotation: 'session' | 'per-request';
  readonly maxSessions: number;
  readonly sessionTtlMs: number;
  readonly concurrency: number;
  /** How many of them a target begins with. */
  readonly startConcurrency: number;
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
const START = { direct: 50, datacenter: 50, residential: 30, mobile: 16, static: 20 } as const;
const MOST = { direct: 200, datacenter: 200, residential: 100, mobile: 50, static: 50 } as const;
const KNOWN_HEADERS = ['x-brd-ip', 'x-egress-ip'];
const KNOWN = [
  ...['type', 'gateway', 'params', 'proxies', 'direct', 'rotation', 'maxSessions', 'sessionTtlMs', 'concurrency'],
  ...['egress', 'poolSize', 'requestTls', 'proxyTls'],
];

/** The pools of a manager; one direct pool when none is given. */
export function resolvePools(options: Shorthand): ResolvedPool[] {
  const { gateway, params, pools = {}, requestTls, proxyTls } = options;
  if (typeof pools !== 'object' || pools === null || Array.isArray(pools)) throw invalid('pools', 'an object', pools);
  if (params !== undefined && gateway === undefined) throw invalid('params', 'none without gateway', params);
  const tls = { ...(requestTls && { requestTls }), ...(proxyTls && { proxyTls }) };
  checkTls('requestTls', requestTls);
  checkTls('proxyTls', proxyTls);
  const resolved: ResolvedPool[] = [];
  if (gateway !== undefined) {
    if ('default' in pools) {
      throw new ConfigError('pools.default: expected another name, since `gateway` makes the pool "default"', {
        option: 'pools.default',
      });
    }
    resolved.push(resolvePool('default', 'gateway', { gateway, params }, tls));
  }
  for (const [name, pool] of Object.entries(pools)) {
    if (!/^[A-Za-z0-9_.-]{1,64}$/.test(name)) throw invalid('pools', 'names of 1 to 64 of A–Z a–z 0–9 . _ -', name);
    resolved.push(resolvePool(name, `pools.${name}.gateway`, pool, tls));
  }
  if (resolved.length === 0) resolved.push(resolvePool('direct', 'pools.direct', { direct: true }, tls));
  return resolved;
}

function resolvePool(
  name: string,
  gatewayOption: string,
  pool: PoolOptions,
  tls: Pick<PoolOptions, 'requestTls' | 'proxyTls'>,
): ResolvedPool {
  const at = `pools.${name}`;
  knownOnly(at, pool, KNOWN);
  const ways = [pool.gateway !== undefined, pool.proxies !== undefined, pool.direct === true].filter(Boolean).length;
  if (ways !== 1) throw invalid(at, 'exactly one of gateway, proxies and direct', ways);
  checkTls(`${at}.requestTls`, pool.requestTls);
  checkTls(`${at}.proxyTls`, pool.proxyTls);
  const rotation = pool.rotation ?? 'session';
  if (rotation !== 'session' && rotation !== 'per-request') {
    throw invalid(`${at}.rotation`, "'session' or 'per-request'", rotation);
  }
  const params = checkParams(gatewayOption.replace(/gateway$/, 'params'), pool.params);
  const { egressHeaders, probeUrl } = resolveEgress(`${at}.egress`, pool.egress);
  const { way, type: standardType } = resolveWay(gatewayOption, at, pool, rotation);
  if (rotation === 'per-request') checkRotating(gatewayOption, at, pool);
  const poolSize = pool.poolSize === undefined ? undefined : count(`${at}.poolSize`, pool.poolSize);
  // An exit that rotates is counted by its name or by the size of the pool, never by both.
  const unseen = rotation === 'per-request' && !named(pool);
  const type = pool.type ?? standardType;
  if (!TYPES.includes(type)) throw invalid(`${at}.type`, TYPES.join(', '), type);
  const each = way.kind === 'static' && type === 'static' ? way.proxies.length : 1;
  const concurrency = count(`${at}.concurrency`, pool.concurrency ?? MOST[type] * each);
  return {
    name,
    type,
    way,
    params,
    custom: typeof pool.gateway === 'function',
    rotation,
    maxSessions: count(`${at}.maxSessions`, pool.maxSessions ?? (type === 'mobile' ? 32 : 100)),
    sessionTtlMs: positive(`${at}.sessionTtlMs`, pool.sessionTtlMs ?? 600_000, 'milliseconds'),
    concurrency,
    // What somebody asked for by number is where it begins.
    startConcurrency: pool.concurrency ?? Math.min(concurrency, START[type] * each),
    egressHeaders: unseen ? [] : egressHeaders,
    probeUrl,
    poolSize: unseen ? poolSize : undefined,
    requestTls: pool.requestTls ?? tls.requestTls,
    proxyTls: pool.proxyTls ?? tls.proxyTls,
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
      // A lone URL is not shown: it has a password in it.
      const got = Array.isArray(pool.proxies) ? 'none' : `something of type ${typeof pool.proxies}`;
      throw new ConfigError(`${at}.proxies: expected an array of at least one proxy URL, got ${got}`, {
        option: `${at}.proxies`,
      });
    }
    const proxies = pool.proxies.map((url: string, i: number) => parseProxyUrl(`${at}.proxies[${i}]`, url));
    return { way: { kind: 'static', proxies }, type: 'static' };
  }
  const { gateway } = pool;
  if (typeof gateway !== 'string' && typeof gateway !== 'function') {
    throw invalid(gatewayOption, 'a URL template or a function', gateway);
  }
  const template =
    typeof gateway === 'function'
      ? functionTemplate(gatewayOption, gateway)
      : compileTemplate(gatewayOption, gateway, pool.params ?? {});
  if (rotation === 'session' && !template.hasSession) {
    throw new ConfigError(
      `${gatewayOption}: expected {session} in the template, since sessions are asked for; ` +
        "or say rotation: 'per-request' with egress: { header } or poolSize",
      { option: gatewayOption },
    );
  }
  const endpoint = (params: GatewayParams): ProxyEndpoint => parseProxyUrl(gatewayOption, template.url(params));
  return { way: { kind: 'gateway', endpoint }, type: 'residential' };
}

function checkTls(option: string, value: unknown): void {
  if (value !== undefined && (typeof value !== 'object' || value === null)) {
    throw invalid(option, 'an object of TLS options', value);
  }
}

function checkParams(option: string, params: unknown = {}): Readonly<Record<string, string>> {
  if (typeof params !== 'object' || params === null) throw invalid(option, 'an object', params);
  for (const [name, value] of Object.entries(params)) {
    if (typeof value !== 'string') throw invalid(`${option}.${name}`, 'a string', value);
  }
  return params as Readonly<Record<string, string>>;
}

const named = ({ egress }: PoolOptions): boolean => typeof egress === 'object' && 'header' in egress;

/** Where every request leaves from another exit, budgets need its name on the CONNECT answer, or the number of exits. */
function checkRotating(gatewayOption: string, at: string, pool: PoolOptions): void {
  if (pool.gateway === undefined)
    throw invalid(`${at}.rotation`, "'session' for static and direct pools", 'per-request');
  if (typeof pool.gateway === 'string' && pool.gateway.includes('{session}')) {
    throw new ConfigError(`${gatewayOption}: expected no {session} in the template with rotation: 'per-request'`, {
      option: gatewayOption,
    });
  }
  if (typeof pool.egress === 'object' && 'probeUrl' in pool.egress) {
    throw invalid(`${at}.egress`, "{ header }, or poolSize instead, with rotation: 'per-request'", '{ probeUrl }');
  }
  if (!named(pool) && pool.poolSize === undefined) {
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
