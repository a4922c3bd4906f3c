import http, { type IncomingMessage } from 'node:http';
import net, { isIP, type Socket } from 'node:net';
import tls, { type ConnectionOptions } from 'node:tls';
import type { Clock } from '../clock.ts';
import { GatewayError } from '../errors.ts';
import { retryAfterOf } from '../headers/retry-after-of.ts';
import type { Dial } from './dial.ts';
import { cachedLookup } from './dns.ts';
import { gatewayFault } from './faults.ts';
import { spellingsOf } from './secrets.ts';
import type { ProxyEndpoint } from './template.ts';

/** Opens tunnels through one HTTP(S) proxy: a CONNECT of our own, because undici's drops the headers and never times out. */
export interface Dialer {
  /** Resolves with the raw socket once the proxy said 200; rejects with a {@link GatewayError}. */
  connect(authority: string, dial: Dial): Promise<Socket>;
}

export function httpDialer(
  proxy: ProxyEndpoint,
  pool: string,
  proxyTls: ConnectionOptions | undefined,
  clock: Clock,
): Dialer {
  const authorization =
    proxy.username === '' && proxy.password === ''
      ? undefined
      : `Basic ${Buffer.from(`${proxy.username}:${proxy.password}`).toString('base64')}`;

  return {
    connect: (authority, dial) =>
      new Promise<Socket>((resolve, reject) => {
        const headers: Record<string, string> = { host: authority, 'proxy-connection': 'keep-alive' };
        if (authorization !== undefined) headers['proxy-authorization'] = authorization;
        const options = {
          method: 'CONNECT',
          hostname: proxy.hostname,
          port: proxy.port,
          path: authority,
          headers,
          lookup: cachedLookup,
          // Neither pooled nor node's own: the raw socket is ours from the start, and counts what goes over the wire.
          createConnection: () => dialTo(proxy, proxyTls, dial),
        };
        const request = http.request(options);
        const fail = (error: unknown): void => {
          request.destroy();
          reject(error);
        };
        dial.onAbort(fail);
        request.once('error', (cause: NodeJS.ErrnoException) => reject(dialFailure(cause, proxy, pool)));
        request.once('connect', (response, socket: Socket, head) => {
          const status = response.statusCode ?? 0;
          if (status !== 200) {
            socket.on('error', () => {}).destroy();
            reject(refusal(status, response, proxy, pool, clock));
            return;
          }
          if (head.length > 0) socket.unshift(head);
          socket.setNoDelay(true);
          dial.answered(status, response.headers);
          resolve(socket);
        });
        request.end();
      }),
  };
}

/** A socket to the proxy, with TLS on top where it is an https:// one. */
function dialTo(proxy: ProxyEndpoint, proxyTls: ConnectionOptions | undefined, dial: Dial): Socket {
  const raw = net.connect({ host: proxy.hostname, port: proxy.port, lookup: cachedLookup, autoSelectFamily: true });
  dial.opened(raw);
  if (proxy.protocol !== 'https:') return raw;
  // An address is no name, and may not be sent as one.
  const servername = isIP(proxy.hostname) ? '' : proxy.hostname;
  return tls.connect({ servername, host: proxy.hostname, ALPNProtocols: ['http/1.1'], ...proxyTls, socket: raw });
}

/** The gateway's No: what it means, in the provider's own words where it has any. */
function refusal(
  status: number,
  { headers, statusMessage }: IncomingMessage,
  proxy: ProxyEndpoint,
  pool: string,
  clock: Clock,
): GatewayError {
  const secrets = spellingsOf(proxy.username, proxy.password);
  const { kind, providerCode, message, fatal } = gatewayFault({ status, headers, statusMessage, secrets });
  const code = providerCode === undefined ? '' : ` (${providerCode})`;
  const words = message === undefined ? '' : `: ${message}`;
  return new GatewayError(`the gateway ${proxy.address} answered CONNECT with ${status}${code}${words}`, {
    kind,
    pool,
    status,
    providerCode,
    fatal,
    retryAfterMs: retryAfterOf(headers, clock.wallNow()),
  });
}

/** A socket or parser error before the CONNECT answer. Never passed on as it is: undici redials on some of their codes. */
export function dialFailure(cause: NodeJS.ErrnoException, proxy: ProxyEndpoint, pool: string): Error {
  if (cause instanceof GatewayError) return cause;
  const code = cause.code ?? '';
  if (code.startsWith('HPE_')) {
    // What the gateway sent, byte for byte: it may repeat what it was sent.
    delete (cause as { rawPacket?: unknown }).rawPacket;
    return new GatewayError(`the gateway ${proxy.address} did not answer in HTTP`, { kind: 'protocol', pool, cause });
  }
  if (code.startsWith('ERR_TLS') || code.startsWith('ERR_SSL') || code.includes('CERT') || code === 'EPROTO') {
    const message = `no TLS with the gateway ${proxy.address}: ${cause.message}`;
    return new GatewayError(message, { kind: 'protocol', pool, cause });
  }
  const what =
    code === 'ECONNRESET' ? 'closed the connection before answering' : `is unreachable: ${code || cause.message}`;
  return new GatewayError(`the gateway ${proxy.address} ${what}`, { kind: 'unreachable', pool, cause });
}
