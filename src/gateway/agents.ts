import type { Socket } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import { Agent, buildConnector, type Dispatcher, ProxyAgent } from 'undici';
import type { Clock } from '../clock.ts';
import { GatewayError } from '../errors.ts';
import type { Dial } from './dial.ts';
import { type Dialer, httpDialer } from './dialer.ts';
import { type Connect, lostTunnel, type OpenTunnel, type TunnelSettings } from './dialing.ts';
import { socksDialer } from './socks.ts';
import type { ProxyEndpoint } from './template.ts';
import { type Gate, kGate, OriginTunnels } from './tunnels.ts';

/** What carries the requests of one route. */
export interface Carrier {
  dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler, gate: Gate): boolean;
  destroy(): Promise<void>;
}

export interface CarrierOptions {
  readonly clock: Clock;
  readonly pool: string;
  readonly connectMs: number;
  /** TLS with the targets. */
  readonly requestTls: ConnectionOptions | undefined;
  /** TLS with the gateway. */
  readonly proxyTls: ConnectionOptions | undefined;
}

/** A carrier through `proxy`, or straight out when there is none. One TLS session cache each, so that a target cannot link two sessions by it. */
export function carrier(proxy: ProxyEndpoint | undefined, options: CarrierOptions): Carrier {
  if (proxy === undefined) return gated(directAgent(options));
  return gated(proxy.protocol === 'socks5:' ? socksAgent(proxy, options) : proxyAgent(proxy, options));
}

function gated(agent: Dispatcher): Carrier {
  return {
    dispatch: (options, handler, gate) =>
      agent.dispatch({ ...options, [kGate]: gate } as Dispatcher.DispatchOptions, handler),
    destroy: () => agent.destroy(),
  };
}

/** undici's ProxyAgent with our dialer in the place of its gateway client, and our clients behind it. */
function proxyAgent(proxy: ProxyEndpoint, options: CarrierOptions): Dispatcher {
  const dialer = httpDialer(proxy, options.pool, options.proxyTls);
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
    requestTls: { timeout: 0, ...options.requestTls, allowH2: false },
    clientFactory: () => gatewayClient as unknown as Dispatcher,
    factory: (origin: URL, agentOptions: object) => {
      const { connect } = agentOptions as { connect: Connect };
      const open: OpenTunnel = (params, dial, callback) => {
        const { signal } = new AbortController();
        dials.set(signal, dial);
        connect({ ...params, signal }, callback);
      };
      return new OriginTunnels(origin, open, tunnelSettings(proxy, options));
    },
  });
}

function socksAgent(proxy: ProxyEndpoint, options: CarrierOptions): Dispatcher {
  const dialer: Dialer = socksDialer(proxy, options.pool);
  const secure = buildConnector({ timeout: 0, ...options.requestTls, allowH2: false } as buildConnector.BuildOptions);
  const open: OpenTunnel = (params, dial, callback) => {
    const port = params.port || (params.protocol === 'https:' ? '443' : '80');
    dialer
      .connect(`${params.hostname}:${port}`, dial)
      .then(async (socket) => {
        await checked(dial, socket);
        if (params.protocol === 'https:') secure({ ...params, httpSocket: socket } as never, callback as never);
        else callback(null, socket);
      })
      .catch(callback);
  };
  return new Agent({
    allowH2: false,
    factory: (origin) => new OriginTunnels(origin, open, tunnelSettings(proxy, options)),
  });
}

function directAgent(options: CarrierOptions): Dispatcher {
  const connect = buildConnector({ timeout: 0, ...options.requestTls, allowH2: false } as buildConnector.BuildOptions);
  const open: OpenTunnel = (params, dial, callback) => {
    // There is no gateway: whatever fails here is between us and the target.
    dial.answered(200, {});
    const socket = connect(params as never, callback as never) as unknown;
    if (socket !== undefined) dial.opened(socket as never);
  };
  return new Agent({
    allowH2: false,
    factory: (origin) => new OriginTunnels(origin, open, tunnelSettings(undefined, options)),
  });
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

function tunnelSettings(proxy: ProxyEndpoint | undefined, { clock, connectMs, pool }: CarrierOptions): TunnelSettings {
  return {
    clock,
    connectMs,
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
