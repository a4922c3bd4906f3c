import type { Random } from '../clock.ts';
import { egressKey } from '../egress-key.ts';
import type { Route } from '../store/store.ts';
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

/** A proxy named by address leaves from it, unless a header or probe says otherwise; one named by host may be a gateway with a port an exit. */
export function staticEgress(endpoint: ProxyEndpoint): string {
  const key = egressKey(endpoint.hostname);
  return key === endpoint.hostname && !/^\d+\.\d+\.\d+\.\d+$/.test(key) ? `${endpoint.hostname}:${endpoint.port}` : key;
}
