import { isIP } from 'node:net';
import type { Dispatcher } from 'undici';
import type { OriginTunnels } from './tunnels.ts';

/** The tunnels to one origin, and what its TLS name would be by the agent: none for an address. */
interface Known {
  readonly tunnels: OriginTunnels;
  readonly servername: string | undefined;
}

/**
 * The tunnels of one route by origin. undici's agents look at headers, copy them and the options, and parse the origin, on every
 * request: an eighth of what a paced request costs. Where the tunnels are known it goes straight to them.
 */
export class Origins {
  private readonly known = new Map<string, Known>();
  /** The agent adds a host header, from which undici takes the name for TLS: another name would cost another handshake. */
  private readonly named: boolean;

  constructor(named: boolean) {
    this.named = named;
  }

  /** The agent has made these for the origin. */
  add(origin: string | URL, tunnels: OriginTunnels): OriginTunnels {
    const { hostname } = new URL(origin);
    const name = isIP(hostname.replace(/^\[|\]$/g, '')) ? '' : hostname;
    this.known.set(String(origin), { tunnels, servername: this.named ? name : undefined });
    return tunnels;
  }

  /** The tunnels for a request; undefined where the agent has to see it: a new origin, or headers that it acts upon, unless it is plain. */
  for(options: Dispatcher.DispatchOptions & { servername?: string | null }, plain = false): OriginTunnels | undefined {
    const { origin, headers } = options;
    if (typeof origin !== 'string') return undefined;
    const known = this.known.get(origin);
    if (known === undefined || (!plain && mayConcernAgent(headers))) return undefined;
    if (known.tunnels.ended) {
      this.known.delete(origin);
      return undefined;
    }
    if (known.servername !== undefined) options.servername ??= known.servername;
    return known.tunnels;
  }
}

/** `proxy-authorization` would go to the target, which it is not for: the agent throws. Of headers that have to be iterated nothing is known. */
function mayConcernAgent(headers: Dispatcher.DispatchOptions['headers']): boolean {
  if (headers === undefined || headers === null) return false;
  if (Array.isArray(headers)) {
    for (let i = 0; i < headers.length; i += 2) if (concernsAgent(String(headers[i]))) return true;
    return false;
  }
  if (Symbol.iterator in headers) return true;
  for (const name in headers) if (concernsAgent(name)) return true;
  return false;
}

function concernsAgent(name: string): boolean {
  if (name.length !== 'host'.length && name.length !== 'proxy-authorization'.length) return false;
  const lower = name.toLowerCase();
  return lower === 'host' || lower === 'proxy-authorization';
}
