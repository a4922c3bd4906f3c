import type { EventEmitter } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createSecureServer, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import type { Server } from 'node:net';

export type Request = IncomingMessage | Http2ServerRequest;
export type Response = ServerResponse | Http2ServerResponse;
export type Listener = (request: Request, response: Response) => void;

/** Key and certificate of a server, in PEM. */
export interface TlsFiles {
  readonly key: string | Buffer;
  readonly cert: string | Buffer;
}

export interface ServerKind {
  readonly tls: TlsFiles | undefined;
  readonly http2: boolean;
  readonly keepAliveMs: number;
}

/** The server of a mock target: http, https, or https with HTTP/2. It has no time limits of its own but keep-alive. */
export function targetServer({ tls, http2, keepAliveMs }: ServerKind, listener: Listener): Server {
  if (tls !== undefined && http2) {
    const server = createSecureServer({ ...tls, allowHTTP1: true }, listener);
    server.on('sessionError', () => {});
    return server;
  }
  const limits = { keepAliveTimeout: keepAliveMs, requestTimeout: 0, headersTimeout: 0 };
  return tls === undefined ? createServer(limits, listener) : createHttpsServer({ ...limits, ...tls }, listener);
}

/** What closes when the client goes away. */
export function streamOf(response: Response): EventEmitter & { readonly destroyed: boolean } {
  return 'stream' in response ? response.stream : response;
}

/** The Host header, or what stands in for it on HTTP/2. */
export function hostOf(request: Request): string {
  const host = request.headers.host ?? request.headers[':authority'];
  return typeof host === 'string' ? host : '';
}

/** The whole body; `undefined` when the client broke off. */
export async function bodyOf(request: Request): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of request) chunks.push(chunk as Buffer);
  } catch {
    return undefined;
  }
  return request.complete ? Buffer.concat(chunks) : undefined;
}
