import type { Duplex } from 'node:stream';
import { delayOfFault, type Fault, pointOf } from './faults.ts';
import { Flow } from './flow.ts';
import type { GatewayCore, Passage, Tunnel } from './gateway-core.ts';
import type { SocketSet } from './sockets.ts';
import { strike } from './strike.ts';

/** A fault that has been taken, and how many bytes it lets through before it strikes. */
interface Pending {
  readonly fault: Fault;
  left: number;
}

/** Relays a tunnel until both ends have closed, with the faults that strike within it. */
export function relay(core: GatewayCore, passage: Passage, tunnel: Tunnel): void {
  const { client, upstream } = tunnel;
  const { clock, latency } = core.parts;
  core.tunnels.add(tunnel);
  client.once('close', () => core.tunnels.delete(tunnel));

  const up = new Flow(client, upstream, clock);
  const down = new Flow(upstream, client, clock);
  // The target's first bytes after the client's begin an answer.
  let asked = true;
  let pending: Pending | undefined;
  let struck = false;

  const cut = (fault: Fault): void => {
    strike(fault, client, core.clients);
    // Nothing ends a silent tunnel but the client that gives up.
    if (fault.kind === 'silence') client.once('end', () => client.destroy());
    else upstream.destroy();
  };
  const onAnswer = (chunk: Buffer): void => {
    if (struck) return;
    if (asked) pending ??= take(core, passage, chunk);
    asked = false;
    if (pending === undefined || chunk.length < pending.left) {
      if (pending !== undefined) pending.left -= chunk.length;
      down.write(chunk);
      return;
    }
    const { fault, left } = pending;
    pending = undefined;
    const rest = chunk.subarray(left);
    if (left > 0) down.write(chunk.subarray(0, left));
    if (fault.kind === 'slow') {
      down.hold(delayOfFault(fault), () => down.write(rest));
    } else {
      struck = true;
      down.stop();
      // An empty write, so that a reset does not overtake what was let through.
      client.write('', () => down.hold(delayOfFault(fault), () => cut(fault)));
    }
  };

  endTogether(client, upstream, core.upstreams);
  endTogether(upstream, client, core.clients, () => struck);
  up.start(latency(), (chunk) => {
    asked = true;
    up.write(chunk);
  });
  down.start(latency(), onAnswer);
}

function take(core: GatewayCore, passage: Passage, chunk: Buffer): Pending | undefined {
  const fault = core.takeFault(passage, ['response', 'body']);
  if (fault === undefined) return undefined;
  if (pointOf(fault) === 'response') return { fault, left: 0 };
  const end = chunk.subarray(0, 5).toString('latin1') === 'HTTP/' ? chunk.indexOf('\r\n\r\n') : -1;
  return { fault, left: (fault.afterBytes ?? 1) + (end < 0 ? 0 : end + 4) };
}

/** When one end breaks, so does the other: a reset as a reset. An end that has only finished leaves the other its time. */
function endTogether(one: Duplex, other: Duplex, others: SocketSet, unless: () => boolean = () => false): void {
  let failed = false;
  one.once('error', () => {
    failed = true;
  });
  one.once('close', () => {
    if (unless()) return;
    if (failed) others.reset(other);
    else if (!one.readableEnded) other.destroy();
    // Nobody takes any more what it still has to say: unread, it would never end.
    else other.resume();
  });
}
