import type { Duplex } from 'node:stream';
import { pause } from './delays.ts';
import type { Connection } from './exits.ts';
import { delayOfFault } from './faults.ts';
import type { Ask, GatewayCore } from './gateway-core.ts';
import type { Inbox } from './inbox.ts';
import { relay } from './relay.ts';
import { closeAfterWrites, strike } from './strike.ts';

/** How a protocol words its two answers. */
export interface Wire {
  accepted(exit: string, port: number): Uint8Array | string;
  refused(status: number, headers?: Readonly<Record<string, string>>, body?: string): Uint8Array | string;
}

/** One CONNECT, or SOCKS5's request for the same: from the ask to the open tunnel, or to the refusal. */
export async function openTunnel(core: GatewayCore, client: Duplex, inbox: Inbox, ask: Ask, wire: Wire): Promise<void> {
  const { clock, destinations, connectDelay } = core.parts;
  const connection: Connection = {};
  const passage = core.admit(ask, connection);
  const { fault, record, exit } = passage;

  const refuse = (status: number, headers?: Readonly<Record<string, string>>, body?: string): void => {
    core.refused(record, status);
    client.write(wire.refused(status, headers, body));
    closeAfterWrites(client);
  };

  if (fault !== undefined) {
    if (!(await pause(clock, delayOfFault(fault), client))) return;
    if (fault.kind === 'status') return refuse(fault.status ?? 502, fault.headers, fault.body);
    if (fault.kind !== 'slow') {
      core.refused(record, 0);
      return strike(fault, client, core.clients);
    }
  }
  const destination = destinations.resolve(ask.host, ask.port);
  if (destination === undefined) return refuse(403, {}, `mock gateway: ${ask.host} is neither mapped nor loopback`);
  if (!(await pause(clock, connectDelay(), client))) return;
  const upstream = await core.dial(exit, destination, client);
  if (typeof upstream === 'number') return refuse(upstream, {}, `mock gateway: no connection to ${record.host}`);
  if (client.destroyed) {
    upstream.destroy();
    return;
  }
  core.passed(passage, 200);
  inbox.release();
  client.write(wire.accepted(exit, upstream.localPort ?? 0));
  relay(core, passage, { session: ask.session, client, upstream });
}
