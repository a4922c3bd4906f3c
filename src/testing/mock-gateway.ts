import { type Clock, seededRandom, systemClock } from '../clock.ts';
import { invalid, positive } from '../validate.ts';
import { type Authenticate, parseAnyUser, parseUser } from './credentials.ts';
import { type Delay, delayOf } from './delays.ts';
import { Destinations, type HostMapping } from './destinations.ts';
import { type Assign, Exits, exitList, type Rotation } from './exits.ts';
import { type Fault, Faults } from './faults.ts';
import { type ConnectRecord, GatewayCore } from './gateway-core.ts';
import { httpGateway } from './http-gateway.ts';
import { authority, checkBindable, isLoopback, listen, unlisten } from './sockets.ts';
import { socksGateway } from './socks-gateway.ts';
import type { TlsFiles } from './target-server.ts';

/** Options of {@link mockGateway}. */
export interface MockGatewayOptions {
  /**
   * The exits: a number (127.0.1.1, 127.0.1.2, …, up to 1,000,000) or a list of loopback addresses. Linux can send from all
   * of 127.0.0.0/8; macOS, by default, only from `['127.0.0.1']`. @default 10
   */
  readonly exits?: number | readonly string[];
  /**
   * How long an exit is kept. `sticky`: as long as the session of the user name (`user-session-abc`); each connection without
   * one gets another · `per-connection` and `per-request` pay no heed to sessions. @default 'sticky'
   */
  readonly rotation?: Rotation;
  /** How a new session gets its exit. Two sessions may share one, except with `round-robin` while exits last. @default 'random' */
  readonly assign?: Assign;
  /** Seed of everything drawn at random. @default 1 */
  readonly seed?: number;
  /** How long a session keeps its exit, in milliseconds from when it got it; then it gets another. @default for ever */
  readonly sessionTtlMs?: number;
  /** What user names begin with: `user`, `user-session-abc`, `user-country-us-session-abc`. @default 'user' */
  readonly username?: string;
  /** The password; others are answered 407. `false` lets everybody in. @default 'pass' */
  readonly password?: string | false;
  /**
   * Reads the credentials instead of `username` and `password`, for the syntax of a particular provider.
   *
   * @example (user, password) => ({ session: /sessid-(\w+)/.exec(user)?.[1], params: {} })
   */
  readonly authenticate?: Authenticate;
  /** The header that tells the exit, on the CONNECT response and on forwarded responses. `false` sends none. @default 'x-egress-ip' */
  readonly egressHeader?: string | false;
  /** Time before each connection to a target, in milliseconds, or [min, max]. @default 0 */
  readonly connectDelayMs?: Delay;
  /** Time before the first byte in each direction of a tunnel, or of each forwarded request, in milliseconds, or [min, max]. @default 0 */
  readonly latencyMs?: Delay;
  /**
   * Where names lead; `*.test` matches every name under it. Everything else but loopback is refused with 403.
   *
   * @example { 'shop.test': target.url, 'api.test:443': '127.0.0.1:8443', '*.example': { host: '127.0.0.1', port: 8080 } }
   */
  readonly hosts?: Readonly<Record<string, HostMapping>>;
  /** The loopback address to listen on. @default '127.0.0.1' */
  readonly host?: string;
  /** The port to listen on; 0 takes a free one. @default 0 */
  readonly port?: number;
  /** PEM key and certificate: the way to the gateway is https. Not with `socks5`. */
  readonly tls?: TlsFiles;
  /** @default 'http' */
  readonly protocol?: 'http' | 'socks5';
  /** What session lifetimes and delays run on; with a virtual clock they pass when it is advanced. @default the system's */
  readonly clock?: Clock;
}

/** What a mock gateway has counted. */
export interface GatewayStats {
  /** Client connections accepted. */
  readonly connections: number;
  /** Tunnels opened. */
  readonly connects: number;
  /** Absolute-form requests answered by their target. */
  readonly forwarded: number;
  /** Asks that were not: refused by the gateway, or struck by a fault. */
  readonly refused: number;
  /** Bytes read from clients, on the wire, TLS and CONNECT included. */
  readonly bytesIn: number;
  /** Bytes written to clients, on the wire. */
  readonly bytesOut: number;
  /** Client connections open now. */
  readonly open: number;
  /** Tunnels open now. */
  readonly tunnels: number;
  /** Tunnels and forwarded requests by exit; exits not used are missing. */
  readonly perExit: Readonly<Record<string, number>>;
  /** The exit of each live session. */
  readonly sessions: Readonly<Record<string, string>>;
}

/** A rotating proxy gateway on loopback. */
export interface MockGateway extends AsyncDisposable {
  /** Template of the proxy URL: `http://user-session-{session}:pass@127.0.0.1:PORT`. */
  readonly url: string;
  /** The proxy URL without a session: each connection gets another exit. */
  readonly rotatingUrl: string;
  readonly host: string;
  readonly port: number;
  readonly exits: readonly string[];
  /** Everything asked of the gateway, oldest first. */
  readonly log: readonly ConnectRecord[];
  stats(): GatewayStats;
  /** The exit that the session holds now. */
  exitOf(session: string): string | undefined;
  /** Gives the session another exit, for its next tunnel, and returns it. Tunnels that are open keep theirs. */
  rotate(session: string): string;
  /**
   * Arms a fault and gives the function that disarms it. Faults are tried in the order they were added.
   *
   * @example
   * gateway.fault({ kind: 'status', status: 407, body: 'TRAFFIC_EXHAUSTED' });
   * const calm = gateway.fault({ kind: 'rst', at: 'response', probability: 0.1 });
   */
  fault(fault: Fault): () => void;
  /** Cuts the open tunnels, of one session or of all. */
  closeTunnels(session?: string): void;
  /** Drops every connection and frees the port; resolves once all of that is done. */
  close(): Promise<void>;
}

/**
 * Starts a rotating gateway on loopback. Each exit is an address of its own, so a {@link mockTarget} sees who comes from where.
 *
 * @example
 * await using target = await mockTarget();
 * await using gateway = await mockGateway({ exits: 50, hosts: { 'shop.test': target.url } });
 * const proxies = new ProxyManager({ gateway: gateway.url });
 * await proxies.fetch('http://shop.test/');
 */
export async function mockGateway(options: MockGatewayOptions = {}): Promise<MockGateway> {
  const { protocol = 'http', rotation = 'sticky', assign = 'random', clock = systemClock, seed = 1 } = options;
  const {
    username = 'user',
    password = 'pass',
    egressHeader = 'x-egress-ip',
    host = '127.0.0.1',
    port = 0,
    tls,
  } = options;
  oneOf('protocol', protocol, ['http', 'socks5']);
  oneOf('rotation', rotation, ['sticky', 'per-connection', 'per-request']);
  oneOf('assign', assign, ['random', 'round-robin', 'hash']);
  if (!isLoopback(host)) throw invalid('host', 'a loopback address', host);
  if (tls !== undefined && protocol === 'socks5') throw invalid('tls', `none with protocol 'socks5'`, tls);
  const ttlMs =
    options.sessionTtlMs === undefined ? Infinity : positive('sessionTtlMs', options.sessionTtlMs, 'milliseconds');
  const list = exitList(options.exits ?? 10);
  const random = seededRandom(seed);
  await checkBindable(list[0]);

  const exits = new Exits(list, { rotation, assign, ttlMs, clock, random });
  const faults = new Faults(seededRandom(seed + 1));
  const core = new GatewayCore({
    clock,
    exits,
    faults,
    destinations: new Destinations(options.hosts ?? {}),
    authenticate: options.authenticate ?? passwordCheck(username, password),
    authRequired: password !== false,
    egressHeader,
    connectDelay: delayOf('connectDelayMs', options.connectDelayMs ?? 0, seededRandom(seed + 2)),
    latency: delayOf('latencyMs', options.latencyMs ?? 0, seededRandom(seed + 3)),
  });
  const server = protocol === 'socks5' ? socksGateway(core) : httpGateway(core, tls);
  server.prependListener('connection', (socket) => core.accept(socket));
  const listening = await listen(server, host, port);

  const scheme = protocol === 'socks5' ? 'socks5' : tls === undefined ? 'http' : 'https';
  const secret = password === false ? '' : `:${encodeURIComponent(password)}`;
  const urlOf = (user: string): string => `${scheme}://${user}${secret}@${authority(host, listening)}`;
  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closed ??= Promise.all([unlisten(server), core.destroy()]).then(() => {});
    return closed;
  };

  return {
    url: urlOf(`${encodeURIComponent(username)}-session-{session}`),
    rotatingUrl: urlOf(encodeURIComponent(username)),
    host,
    port: listening,
    exits: list,
    log: core.log,
    stats() {
      const { read, written } = core.clients.bytes();
      return {
        ...core.counts,
        bytesIn: read,
        bytesOut: written,
        open: core.clients.size,
        tunnels: core.tunnels.size,
        perExit: Object.fromEntries(core.perExit),
        sessions: exits.sessions(),
      };
    },
    exitOf: (session) => exits.current(session),
    rotate: (session) => exits.rotate(session),
    fault: (fault) => faults.add(fault),
    closeTunnels: (session) => core.closeTunnels(session),
    close,
    [Symbol.asyncDispose]: close,
  };
}

function passwordCheck(username: string, password: string | false): Authenticate {
  if (password === false) return (user) => parseAnyUser(user, username);
  return (user, given) => (given === password ? parseUser(user, username) : undefined);
}

function oneOf(option: string, value: string, allowed: readonly string[]): void {
  if (!allowed.includes(value)) throw invalid(option, `one of ${allowed.join(', ')}`, value);
}
