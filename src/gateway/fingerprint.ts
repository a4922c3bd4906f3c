import { createHash } from 'node:crypto';
import type { ResolvedPool } from './pool-options.ts';
import { staticEgress } from './route.ts';
import type { ProxyEndpoint } from './template.ts';

/** What no session is called, in the place of one. */
const ANY_SESSION = 'session';

/**
 * The name a pool's routes are shared by: two workers whose pools of one name lead elsewhere (another gateway, another
 * country, another list) must not take each other's sessions for their own. Passwords are left out: they may differ, and a
 * hash of one is a secret told.
 */
export function sharedKey({ name, way, params, rotation, custom }: ResolvedPool): string {
  let parts: string[] = [];
  if (way.kind === 'static') parts = way.proxies.map((proxy) => `${proxy.protocol}${staticEgress(proxy)}`).sort();
  // A function of the caller's is not called just to look at what it says.
  else if (way.kind === 'gateway' && !custom) {
    parts = [identity(way.endpoint({ session: ANY_SESSION, params })), rotation];
  }
  if (parts.length === 0) return name;
  return `${name}@${createHash('sha256').update(parts.join('\n')).digest('base64url').slice(0, 10)}`;
}

function identity({ address, username }: ProxyEndpoint): string {
  return `${address}\n${username}`;
}
