import { Agent, type IncomingMessage, type RequestOptions, type ServerResponse, request as send } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Credentials } from './credentials.ts';
import { pause } from './delays.ts';
import type { Connection } from './exits.ts';
import { delayOfFault, type Fault, pointOf } from './faults.ts';
import { type GatewayCore, type Passage, statusOf } from './gateway-core.ts';
import { strike } from './strike.ts';

/** Headers that belong to one hop. Transfer-Encoding stays: it tells the next hop's framing from none. */
const HOP = [
  'connection',
  'proxy-connection',
  'keep-alive',
  'proxy-authorization',
  'proxy-authenticate',
  'te',
  'trailer',
  'upgrade',
  'expect',
];

interface ClientConnection extends Connection {
  /** Connections to targets, kept while the client's own lasts. */
  readonly agent: Agent;
}

/** Forwards absolute-form requests. */
export class Forwarder {
  private readonly connections = new WeakMap<Duplex, ClientConnection>();
  private readonly core: GatewayCore;

  constructor(core: GatewayCore) {
    this.core = core;
  }

  async forward(request: IncomingMessage, response: ServerResponse, url: URL, login: Credentials): Promise<void> {
    const { core } = this;
    const { clock, destinations, connectDelay, latency } = core.parts;
    const connection = this.connectionOf(request.socket);
    const ask = { ...login, host: url.hostname, port: Number(url.port) || 80, via: 'forward' } as const;
    const passage = core.admit(ask, connection);
    const { fault, record, exit } = passage;

    const refuse = (status: number, headers: Readonly<Record<string, string>> = {}, body = ''): void => {
      core.refused(record, status);
      request.resume();
      response.writeHead(status, headers);
      response.end(body);
    };

    if (fault !== undefined) {
      if (!(await pause(clock, delayOfFault(fault), response))) return;
      if (fault.kind === 'status') return refuse(fault.status ?? 502, fault.headers, fault.body);
      if (fault.kind !== 'slow') {
        core.refused(record, 0);
        request.resume();
        return strike(fault, request.socket, core.clients);
      }
    }
    const destination = destinations.resolve(ask.host, ask.port);
    if (destination === undefined) return refuse(403, {}, `mock gateway: ${ask.host} is neither mapped nor loopback`);

    const options: RequestOptions = {
      ...core.binding(exit, destination),
      agent: connection.agent,
      method: request.method,
      path: url.pathname + url.search,
      headers: endToEnd(request.rawHeaders) as unknown as RequestOptions['headers'],
      setHost: false,
    };
    const warm = connection.agent.freeSockets[connection.agent.getName(options)] !== undefined;
    if (!(await pause(clock, (warm ? 0 : connectDelay()) + latency(), response))) return;

    const upstream = send(options);
    upstream.on('socket', (socket) => core.upstreams.add(socket));
    upstream.on('error', (error) => {
      if (response.headersSent) request.socket.destroy();
      else refuse(statusOf(error), {}, `mock gateway: no answer from ${record.host}`);
    });
    upstream.on('response', (answer) => {
      this.answer(passage, answer, response).catch(() => response.destroy());
    });
    request.pipe(upstream);
  }

  private async answer(passage: Passage, answer: IncomingMessage, response: ServerResponse): Promise<void> {
    const { core } = this;
    const { clock, egressHeader, latency } = core.parts;
    answer.on('error', () => response.destroy());
    const fault = core.takeFault(passage, ['response', 'body']);
    const early = fault !== undefined && pointOf(fault) === 'response' ? fault : undefined;
    if (!(await pause(clock, latency() + (early === undefined ? 0 : delayOfFault(early)), response))) return;
    if (early !== undefined && early.kind !== 'slow') {
      core.refused(passage.record, 0);
      answer.resume();
      return strike(early, response.req.socket, core.clients);
    }
    core.passed(passage, answer.statusCode!);
    const headers = endToEnd(answer.rawHeaders);
    if (egressHeader !== false) headers.push(egressHeader, passage.exit);
    response.writeHead(answer.statusCode!, answer.statusMessage, headers);
    if (fault === undefined || fault === early) answer.pipe(response);
    else this.cut(fault, answer, response);
  }

  /** Relays the body up to where the fault strikes. */
  private cut(fault: Fault, answer: IncomingMessage, response: ServerResponse): void {
    const { clock } = this.core.parts;
    let left = fault.afterBytes ?? 1;
    const onData = (chunk: Buffer): void => {
      if (chunk.length < left) {
        left -= chunk.length;
        response.write(chunk);
        return;
      }
      answer.pause();
      answer.off('data', onData);
      // Written through before a reset can overtake it.
      response.write(chunk.subarray(0, left), async () => {
        if (!(await pause(clock, delayOfFault(fault), response))) return;
        if (fault.kind === 'slow') {
          response.write(chunk.subarray(left));
          answer.pipe(response);
        } else {
          strike(fault, response.req.socket, this.core.clients);
          answer.resume();
        }
      });
    };
    answer.on('data', onData);
    answer.on('end', () => {
      if (answer.listeners('data').includes(onData)) response.end();
    });
  }

  private connectionOf(socket: Duplex): ClientConnection {
    let connection = this.connections.get(socket);
    if (connection === undefined) {
      const agent = new Agent({ keepAlive: true, maxFreeSockets: 4 });
      connection = { agent };
      this.connections.set(socket, connection);
      socket.once('close', () => agent.destroy());
    }
    return connection;
  }
}

/** Raw headers without those of this hop, nor those that `Connection` names. */
function endToEnd(raw: readonly string[]): string[] {
  const drop = new Set(HOP);
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i].toLowerCase() === 'connection')
      for (const name of raw[i + 1].split(',')) drop.add(name.trim().toLowerCase());
  }
  drop.delete('transfer-encoding');
  const kept: string[] = [];
  for (let i = 0; i < raw.length; i += 2) if (!drop.has(raw[i].toLowerCase())) kept.push(raw[i], raw[i + 1]);
  return kept;
}
