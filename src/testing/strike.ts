import type { Duplex } from 'node:stream';
import type { Fault } from './faults.ts';
import type { SocketSet } from './sockets.ts';

/** Bytes that are neither HTTP nor SOCKS nor TLS. */
const GARBAGE = Buffer.from('\x00\xff\x13\x37 this is not the protocol you are looking for \r\n\r\n', 'latin1');

/** The end of a client's connection as the fault has it. The rest (status, slow, switch-exit) is for the protocol to do. */
export function strike(fault: Fault, client: Duplex, clients: SocketSet): void {
  switch (fault.kind) {
    case 'silence':
      return;
    case 'rst':
      clients.reset(client);
      return;
    case 'garbage':
      client.write(GARBAGE);
      closeAfterWrites(client);
      return;
    default:
      if (fault.reset) clients.reset(client);
      else closeAfterWrites(client);
  }
}

/** Sends what is written, then FIN, then forgets the socket whether or not the other end closes too. */
export function closeAfterWrites(socket: Duplex): void {
  if (socket.writableFinished) socket.destroy();
  else {
    socket.once('finish', () => socket.destroy());
    socket.end();
  }
}
