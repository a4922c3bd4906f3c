import { isIP } from 'node:net';
import { invalid } from '../validate.ts';
import { isLoopback, plainIp } from './sockets.ts';

/** A place on this machine. */
export interface Destination {
  readonly host: string;
  readonly port: number;
}

/**
 * Where a name leads: an address (`'127.0.0.1:8080'`), a URL (`target.url`), or its parts. Without a port, the one asked for.
 */
export type HostMapping = string | { readonly host: string; readonly port?: number };

interface Mapped {
  readonly host: string;
  readonly port: number | undefined;
}

/** Finds the loopback address for a name. Everything that is neither mapped nor loopback is refused: no test leaves the machine. */
export class Destinations {
  private readonly map = new Map<string, Mapped>();

  constructor(hosts: Readonly<Record<string, HostMapping>>) {
    for (const [name, value] of Object.entries(hosts))
      this.map.set(name.toLowerCase(), mappedOf(`hosts['${name}']`, value));
  }

  resolve(name: string, port: number): Destination | undefined {
    const host = bare(name.toLowerCase());
    const mapped = this.map.get(`${host}:${port}`) ?? this.map.get(host) ?? this.wildcard(host);
    if (mapped !== undefined) return { host: mapped.host, port: mapped.port ?? port };
    if (host === 'localhost' || host.endsWith('.localhost')) return { host: '127.0.0.1', port };
    const ip = plainIp(host);
    return isLoopback(ip) ? { host: ip, port } : undefined;
  }

  /** `*.shop.test`, then `*.test`. */
  private wildcard(host: string): Mapped | undefined {
    for (let dot = host.indexOf('.'); dot >= 0; dot = host.indexOf('.', dot + 1)) {
      const mapped = this.map.get(`*${host.slice(dot)}`);
      if (mapped !== undefined) return mapped;
    }
    return undefined;
  }
}

/** Splits `name:port`, `[::1]:port`; `undefined` when it is neither. */
export function splitAuthority(text: string): Destination | undefined {
  const match = /^(\[[0-9a-f:.]+\]|[^:[\]/@\s]+):(\d{1,5})$/i.exec(text);
  if (match === null) return undefined;
  const port = Number(match[2]);
  return port >= 1 && port <= 65_535 ? { host: bare(match[1]), port } : undefined;
}

/** Without the brackets of an IPv6 address and the dot of a full name. */
function bare(host: string): string {
  return host.replace(/^\[|\]$/g, '').replace(/\.$/, '');
}

function mappedOf(option: string, value: HostMapping): Mapped {
  const { host, port } = typeof value === 'string' ? parse(value) : value;
  const ip = host === 'localhost' ? '127.0.0.1' : host;
  if (typeof ip !== 'string' || isIP(ip) === 0 || !isLoopback(ip)) throw invalid(option, 'a loopback address', value);
  if (port !== undefined && !(Number.isInteger(port) && port >= 1 && port <= 65_535)) {
    throw invalid(option, 'a port from 1 to 65535', port);
  }
  return { host: ip, port };
}

function parse(text: string): { host: string; port?: number } {
  if (text.includes('://') && URL.canParse(text)) {
    const url = new URL(text);
    return { host: bare(url.hostname), port: Number(url.port) || (url.protocol === 'https:' ? 443 : 80) };
  }
  return splitAuthority(text) ?? { host: bare(text) };
}
