import { ConfigError } from '../errors.ts';
import { showAs } from '../inspect.ts';
import { invalid } from '../validate.ts';

/** What a gateway URL is made from. */
export interface GatewayParams {
  /** Id of the session; `undefined` where the pool rotates on every request. */
  readonly session: string | undefined;
  /** The pool's own `params`: country, city, lifetime … */
  readonly params: Readonly<Record<string, string>>;
}

/** Makes the proxy URL of a session. */
export type GatewayFunction = (params: GatewayParams) => string | URL;

/** A proxy as a dialer needs it: the credentials apart from the address, and out of reach of whatever prints an object. */
export class ProxyEndpoint {
  readonly protocol: 'http:' | 'https:' | 'socks5:';
  readonly hostname: string;
  readonly port: number;
  /** `http://host:port`, without credentials: fit for messages. */
  readonly address: string;
  readonly #username: string;
  readonly #password: string;

  constructor(url: URL, protocol: ProxyEndpoint['protocol'], username: string, password: string) {
    this.protocol = protocol;
    this.hostname = url.hostname.startsWith('[') ? url.hostname.slice(1, -1) : url.hostname;
    this.port = url.port === '' ? DEFAULT_PORTS[protocol] : Number(url.port);
    this.address = `${protocol}//${url.hostname}:${this.port}`;
    this.#username = username;
    this.#password = password;
    showAs(this, () => this.address);
  }

  get username(): string {
    return this.#username;
  }

  get password(): string {
    return this.#password;
  }
}

const DEFAULT_PORTS = { 'http:': 80, 'https:': 443, 'socks5:': 1080 } as const;
const PLACEHOLDER = /\{([A-Za-z][A-Za-z0-9_]*)\}/g;

/**
 * Session ids that pass every provider's syntax, and no more: nothing that could end the credentials or a header, nor the
 * `-`, `_`, `.` or `;` by which gateways tell a user name's parts apart: `shop-1` and `shop-2` would both be session `shop`.
 */
const SESSION_ID = /^[A-Za-z0-9]{1,64}$/;

/** Checks an id that came from the caller. */
export function checkSessionId(option: string, id: unknown): string {
  if (typeof id !== 'string' || !SESSION_ID.test(id)) {
    throw invalid(option, '1 to 64 of A–Z a–z 0–9', id);
  }
  return id;
}

/** Parses a proxy URL; a bad one is a {@link ConfigError} that does not repeat it, since it may hold a password. */
export function parseProxyUrl(option: string, value: string | URL): ProxyEndpoint {
  let url: URL;
  try {
    url = new URL(value);
  } catch {
    throw new ConfigError(
      `${option}: expected a URL such as http://user:password@host:port, got something unparsable`,
      {
        option,
      },
    );
  }
  const protocol = url.protocol === 'socks:' || url.protocol === 'socks5h:' ? 'socks5:' : url.protocol;
  if (protocol !== 'http:' && protocol !== 'https:' && protocol !== 'socks5:') {
    // Not shown: of `user:password@host` the protocol is the user.
    throw new ConfigError(`${option}: expected an http://, https:// or socks5:// URL, got another`, { option });
  }
  if (url.hostname === '') throw new ConfigError(`${option}: expected a URL with a host, got none`, { option });
  return new ProxyEndpoint(url, protocol, decode(option, url.username), decode(option, url.password));
}

function decode(option: string, text: string): string {
  let decoded: string;
  try {
    decoded = decodeURIComponent(text);
  } catch {
    throw new ConfigError(`${option}: expected percent-encoded credentials, got a stray '%'`, { option });
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the very thing to be kept out
  if (/[\u0000-\u001f\u007f]/.test(decoded)) {
    throw new ConfigError(`${option}: expected credentials without control characters`, { option });
  }
  return decoded;
}

/** A gateway of the caller's own making, in the terms of a template: what it gives, and how it fails, is checked at every call. */
export function functionTemplate(option: string, gateway: GatewayFunction): GatewayTemplate {
  return {
    hasSession: true,
    url(params) {
      let url: unknown;
      try {
        url = gateway(params);
      } catch (cause) {
        throw new ConfigError(`${option}: expected the function to return a URL, but it threw`, { option, cause });
      }
      if (typeof url === 'string') return url;
      if (url instanceof URL) return url.href;
      const got = url instanceof Promise ? 'a promise' : url === null ? 'null' : `something of type ${typeof url}`;
      throw new ConfigError(`${option}: expected the function to return a URL, got ${got}`, { option });
    },
  };
}

/** A checked gateway template: which placeholders it has, and how to fill it. */
export interface GatewayTemplate {
  readonly hasSession: boolean;
  url(params: GatewayParams): string;
}

/**
 * Compiles a URL template such as `http://user-session-{session}:pass@gw.example.com:10000`.
 * Placeholders are `{session}` and whatever `params` names; a placeholder without a value is a {@link ConfigError}.
 */
export function compileTemplate(
  option: string,
  template: string,
  params: Readonly<Record<string, string>>,
): GatewayTemplate {
  if (template.trim() === '') throw invalid(option, 'a gateway URL', template);
  let hasSession = false;
  for (const [, name] of template.matchAll(PLACEHOLDER)) {
    if (name === 'session') hasSession = true;
    else if (params[name] === undefined) {
      throw new ConfigError(`${option}: expected a value for {${name}} in params, got none`, { option });
    }
  }
  const fill = (session: string): string =>
    template.replace(PLACEHOLDER, (_, name: string) => encodeURIComponent(name === 'session' ? session : params[name]));
  parseProxyUrl(option, fill('x'));
  return { hasSession, url: ({ session }) => fill(session ?? '') };
}
