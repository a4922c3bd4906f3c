import http, { type IncomingHttpHeaders } from 'node:http';
import net, { isIP, type Socket } from 'node:net';
import tls, { type ConnectionOptions } from 'node:tls';
import { GatewayError, type GatewayErrorKind } from '../errors.ts';
import type { Dial } from './dial.ts';
import { cachedLookup } from './dns.ts';
import type { ProxyEndpoint } from './template.ts';

/** Opens tunnels through one HTTP(S) proxy: a CONNECT of our own, because undici's drops the headers and never times out. */
export interface Dialer {
  /** Resolves with the raw socket once the proxy said 200; rejects with a {@link GatewayError}. */
  connect(authority: string, dial: Dial): Promise<Socket>;
}

export function httpDialer(proxy: ProxyEndpoint, pool: string, proxyTls: ConnectionOptions | undefined): Dialer {
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
            reject(refusal(status, response.headers, proxy, pool));
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

/** What a CONNECT status says of the gateway. 407 is also what quota exhaustion looks like; the provider's code tells. */
export function kindOfStatus(status: number): GatewayErrorKind {
  if (status === 407 || status === 401) return 'auth';
  if (status === 402) return 'quota';
  if (status === 403 || status === 451) return 'forbidden';
  if (status >= 500 || status === 404 || status === 408 || status === 429 || status === 410) return 'exit-failed';
  return 'protocol';
}

function refusal(status: number, headers: IncomingHttpHeaders, proxy: ProxyEndpoint, pool: string): GatewayError {
  const code = headers['x-brd-err-code'];
  const providerCode = typeof code === 'string' ? code.slice(0, 200) : undefined;
  const suffix = providerCode === undefined ? '' : ` (${providerCode})`;
  return new GatewayError(`the gateway ${proxy.address} answered CONNECT with ${status}${suffix}`, {
    kind: kindOfStatus(status),
    pool,
    status,
    ...(providerCode === undefined ? undefined : { providerCode }),
  });
}

/** A socket or parser error before the CONNECT answer. Never passed on as it is: undici redials on some of their codes. */
export function dialFailure(cause: NodeJS.ErrnoException, proxy: ProxyEndpoint, pool: string): Error {
  if (cause instanceof GatewayError) return cause;
  const code = cause.code ?? '';
  if (code.startsWith('HPE_')) {
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
