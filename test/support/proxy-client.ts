import { type IncomingHttpHeaders, request } from 'node:http';
import { request as requestTls } from 'node:https';
import type { Socket } from 'node:net';

/** A gateway's answer to CONNECT. */
export interface Connected {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** The tunnel, or what is left of the connection. */
  readonly socket: Socket;
  /** Body of a refusal. */
  readonly body: string;
}

/** The URL of one session of a gateway. */
export function sessionUrl(gateway: { readonly url: string }, session: string): string {
  return gateway.url.replace('{session}', session);
}

/** One bare CONNECT. Rejects with what happens to the socket when there is no answer. */
export function connectVia(proxy: string, authority: string, options: { ca?: string } = {}): Promise<Connected> {
  const { protocol, hostname, port, username, password } = new URL(proxy);
  const auth = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString('base64');
  const headers = username === '' ? {} : { 'proxy-authorization': `Basic ${auth}` };
  return new Promise((resolve, reject) => {
    const send = protocol === 'https:' ? requestTls : request;
    const sent = send({ host: hostname, port, method: 'CONNECT', path: authority, headers, agent: false, ...options });
    sent.on('error', reject);
    sent.on('connect', (response, socket: Socket, head: Buffer) => {
      socket.on('error', () => {});
      const answer = { status: response.statusCode ?? 0, headers: response.headers, socket };
      if (answer.status === 200) {
        resolve({ ...answer, body: '' });
        return;
      }
      const chunks = [head];
      socket.on('data', (chunk: Buffer) => chunks.push(chunk));
      socket.on('end', () => {
        socket.destroy();
        resolve({ ...answer, body: Buffer.concat(chunks).toString() });
      });
    });
    sent.end();
  });
}

/** Everything until the other end closes: 'end', or the code of the error. */
export function readToEnd(socket: Socket): Promise<{ text: string; how: string }> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    const done = (how: string) => (): void => resolve({ text: Buffer.concat(chunks).toString('latin1'), how });
    socket.on('end', done('end'));
    socket.on('error', (error: NodeJS.ErrnoException) => done(error.code ?? error.message)());
    socket.on('close', done('close'));
  });
}

/** The next bytes. */
export function nextChunk(socket: Socket): Promise<string> {
  return new Promise((resolve) => socket.once('data', (chunk: Buffer) => resolve(chunk.toString('latin1'))));
}
