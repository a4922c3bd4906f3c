import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

/** A target that answers piece by piece, as `answer` says: for what a {@link mockTarget}, which sends whole answers, does not do. */
export interface ScriptedTarget extends AsyncDisposable {
  readonly url: string;
  /** Requests seen. */
  readonly seen: number;
  /** Connections accepted, and those open now. */
  readonly accepted: number;
  readonly open: number;
}

export async function scriptedTarget(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<ScriptedTarget> {
  const sockets = new Set<Socket>();
  let accepted = 0;
  let seen = 0;
  const server = createServer((request, response) => {
    seen++;
    response.on('error', () => {});
    answer(request, response);
  });
  server.on('connection', (socket) => {
    accepted++;
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get seen() {
      return seen;
    },
    get accepted() {
      return accepted;
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
