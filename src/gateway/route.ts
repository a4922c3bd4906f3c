import type { Random } from '../clock.ts';
import type { Route } from '../store/store.ts';
import type { ResolvedPool } from './pool-options.ts';
import type { ProxyEndpoint } from './template.ts';

/** A session of a pool with the proxy that leads to it; `endpoint` is undefined for a direct route. */
export interface PoolRoute extends Route {
  readonly endpoint: ProxyEndpoint | undefined;
  /** Its exit was named by the gateway or a probe, not assumed. */
  verified: boolean;
  /** What the probe page said its exit is. */
  probed: string | undefined;
}

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789';
/** Eight of 36: what the strictest providers take, and 2.8 · 10¹² of them. */
const SESSION_LENGTH = 8;

/** An id for a new session. */
export function newSessionId(random: Random): string {
  let id = '';
  for (let i = 0; i < SESSION_LENGTH; i++) id += ALPHABET[Math.floor(random() * ALPHABET.length)];
  return id;
}

/**
 * One proxy of a list, one exit: assumed, unless a header or a probe names it. By host and port, because providers
 * give one host's ports an exit each.
 */
export function staticEgress({ hostname, port }: ProxyEndpoint): string {
  return `${hostname.toLowerCase()}:${port}`;
}

/** What a route is made of; where it leads out is `egress`, unless that is given by the way itself. */
export interface RouteParts {
  readonly session: string | undefined;
  readonly endpoint: ProxyEndpoint | undefined;
  readonly expiresAt: number;
  readonly shared: boolean;
  readonly seq: number;
  readonly egress?: string | undefined;
  readonly weight?: number;
}

export function newRoute({ name, way }: Pick<ResolvedPool, 'name' | 'way'>, parts: RouteParts): PoolRoute {
  const { session, endpoint, expiresAt, shared, seq, egress, weight = 1 } = parts;
  // A static proxy and the machine itself have one egress whatever the session is called.
  const fixed = endpoint === undefined ? 'direct' : way.kind === 'static' ? staticEgress(endpoint) : undefined;
  // The same in every process that shares it.
  const id = `${name}/${session ?? fixed ?? 'rotating'}`;
  return {
    id,
    pool: name,
    session,
    seq,
    egress: egress ?? fixed ?? id,
    expiresAt,
    weight,
    shared,
    trial: false,
    closed: false,
    endpoint,
    verified: endpoint === undefined,
    probed: undefined,
  };
}

/** The proxy for a session; of a list any one, but another than `not` where there is one. */
export function endpointFor(
  { way, params }: Pick<ResolvedPool, 'way' | 'params'>,
  random: Random,
  session: string,
  not?: ProxyEndpoint,
): ProxyEndpoint | undefined {
  if (way.kind === 'direct') return undefined;
  if (way.kind === 'gateway') return way.endpoint({ session, params });
  const others = not && way.proxies.filter((proxy) => staticEgress(proxy) !== staticEgress(not));
  const proxies = others?.length ? others : way.proxies;
  return proxies[Math.floor(random() * proxies.length)];
}
