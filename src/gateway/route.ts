import type { Random } from '../clock.ts';
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

/**
 * One proxy of a list, one exit: assumed, unless a header or a probe names it. By host and port, because providers
 * give one host's ports an exit each.
 */
export function staticEgress({ hostname, port }: ProxyEndpoint): string {
  return `${hostname.toLowerCase()}:${port}`;
}
