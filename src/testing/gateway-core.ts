import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Clock } from '../clock.ts';
import type { Authenticate, Credentials } from './credentials.ts';
import type { Destination, Destinations } from './destinations.ts';
import { type Connection, type Exits, sameFamily } from './exits.ts';
import type { Fault, FaultKind, FaultPoint, Faults } from './faults.ts';
import { authority, SocketSet } from './sockets.ts';

/** One CONNECT, SOCKS5 request or forwarded request, as the gateway logged it. */
export interface ConnectRecord {
  /** The gateway clock's `now()` when it came, in milliseconds. */
  readonly at: number;
  readonly via: 'connect' | 'forward' | 'socks5';
  readonly session: string | undefined;
  /** What else the user name asked for, such as `{ country: 'us' }`. */
  readonly params: Readonly<Record<string, string>>;
  /** The exit it left from; '' when it was refused before it got one. */
  exit: string;
  /** What the client asked for: `shop.test:443`. */
  readonly host: string;
  /** What was answered, as HTTP says it; 0 when nothing was (yet). For a forwarded request, the target's status. */
  status: number;
  /** The fault that struck at its start. */
  fault: FaultKind | undefined;
}

/** What a client asks for, whatever the protocol. */
export interface Ask extends Credentials {
  readonly via: ConnectRecord['via'];
  readonly host: string;
  readonly port: number;
}

/** One ask on its way. */
export interface Passage {
  readonly ask: Ask;
  readonly record: ConnectRecord;
  readonly exit: string;
  /** The fault to strike before anything else. */
  readonly fault: Fault | undefined;
}

/** An open tunnel. */
export interface Tunnel {
  readonly session: string | undefined;
  readonly client: Duplex;
  readonly upstream: Socket;
}

export interface CoreParts {
  readonly clock: Clock;
  readonly exits: Exits;
  readonly faults: Faults;
  readonly destinations: Destinations;
  readonly authenticate: Authenticate;
  readonly authRequired: boolean;
  readonly egressHeader: string | false;
  readonly connectDelay: () => number;
  readonly latency: () => number;
}

/** What the protocols of a gateway share: its state, and the steps of a passage. */
export class GatewayCore {
  readonly parts: CoreParts;
  readonly clients: SocketSet = new SocketSet();
  readonly upstreams: SocketSet = new SocketSet();
  readonly tunnels: Set<Tunnel> = new Set();
  readonly log: ConnectRecord[] = [];
  readonly counts: { connections: number; connects: number; forwarded: number; refused: number } = {
    connections: 0,
    connects: 0,
    forwarded: 0,
    refused: 0,
  };
  readonly perExit: Map<string, number> = new Map();

  constructor(parts: CoreParts) {
    this.parts = parts;
  }

  /** A new client connection. */
  accept(socket: Socket): void {
    socket.setNoDelay(true);
    this.counts.connections++;
    this.clients.add(socket);
  }

  /** What the credentials ask for; `undefined` when they are refused. */
  login(user: string, password: string): Credentials | undefined {
    try {
      return this.parts.authenticate(user, password);
    } catch {
      // The caller's own reader stumbled over what a client sent.
      return undefined;
    }
  }

  /** Gives the ask its exit, and whatever fault waits for it. */
  admit(ask: Ask, connection: Connection): Passage {
    const { exits, faults } = this.parts;
    let exit = exits.pick(ask.session, connection);
    const record = this.record(ask);
    let fault = faults.take(['connect'], { ...ask, session: ask.session, exit });
    record.fault = fault?.kind;
    if (fault?.kind === 'switch-exit') {
      exit = ask.session === undefined ? exits.other(exit) : exits.rotate(ask.session);
      connection.exit = exit;
      fault = undefined;
    }
    record.exit = exit;
    return { ask, record, exit, fault };
  }

  record(ask: Ask): ConnectRecord {
    const record: ConnectRecord = {
      at: this.parts.clock.now(),
      via: ask.via,
      session: ask.session,
      params: ask.params,
      exit: '',
      host: authority(ask.host, ask.port),
      status: 0,
      fault: undefined,
    };
    this.log.push(record);
    return record;
  }

  refused(record: ConnectRecord, status: number): void {
    record.status = status;
    this.counts.refused++;
  }

  passed(passage: Passage, status: number): void {
    passage.record.status = status;
    if (passage.record.via === 'forward') this.counts.forwarded++;
    else this.counts.connects++;
    this.perExit.set(passage.exit, (this.perExit.get(passage.exit) ?? 0) + 1);
  }

  /** The fault that strikes now, in the midst of a passage. */
  takeFault(passage: Passage, points: readonly FaultPoint[]): Fault | undefined {
    return this.parts.faults.take(points, { ...passage.ask, session: passage.ask.session, exit: passage.exit });
  }

  /** What to bind to. An exit of the other family cannot be used; the target then sees the loopback address itself. */
  binding(exit: string, destination: Destination): { host: string; port: number; localAddress: string | undefined } {
    return { ...destination, localAddress: sameFamily(exit, destination.host) ? exit : undefined };
  }

  /** Connects to the destination from the exit; the status to refuse with when that fails. Given up when `client` closes. */
  dial(exit: string, destination: Destination, client: Duplex): Promise<Socket | number> {
    const socket = connect({ ...this.binding(exit, destination), allowHalfOpen: true, noDelay: true });
    this.upstreams.add(socket);
    return new Promise((resolve) => {
      const giveUp = (): void => {
        socket.destroy();
      };
      let failure = 502;
      client.once('close', giveUp);
      socket.once('error', (error) => {
        failure = statusOf(error);
      });
      const onClose = (): void => {
        client.off('close', giveUp);
        resolve(failure);
      };
      socket.once('close', onClose);
      socket.once('connect', () => {
        socket.off('close', onClose);
        client.off('close', giveUp);
        resolve(socket);
      });
    });
  }

  closeTunnels(session?: string): void {
    for (const tunnel of this.tunnels) {
      if (session !== undefined && tunnel.session !== session) continue;
      tunnel.client.destroy();
      tunnel.upstream.destroy();
    }
  }

  destroy(): Promise<unknown> {
    this.clients.destroy();
    this.upstreams.destroy();
    return Promise.all([this.clients.empty(), this.upstreams.empty()]);
  }
}

/** The status for a failed connection to the target. */
export function statusOf(error: NodeJS.ErrnoException): number {
  return error.code === 'ETIMEDOUT' ? 504 : 502;
}
