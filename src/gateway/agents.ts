import type { Socket } from 'node:net';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { Agent, buildConnector, type Dispatcher, ProxyAgent } from 'undici';
import type { Clock } from '../clock.ts';
import { GatewayError } from '../errors.ts';
import type { Dial } from './dial.ts';
import { type Dialer, httpDialer } from './dialer.ts';
import { type Connect, lostTunnel, type OpenTunnel, type TunnelSettings } from './dialing.ts';
import { Origins } from './origins.ts';
import { socksDialer } from './socks.ts';
import type { ProxyEndpoint } from './template.ts';
import { type Gate, type GatedOptions, kGate, OriginTunnels } from './tunnels.ts';

/** What carries the requests of one route. */
export interface Carrier {
  /** `options` are the carrier's own, to be changed as it likes. */
  dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler, gate: Gate): boolean;
  destroy(): Promise<void>;
}

export interface CarrierOptions {
  readonly clock: Clock;
  readonly pool: string;
  readonly connectMs: number;
  /** Of responses, where the request says nothing else. */
  readonly headersMs: number;
  readonly bodyMs: number;
  /** The exit is another one for every tunnel. */
  readonly rotating: boolean;
  /** TLS with the targets. */
  readonly requestTls: ConnectionOptions | undefined;
  /** TLS with the gateway. */
  readonly proxyTls: ConnectionOptions | undefined;
}

/** A carrier through `proxy`, or straight out when there is none. */
export function carrier(proxy: ProxyEndpoint | undefined, options: CarrierOptions): Carrier {
  const origins = new Origins(proxy !== undefined && proxy.protocol !== 'socks5:');
  if (proxy === undefined) return gated(directAgent(options, origins), origins);
  return gated(
    proxy.protocol === 'socks5:' ? socksAgent(proxy, options, origins) : proxyAgent(proxy, options, origins),
    origins,
  );
}

function gated(agent: Dispatcher, origins: Origins): Carrier {
  return {
    dispatch(options, handler, gate) {
      const tunnels = origins.for(options, gate.plain);
      if (tunnels !== undefined) return tunnels.send(options, handler, gate);
      // The options are a copy made for this dispatch; undici's dispatchers carry the gate along as they copy them.
      (options as GatedOptions)[kGate] = gate;
      return agent.dispatch(options, handler);
    },
    destroy: () => agent.destroy(),
  };
}

/** undici's ProxyAgent with our dialer in the place of its gateway client, and our clients behind it. */
function proxyAgent(proxy: ProxyEndpoint, options: CarrierOptions, origins: Origins): Dispatcher {
  const dialer = httpDialer(proxy, options.pool, options.proxyTls, options.clock);
  const secure = tlsThroughTunnels(options);
  // ProxyAgent passes a signal through to the dialer and nothing else of ours: it names the dial.
  const dials = new WeakMap<AbortSignal, Dial>();
  const gatewayClient = {
    async connect({ path, signal }: { path: string; signal: AbortSignal }) {
      const dial = dials.get(signal)!;
      const socket = await dialer.connect(path, dial);
      await checked(dial, socket);
      return { socket, statusCode: 200 };
    },
    async close() {},
    async destroy() {},
  };
  return new ProxyAgent({
    // Without the credentials: the dialer has them, and an agent may be printed.
    uri: proxy.address.replace('https:', 'http:'),
    proxyTunnel: true,
    allowH2: false,
    clientFactory: () => gatewayClient as unknown as Dispatcher,
    factory: (origin: URL, agentOptions: object) => {
      const { connect } = agentOptions as { connect: Connect };
      const open: OpenTunnel = (params, dial, callback) => {
        const { signal } = new AbortController();
        dials.set(signal, dial);
        // Of ProxyAgent's two steps, CONNECT and TLS, only the first: the second is ours.
        const place = { ...params, host: authorityOf(params), port: portOf(params), protocol: 'http:', signal };
        connect(place, (error, socket) => {
          if (error !== null) callback(error);
          else secure(params, dial, socket as Socket, callback);
        });
      };
      return origins.add(origin, new OriginTunnels(origin, open, tunnelSettings(proxy, options)));
    },
  });
}

function socksAgent(proxy: ProxyEndpoint, options: CarrierOptions, origins: Origins): Dispatcher {
  const dialer: Dialer = socksDialer(proxy, options.pool);
  const secure = tlsThroughTunnels(options);
  const open: OpenTunnel = (params, dial, callback) => {
    dialer
      .connect(authorityOf(params), dial)
      .then(async (socket) => {
        await checked(dial, socket);
        secure(params, dial, socket, callback);
      })
      .catch(callback);
  };
  return new Agent({
    allowH2: false,
    factory: (origin) => origins.add(origin, new OriginTunnels(origin, open, tunnelSettings(proxy, options))),
  });
}

function directAgent(options: CarrierOptions, origins: Origins): Dispatcher {
  const tcp = connectorTo(options, undefined);
  const secure = tlsThroughTunnels(options);
  const open: OpenTunnel = (params, dial, callback) => {
    // There is no gateway: whatever fails here is between us and the target.
    dial.answered(200, {});
    // TLS on top of a socket of our own, as through a tunnel: only that one counts what goes over the wire.
    const place = { ...params, protocol: 'http:', port: portOf(params), servername: undefined };
    const socket = tcp(place as never, (error, opened) => {
      if (error !== null) callback(error);
      else secure(params, dial, opened as Socket, callback);
    }) as unknown;
    if (socket !== undefined) dial.opened(socket as Socket);
  };
  return new Agent({
    allowH2: false,
    factory: (origin) => origins.add(origin, new OriginTunnels(origin, open, tunnelSettings(undefined, options))),
  });
}

type Place = Parameters<Connect>[0];

const portOf = ({ port, protocol }: Place): string => port || (protocol === 'https:' ? '443' : '80');

function authorityOf(place: Place): string {
  const { hostname } = place;
  return `${hostname.includes(':') ? `[${hostname}]` : hostname}:${portOf(place)}`;
}

function connectorTo(options: CarrierOptions, maxCachedSessions: number | undefined): buildConnector.connector {
  return buildConnector({ timeout: 0, maxCachedSessions, ...options.requestTls, allowH2: false } as never);
}

/**
 * TLS with an https target, through an open tunnel. TLS sessions are resumed from one address only:
 * to the target, a ticket is as good as a cookie, and would link two exits.
 */
function tlsThroughTunnels(
  options: CarrierOptions,
): (place: Place, dial: Dial, socket: Socket, callback: Parameters<Connect>[1]) => void {
  const fresh = (): Secure => (options.rotating ? connectorTo(options, 0) : resuming(connectorTo(options, undefined)));
  let secure = fresh();
  let egress: string | undefined;
  return (place, dial, socket, callback) => {
    if (place.protocol !== 'https:') {
      callback(null, socket);
      return;
    }
    if (dial.egress !== egress) {
      egress = dial.egress;
      secure = fresh();
    }
    secure({ ...place, httpSocket: socket } as never, callback as never);
  };
}

type Secure = (...call: Parameters<buildConnector.connector>) => void;

/** Names whose TLS session a route keeps: a few kilobytes each. */
const MOST_SESSIONS = 16;

/** Keeps the last TLS session of each name: undici's connectors hold them weakly, and any garbage collection takes them. */
function resuming(connector: buildConnector.connector): Secure {
  const sessions = new Map<string, Buffer>();
  return (place, callback) => {
    const name = place.servername || place.hostname;
    const socket = connector(place, callback) as unknown as TLSSocket;
    socket.on('session', (session) => {
      sessions.delete(name);
      sessions.set(name, session);
      if (sessions.size > MOST_SESSIONS) sessions.delete(sessions.keys().next().value as string);
    });
  };
}

/** Asks whether the tunnel's exit may be used, before a byte goes to the target. */
async function checked(dial: Dial, socket: Socket): Promise<void> {
  try {
    await dial.verify?.();
  } catch (error) {
    socket.destroy();
    throw error;
  }
  // Gone while a remote store was asked: TLS would wait for it in vain.
  if (socket.destroyed) throw lostTunnel(socket.errored);
}

function tunnelSettings(proxy: ProxyEndpoint | undefined, options: CarrierOptions): TunnelSettings {
  const { clock, connectMs, headersMs, bodyMs, pool } = options;
  return {
    clock,
    connectMs,
    headersMs,
    bodyMs,
    timeoutError(dial) {
      if (proxy !== undefined && !dial.tunnelled) {
        const message = `the gateway ${proxy.address} did not answer within timeouts.connectMs = ${connectMs} ms`;
        return new GatewayError(message, { kind: 'timeout', pool });
      }
      return Object.assign(new Error(`no connection to the target within timeouts.connectMs = ${connectMs} ms`), {
        code: 'ETIMEDOUT',
      });
    },
  };
}
