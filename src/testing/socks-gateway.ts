import { createServer, isIPv4, type Server, type Socket } from 'node:net';
import type { Credentials } from './credentials.ts';
import type { GatewayCore } from './gateway-core.ts';
import { Inbox } from './inbox.ts';
import { plainIp } from './sockets.ts';
import { closeAfterWrites } from './strike.ts';
import { openTunnel, type Wire } from './tunnel.ts';

/** Reply codes of RFC 1928, section 6. */
const REPLY = {
  ok: 0,
  failure: 1,
  forbidden: 2,
  hostUnreachable: 4,
  refused: 5,
  expired: 6,
  command: 7,
  addressType: 8,
};

const wire: Wire = {
  accepted: (exit, port) => reply(REPLY.ok, exit, port),
  refused: (status) => reply(replyCode(status)),
};

/** A SOCKS5 proxy (RFC 1928) with user and password (RFC 1929): CONNECT only. */
export function socksGateway(core: GatewayCore): Server {
  return createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    serve(core, socket).catch(() => socket.destroy());
  });
}

async function serve(core: GatewayCore, socket: Socket): Promise<void> {
  const inbox = new Inbox(socket);
  const login = await greet(core, socket, inbox);
  if (login === undefined) return;

  const head = await inbox.take(4);
  if (head === undefined) return;
  const [version, command, , type] = head;
  const host = version === 5 ? await hostOf(type, inbox) : undefined;
  if (host === undefined) return end(socket, reply(version === 5 ? REPLY.addressType : REPLY.failure));
  const port = (await inbox.take(2))?.readUInt16BE();
  if (port === undefined) return;
  if (command !== 1) return end(socket, reply(REPLY.command));
  await openTunnel(core, socket, inbox, { ...login, host, port, via: 'socks5' }, wire);
}

/** Agrees on a method and reads the credentials; `undefined` when the client was turned away. */
async function greet(core: GatewayCore, socket: Socket, inbox: Inbox): Promise<Credentials | undefined> {
  const { authRequired } = core.parts;
  const hello = await inbox.take(2);
  const methods = hello?.[0] === 5 ? await inbox.take(hello[1]) : undefined;
  if (methods === undefined) {
    socket.destroy();
    return undefined;
  }
  if (!methods.includes(2)) {
    const open = !authRequired && methods.includes(0);
    if (!open) return refuse(core, socket, [5, 0xff]);
    socket.write(Uint8Array.of(5, 0));
    return core.login('', '') ?? refuse(core, socket, [5, 0xff]);
  }
  socket.write(Uint8Array.of(5, 2));
  await inbox.take(1); // the version of the sub-negotiation
  const user = await shortText(inbox);
  const password = await shortText(inbox);
  if (user === undefined || password === undefined) return undefined;
  const login = core.login(user, password);
  if (login === undefined) return refuse(core, socket, [1, 1]);
  socket.write(Uint8Array.of(1, 0));
  return login;
}

function refuse(core: GatewayCore, socket: Socket, bytes: readonly number[]): undefined {
  core.refused(core.record({ host: '', port: 0, params: {}, via: 'socks5' }), 407);
  end(socket, Uint8Array.from(bytes));
}

function end(socket: Socket, bytes: Uint8Array): void {
  socket.write(bytes);
  closeAfterWrites(socket);
}

/** A text behind its length, which is one byte. */
async function shortText(inbox: Inbox): Promise<string | undefined> {
  const length = await inbox.take(1);
  return length && (await inbox.take(length[0]))?.toString();
}

async function hostOf(type: number, inbox: Inbox): Promise<string | undefined> {
  if (type === 1) return (await inbox.take(4))?.join('.');
  if (type === 3) return shortText(inbox);
  if (type !== 4) return undefined;
  const bytes = await inbox.take(16);
  if (bytes === undefined) return undefined;
  return plainIp(Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(2 * i).toString(16)).join(':'));
}

/** The reply nearest to an HTTP status. */
function replyCode(status: number): number {
  if (status === 403 || status === 407) return REPLY.forbidden;
  if (status === 404) return REPLY.hostUnreachable;
  if (status === 502) return REPLY.refused;
  return status === 504 ? REPLY.expired : REPLY.failure;
}

/** A reply with the address that the tunnel leaves from. */
function reply(code: number, exit = '0.0.0.0', port = 0): Uint8Array {
  const address = isIPv4(exit) ? [1, ...exit.split('.').map(Number)] : [4, ...Array(15).fill(0), 1];
  return Uint8Array.of(5, code, 0, ...address, port >> 8, port & 255);
}
