import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { TestCert } from './certs.ts';

/** One TLS handshake as the target saw it. */
export interface Handshake {
  readonly ip: string;
  /** By a ticket of an earlier connection: whoever holds it is the same client. */
  readonly resumed: boolean;
}

/** An https server that remembers its handshakes. */
export interface TlsTarget extends AsyncDisposable {
  readonly url: string;
  readonly handshakes: readonly Handshake[];
  /** Handshakes begun, whether or not they came to their end. */
  readonly hellos: number;
}

/** Starts a {@link TlsTarget} on loopback; with `close`, it hangs up after every answer, so that each request needs a handshake. */
export async function tlsTarget(cert: TestCert, options: { readonly close?: boolean } = {}): Promise<TlsTarget> {
  const handshakes: Handshake[] = [];
  const sockets = new Set<Duplex>();
  let hellos = 0;
  const SNICallback = (_name: string, done: (error: null) => void): void => {
    hellos++;
    done(null);
  };
  const server = createServer({ key: cert.key, cert: cert.cert, SNICallback }, (_request, response) => {
    if (options.close) response.setHeader('connection', 'close');
    response.end('hello');
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.on('secureConnection', (socket: TLSSocket) => {
    handshakes.push({ ip: socket.remoteAddress ?? '', resumed: socket.isSessionReused() });
  });
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    handshakes,
    get hellos() {
      return hellos;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
