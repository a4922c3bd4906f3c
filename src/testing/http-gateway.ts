import { createServer, type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { Server } from 'node:net';
import type { Duplex } from 'node:stream';
import { basicAuth, type Credentials } from './credentials.ts';
import { splitAuthority } from './destinations.ts';
import { Forwarder } from './forward.ts';
import type { GatewayCore } from './gateway-core.ts';
import { Inbox } from './inbox.ts';
import { ignoreErrors } from './sockets.ts';
import { closeAfterWrites } from './strike.ts';
import type { TlsFiles } from './target-server.ts';
import { openTunnel, type Wire } from './tunnel.ts';

const CHALLENGE = { 'proxy-authenticate': 'Basic realm="mock gateway"' };

/** An HTTP proxy: CONNECT, and absolute-form requests for http targets. With `tls`, the way to it is https. */
export function httpGateway(core: GatewayCore, tls: TlsFiles | undefined): Server {
  const wire: Wire = {
    accepted: (exit) => head(200, core.parts.egressHeader === false ? {} : { [core.parts.egressHeader]: exit }),
    refused: answer,
  };
  const forwarder = new Forwarder(core);

  const onConnect = (request: IncomingMessage, client: Duplex, early: Buffer): void => {
    ignoreErrors(client);
    const inbox = new Inbox(client, early);
    const place = splitAuthority(request.url ?? '');
    const login = place && credentialsOf(core, request);
    if (place !== undefined && login !== undefined) {
      openTunnel(core, client, inbox, { ...login, ...place, via: 'connect' }, wire).catch(() => client.destroy());
      return;
    }
    const status = place === undefined ? 400 : 407;
    const ask = { host: request.url ?? '', port: 0, ...place, params: {}, via: 'connect' } as const;
    core.refused(core.record(ask), status);
    client.write(answer(status, status === 407 ? CHALLENGE : {}));
    closeAfterWrites(client);
  };

  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    ignoreErrors(response);
    request.on('error', () => {});
    const url = /^http:\/\//i.test(request.url ?? '') && URL.canParse(request.url!) ? new URL(request.url!) : undefined;
    const login = url && credentialsOf(core, request);
    if (url !== undefined && login !== undefined) {
      forwarder.forward(request, response, url, login).catch(() => response.destroy());
      return;
    }
    const ask = { host: url?.hostname ?? '', port: Number(url?.port) || 80, params: {}, via: 'forward' } as const;
    const status = url === undefined ? 400 : 407;
    core.refused(core.record(ask), status);
    request.resume();
    response.writeHead(status, status === 407 ? CHALLENGE : {});
    response.end('mock gateway: this is a proxy; credentials and the full http URL, please\n');
  };

  const limits = { keepAliveTimeout: 75_000, requestTimeout: 0, headersTimeout: 0 };
  const server = tls === undefined ? createServer(limits) : createHttpsServer({ ...limits, ...tls });
  // Only from here on: who hangs up in the middle of the handshake is gone.
  server.on('secureConnection', (socket: Duplex) => {
    socket.allowHalfOpen = true;
  });
  server.on('connect', onConnect);
  server.on('request', onRequest);
  server.on('clientError', (_error, socket) => socket.destroy());
  return server;
}

function credentialsOf(core: GatewayCore, request: IncomingMessage): Credentials | undefined {
  const login = basicAuth(request.headers['proxy-authorization']);
  if (login === undefined && core.parts.authRequired) return undefined;
  return core.login(...(login ?? (['', ''] as const)));
}

function head(status: number, headers: Readonly<Record<string, string>>): string {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status} ${status === 200 ? 'Connection established' : (STATUS_CODES[status] ?? 'Error')}\r\n${lines.join('')}\r\n`;
}

function answer(status: number, headers: Readonly<Record<string, string>> = {}, body = ''): string {
  const length = String(Buffer.byteLength(body));
  return head(status, { connection: 'close', 'content-length': length, ...headers }) + body;
}
