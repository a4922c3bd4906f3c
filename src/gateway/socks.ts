import type { Socket } from 'node:net';
import { buildConnector, Socks5ProxyAgent } from 'undici';
import { GatewayError } from '../errors.ts';
import { type Dialer, dialFailure } from './dialer.ts';
import { socksFault } from './faults.ts';
import type { ProxyEndpoint } from './template.ts';

/** undici's agent opens the tunnels; its own pool has no place for our check between tunnel and request. */
interface SocksTunnels {
  createSocks5Connection(host: string, port: number): Promise<Socket>;
}

/** Opens tunnels through a SOCKS5 proxy; names are resolved at the proxy. */
export function socksDialer(proxy: ProxyEndpoint, pool: string): Dialer {
  return {
    async connect(authority, dial) {
      const tcp = buildConnector({ allowH2: false, timeout: 0 });
      const agent = new Socks5ProxyAgent(`socks5://${bracketed(proxy.hostname)}:${proxy.port}`, {
        username: proxy.username,
        password: proxy.password,
        // The dial has a time limit of its own, and its timer ends with it.
        connectTimeout: 0,
        // The socket is ours from the start, so that giving up the dial closes it in the middle of a handshake too.
        connect: (options, callback) => {
          // Its own hostname has brackets around an IPv6 address.
          const place = { ...options, hostname: proxy.hostname };
          const socket = tcp(place, callback) as unknown as Socket | undefined;
          if (socket !== undefined) {
            dial.opened(socket);
            // The handshake waits for bytes only: a proxy that hangs up would leave it waiting.
            let broken: Error | undefined;
            socket.once('error', (error) => {
              broken = error;
            });
            socket.once('close', () => dial.abort(broken ? dialFailure(broken, proxy, pool) : hungUp(proxy, pool)));
          }
        },
      });
      const colon = authority.lastIndexOf(':');
      const host = authority.slice(0, colon).replace(/^\[|\]$/g, '');
      const { promise, reject } = Promise.withResolvers<never>();
      promise.catch(() => {});
      dial.onAbort(reject);
      try {
        const opening = (agent as unknown as SocksTunnels).createSocks5Connection(
          host,
          Number(authority.slice(colon + 1)),
        );
        opening.catch(() => {});
        const socket = await Promise.race([opening, promise]);
        dial.answered(200, {});
        return socket;
      } catch (cause) {
        dial.socket?.on('error', () => {}).destroy();
        throw dial.aborted ?? socksFailure(cause, proxy, pool);
      }
    },
  };
}

const bracketed = (hostname: string): string => (hostname.includes(':') ? `[${hostname}]` : hostname);

function hungUp(proxy: ProxyEndpoint, pool: string): GatewayError {
  return new GatewayError(`the gateway ${proxy.address} closed the connection before answering`, {
    kind: 'unreachable',
    pool,
  });
}

function socksFailure(cause: unknown, proxy: ProxyEndpoint, pool: string): Error {
  if (!(cause instanceof Error) || cause instanceof GatewayError) return cause as Error;
  const code = (cause as NodeJS.ErrnoException).code ?? '';
  if (!code.startsWith('UND_ERR_SOCKS5')) {
    return code.startsWith('UND_ERR') || code === '' ? hungUp(proxy, pool) : dialFailure(cause, proxy, pool);
  }
  return new GatewayError(`the gateway ${proxy.address} refused: ${cause.message}`, {
    ...socksFault(code),
    pool,
    cause,
  });
}
