import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import type { TestCert } from './certs.ts';

/** A gateway that does whatever `answer` does with a client's socket, once the client has said its first word. */
export interface RawGateway extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** Clients that said something, and those connected now. */
  readonly asked: number;
  readonly open: number;
}

/** Starts a {@link RawGateway}: for what no proxy in its right mind does. */
export async function rawGateway(
  answer: (socket: Socket, head: Buffer, nth: number) => void,
  options: { readonly tls?: TestCert; readonly protocol?: string } = {},
): Promise<RawGateway> {
  const sockets = new Set<Socket>();
  let asked = 0;
  const serve = (socket: Socket): void => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => sockets.delete(socket));
    socket.once('data', (head: Buffer) => answer(socket, head, ++asked));
  };
  const server: Server =
    options.tls === undefined
      ? createServer(serve)
      : createTlsServer({ key: options.tls.key, cert: options.tls.cert }, serve);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const scheme = options.protocol ?? (options.tls === undefined ? 'http' : 'https');
  return {
    url: `${scheme}://user-session-{session}:pass@127.0.0.1:${port}`,
    port,
    get asked() {
      return asked;
    },
    get open() {
      return sockets.size;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
