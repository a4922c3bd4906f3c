import type { IncomingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import type { Awaitable } from '../store/store.ts';

/**
 * One attempt to open a tunnel, from the first byte to the gateway until undici has the socket:
 * what is known of it, and the one handle by which it can be given up at any stage.
 */
export class Dial {
  /** The socket to the gateway (to the target, when direct): its byte counters are what goes over the wire. */
  socket: Socket | undefined;
  status = 0;
  headers: IncomingHttpHeaders = {};
  /** Set once the gateway let us through: what fails after that is the target's or the exit's doing. */
  tunnelled = false;
  /** Key of the exit behind the tunnel, once known. */
  egress: string | undefined;
  /** Asked when the gateway let us through, before a byte goes to the target; rejects to drop the tunnel. */
  verify: (() => Awaitable<void>) | undefined;
  private sent = 0;
  private received = 0;
  private over = false;
  private reason: Error | undefined;
  private readonly listeners: ((reason: Error) => void)[] = [];

  get aborted(): Error | undefined {
    return this.reason;
  }

  /** Bytes on the wire since the last {@link count}: of a new tunnel, its set-up too. */
  sinceCount(): { sent: number; received: number } {
    const { socket } = this;
    return {
      sent: (socket?.bytesWritten ?? 0) - this.sent,
      received: (socket?.bytesRead ?? 0) - this.received,
    };
  }

  /** The same, and begins to count anew: the socket is asked once. */
  count(): { sent: number; received: number } {
    const since = this.sinceCount();
    this.sent += since.sent;
    this.received += since.received;
    return since;
  }

  opened(socket: Socket): void {
    this.socket = socket;
    // Between those who listen in turn (http, our checks, TLS, undici) nobody does; an error must not end the process then.
    socket.on('error', () => {});
    if (this.reason !== undefined) socket.destroy();
  }

  answered(status: number, headers: IncomingHttpHeaders): void {
    this.status = status;
    this.headers = headers;
    this.tunnelled = true;
  }

  /** Calls `listener` when the dial is given up, at once when it has been. */
  onAbort(listener: (reason: Error) => void): void {
    if (this.reason !== undefined) listener(this.reason);
    else this.listeners.push(listener);
  }

  /** The tunnel is in use (or given up): it can no longer be aborted from here. */
  finished(): void {
    this.over = true;
    this.verify = undefined;
    this.listeners.length = 0;
  }

  abort(reason: Error): void {
    if (this.over || this.reason !== undefined) return;
    this.reason = reason;
    // A copy: the first of them finishes the dial, which forgets the others.
    for (const listener of [...this.listeners]) listener(reason);
    this.socket?.destroy();
  }
}
