import type { Duplex } from 'node:stream';

/**
 * Reads a client's socket before anything is relayed: what comes early is kept, and a client that gives up is let go
 * (a socket that nobody reads would never notice).
 */
export class Inbox {
  private buffer: Buffer = Buffer.alloc(0);
  private wanted: { readonly bytes: number; readonly resolve: (taken: Buffer | undefined) => void } | undefined;
  private readonly socket: Duplex;

  constructor(socket: Duplex, head?: Buffer) {
    this.socket = socket;
    if (head !== undefined) this.buffer = head;
    socket.on('data', this.onData);
    socket.on('end', this.onEnd);
    socket.on('close', this.onEnd);
  }

  /** The next `bytes` bytes; `undefined` when the client has left. One call at a time. */
  take(bytes: number): Promise<Buffer | undefined> {
    if (this.socket.destroyed) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      this.wanted = { bytes, resolve };
      this.serve();
    });
  }

  /** Hands the socket over, paused, with all that was not taken. */
  release(): void {
    this.socket.off('data', this.onData);
    this.socket.off('end', this.onEnd);
    this.socket.off('close', this.onEnd);
    this.socket.pause();
    if (this.buffer.length > 0 && !this.socket.destroyed) this.socket.unshift(this.buffer);
  }

  private readonly onData = (chunk: Buffer): void => {
    this.buffer = this.buffer.length === 0 ? chunk : Buffer.concat([this.buffer, chunk]);
    this.serve();
  };

  private readonly onEnd = (): void => {
    this.socket.destroy();
    this.wanted?.resolve(undefined);
    this.wanted = undefined;
  };

  private serve(): void {
    if (this.wanted === undefined || this.buffer.length < this.wanted.bytes) return;
    const { bytes, resolve } = this.wanted;
    this.wanted = undefined;
    resolve(this.buffer.subarray(0, bytes));
    this.buffer = this.buffer.subarray(bytes);
  }
}
