import type { EventEmitter } from 'node:events';
import { createServer, isIPv6, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { ConfigError } from '../errors.ts';

/** Errors of a remote end are part of the game here: the 'close' that follows says all there is to know. */
export function ignoreErrors(socket: EventEmitter): void {
  socket.on('error', () => {});
}

/** A set of TCP sockets that empties itself as they close, and says when the last one has. */
export class SocketSet {
  private readonly sockets = new Set<Socket>();
  private waiting: (() => void)[] = [];
  private readBefore = 0;
  private writtenBefore = 0;

  get size(): number {
    return this.sockets.size;
  }

  /** Bytes on the wire, of open and closed sockets. */
  bytes(): { read: number; written: number } {
    let [read, written] = [this.readBefore, this.writtenBefore];
    for (const socket of this.sockets) {
      read += socket.bytesRead;
      written += socket.bytesWritten;
    }
    return { read, written };
  }

  add(socket: Socket): void {
    if (this.sockets.has(socket)) return;
    ignoreErrors(socket);
    if (socket.closed) return;
    this.sockets.add(socket);
    socket.once('close', () => {
      this.sockets.delete(socket);
      this.readBefore += socket.bytesRead;
      this.writtenBefore += socket.bytesWritten;
      if (this.sockets.size > 0) return;
      for (const resolve of this.waiting.splice(0)) resolve();
    });
  }

  destroy(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  /** Resets the connection that `socket` is, or (as a TLS or HTTP/2 socket) runs over. */
  reset(socket: Duplex): void {
    const { remoteAddress, remotePort, localAddress, localPort } = socket as Socket;
    for (const member of this.sockets) {
      // Both ends: all connections to one target have the same other one.
      const sameRemote = member.remotePort === remotePort && member.remoteAddress === remoteAddress;
      if (sameRemote && member.localPort === localPort && member.localAddress === localAddress) {
        soon(3, () => member.resetAndDestroy());
        return;
      }
    }
  }

  /** Resolves once no socket is left. */
  empty(): Promise<void> {
    return this.sockets.size === 0 ? Promise.resolve() : new Promise((resolve) => this.waiting.push(resolve));
  }
}

/**
 * A few turns of the event loop later. A reset that arrives together with data hides it, or passes for a plain end
 * (libuv before Node 24 does that), so the data goes ahead.
 */
function soon(turns: number, then: () => void): void {
  setImmediate(() => (turns > 1 ? soon(turns - 1, then) : then()));
}

/** Starts listening and gives the port. */
export function listen(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, backlog: 4096 }, () => {
      server.off('error', reject);
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : port);
    });
  });
}

/** Stops listening; the connections there are must end by themselves or be destroyed. */
export function unlisten(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}

/** Fails early, and clearly, where the system has no such loopback address (macOS has only 127.0.0.1 by default). */
export async function checkBindable(ip: string): Promise<void> {
  const probe = createServer();
  try {
    await listen(probe, ip, 0);
  } catch (cause) {
    throw new ConfigError(
      `exits: this system cannot send from ${ip}. Linux has all of 127.0.0.0/8; elsewhere add the address to the loopback interface, or use exits: ['127.0.0.1']`,
      { option: 'exits', cause },
    );
  }
  await unlisten(probe);
}

/** An address in its shortest form; an IPv4 address in IPv6 dress (::ffff:127.0.0.1) as what it is. */
export function plainIp(address: string): string {
  if (!isIPv6(address) || !URL.canParse(`http://[${address}]`)) return address;
  const short = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(short);
  if (mapped === null) return short;
  const [high, low] = [Number.parseInt(mapped[1], 16), Number.parseInt(mapped[2], 16)];
  return [high >> 8, high & 255, low >> 8, low & 255].join('.');
}

export function isLoopback(ip: string): boolean {
  return /^127(\.\d{1,3}){3}$/.test(ip) || ip === '::1';
}

/** host:port as it stands in a URL. */
export function authority(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
