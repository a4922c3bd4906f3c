import { Client, Dispatcher } from 'undici';
import type { Awaitable } from '../store/store.ts';
import type { Dial } from './dial.ts';
import { type Connect, dialFor, lostTunnel, type OpenTunnel, type TunnelSettings } from './dialing.ts';

/** A request's say in which tunnel carries it. */
export interface Gate {
  /** Key of the egress whose slot the request holds. */
  readonly egress: string;
  /** Whether the headers are fetch's own: none of those is an agent's business. */
  readonly plain?: boolean;
  /** A dial was begun for it; aborting the dial aborts the request. */
  dialing(dial: Dial): void;
  /** The tunnel's exit is known. Throws (or rejects) when the request must not leave through it. */
  admit(dial: Dial): Awaitable<void>;
  /** This client carries the request now, through `client.tunnel` once it is connected. */
  carriedBy(client: TunnelClient): void;
}

/** Key under which a request's gate travels through undici's own dispatchers, which copy their options. */
export const kGate: unique symbol = Symbol('paceline gate');

export interface GatedOptions extends Dispatcher.DispatchOptions {
  [kGate]: Gate;
}

/** How long an unused tunnel is kept: well past the gap between two requests at the slowest usual budgets. */
const KEEP_ALIVE_MS = 90_000;
const KEEP_ALIVE_MOST_MS = 600_000;

/** One socket, one request at a time: so that a response, its tunnel and its egress always belong together. */
export class TunnelClient extends Client {
  /** The tunnel it is connected through. */
  tunnel: Dial | undefined;
  gate: Gate | undefined;
  private dialing: Dial | undefined;
  /** A dial was begun for this request; and why the tunnel before is gone. */
  private dialed = false;
  private lost: Error | undefined;
  private readonly owner: OriginTunnels;

  constructor(origin: string | URL, owner: OriginTunnels, open: OpenTunnel, settings: TunnelSettings) {
    const connect: Connect = (params, callback) => {
      const client = this!;
      const gate = client.gate;
      if (gate === undefined) callback(new Error('no request to connect for'));
      // undici dials again, and again, when a tunnel closes before the request is on its way.
      else if (client.dialed) callback(lostTunnel(client.lost));
      else {
        client.dialed = true;
        client.dialing = dialFor(gate, params, open, settings, (error, socket, dial) => {
          client.dialing = undefined;
          client.tunnel = dial;
          callback(error, socket);
        });
      }
    };
    super(origin, {
      connect: connect as never,
      allowH2: false,
      pipelining: 1,
      headersTimeout: settings.headersMs,
      bodyTimeout: settings.bodyMs,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: KEEP_ALIVE_MOST_MS,
    });
    this.owner = owner;
    this.on('disconnect', (_origin, _targets, error) => {
      this.tunnel = undefined;
      this.lost = error;
      if (this.gate === undefined) owner.drop(this);
    });
  }

  /** Takes on a request. */
  carry(gate: Gate): void {
    this.gate = gate;
    this.dialed = false;
    gate.carriedBy(this);
  }

  /** Ends it, in the middle of a dial too: undici would let a dial go on. */
  end(): Promise<void> {
    this.dialing?.abort(new Error('the way out was given up'));
    return this.destroy();
  }

  /** The request is over: the tunnel may carry another. */
  release(): void {
    if (this.gate === undefined) return;
    this.gate = undefined;
    if (this.tunnel === undefined) this.owner.drop(this);
    else this.owner.keep(this);
  }
}

/** The tunnels of one route to one origin: kept alive, one request each, the last used first. */
export class OriginTunnels extends Dispatcher {
  private readonly origin: string | URL;
  private readonly open: OpenTunnel;
  private readonly settings: TunnelSettings;
  private readonly idle: TunnelClient[] = [];
  private readonly clients = new Set<TunnelClient>();
  ended = false;

  constructor(origin: string | URL, open: OpenTunnel, settings: TunnelSettings) {
    super();
    this.origin = origin;
    this.open = open;
    this.settings = settings;
  }

  /** As undici's agents call it: the gate came along with the options. */
  override dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    return this.send(options, handler, (options as GatedOptions)[kGate]);
  }

  send(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler, gate: Gate): boolean {
    const client = this.take(gate.egress);
    client.carry(gate);
    const { tunnel } = client;
    if (tunnel === undefined || tunnel.egress === gate.egress) return client.dispatch(options, handler);
    // A tunnel that is open, but whose exit is another one than the permit was given for.
    const send = (): boolean => client.dispatch(options, handler);
    const refuse = (error: Error): boolean => {
      handler.onResponseError?.(undefined as never, error);
      return true;
    };
    try {
      const admitted = gate.admit(tunnel);
      if (admitted === undefined) return send();
      Promise.resolve(admitted).then(send, refuse);
      return true;
    } catch (error) {
      return refuse(error as Error);
    }
  }

  /** An idle tunnel through this egress, else any idle one, else a new client. */
  private take(egress: string): TunnelClient {
    const { idle } = this;
    const last = idle.length - 1;
    if (last >= 0 && idle[last].tunnel?.egress === egress) return idle.pop()!;
    for (let i = last - 1; i >= 0; i--) {
      if (idle[i].tunnel?.egress === egress) return idle.splice(i, 1)[0];
    }
    const other = idle.pop();
    if (other !== undefined) return other;
    const client = new TunnelClient(this.origin, this, this.open, this.settings);
    this.clients.add(client);
    return client;
  }

  keep(client: TunnelClient): void {
    if (this.ended) this.drop(client);
    else this.idle.push(client);
  }

  drop(client: TunnelClient): void {
    if (!this.clients.delete(client)) return;
    const at = this.idle.indexOf(client);
    if (at >= 0) this.idle.splice(at, 1);
    client.end().catch(() => {});
    // undici's Agent forgets an origin on this event when nothing of it is left.
    if (this.clients.size === 0 && !this.ended) this.emit('disconnect', this.origin as URL, [this], null as never);
  }

  override close(): Promise<void> {
    return this.destroy();
  }

  override async destroy(): Promise<void> {
    this.ended = true;
    const all = [...this.clients];
    this.clients.clear();
    this.idle.length = 0;
    await Promise.all(all.map((client) => client.end()));
  }
}
