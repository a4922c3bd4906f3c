import type { Dispatcher } from 'undici';
import { GatewayError } from '../../errors.ts';
import type { Carrier } from '../../gateway/agents.ts';
import { Dial } from '../../gateway/dial.ts';
import { gatewayFault } from '../../gateway/faults.ts';
import type { PoolRoute } from '../../gateway/pool.ts';
import type { Gate, TunnelClient } from '../../gateway/tunnels.ts';
import type { Transport } from '../../options.ts';
import type { SimulatedDialError, SimulatedTunnel, SimulatedWorld } from './world.ts';

const BODY = Buffer.from('simulated');

/** A tunnel that is kept, as the manager knows it and as the world knows it. */
interface Kept {
  readonly dial: Dial;
  readonly tunnel: SimulatedTunnel;
  free: boolean;
}

/** What stands in the place of a TunnelClient: the manager only asks it for its tunnel, and to let go. */
class KeptClient {
  readonly kept: Kept[];
  one: Kept | undefined;

  constructor(kept: Kept[]) {
    this.kept = kept;
  }

  get tunnel(): Dial | undefined {
    return this.one?.dial;
  }

  release(): void {
    if (this.one !== undefined) this.one.free = true;
  }

  /** The tunnel broke. */
  lose(): void {
    if (this.one !== undefined) this.kept.splice(this.kept.indexOf(this.one), 1);
    this.one = undefined;
  }
}

/** A manager's transport into a simulated world: sessions, kept tunnels, exits named at CONNECT, aborts. */
export function simulatedTransport(world: SimulatedWorld): Transport {
  return (route) => new SimulatedCarrier(world, route);
}

class SimulatedCarrier implements Carrier {
  private readonly world: SimulatedWorld;
  private readonly route: PoolRoute;
  private readonly kept: Kept[] = [];

  constructor(world: SimulatedWorld, route: PoolRoute) {
    this.world = world;
    this.route = route;
  }

  dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler, gate: Gate): boolean {
    const { hostname } = new URL(String(options.origin));
    const client = new KeptClient(this.kept);
    gate.carriedBy(client as unknown as TunnelClient);
    const one = this.kept.find(
      ({ free, tunnel, dial }) => free && tunnel.host === hostname && dial.egress === gate.egress,
    );
    if (one === undefined) this.open(hostname, options, handler, gate, client);
    else {
      one.free = false;
      client.one = one;
      this.send(one, handler, client, options.reset === true);
    }
    return true;
  }

  async destroy(): Promise<void> {
    this.kept.length = 0;
  }

  private open(
    host: string,
    options: Dispatcher.DispatchOptions,
    handler: Dispatcher.DispatchHandler,
    gate: Gate,
    client: KeptClient,
  ): void {
    const { world, route } = this;
    const dial = new Dial();
    const failed = (error: Error): void => handler.onResponseError?.(undefined as never, error);
    const giveUp = world.dial(route.session, host, (error, tunnel) => {
      dial.finished();
      if (tunnel === undefined) {
        const { status } = error as SimulatedDialError;
        const { kind, fatal } = gatewayFault({ status, headers: {} });
        failed(new GatewayError(error!.message, { kind, fatal, pool: route.pool, status }));
        return;
      }
      dial.answered(200, world.exits.options.namesExits ? { 'x-egress-ip': tunnel.exit } : {});
      const admitted = (): void => {
        const one = { dial, tunnel, free: false };
        this.kept.push(one);
        client.one = one;
        this.send(one, handler, client, options.reset === true);
      };
      try {
        const answer = gate.admit(dial);
        if (answer === undefined) admitted();
        else answer.then(admitted, failed);
      } catch (refusal) {
        failed(refusal as Error);
      }
    });
    dial.onAbort((reason) => {
      giveUp();
      failed(reason);
    });
    gate.dialing(dial);
  }

  private send(one: Kept, handler: Dispatcher.DispatchHandler, client: KeptClient, once: boolean): void {
    let over = false;
    const controller: Dispatcher.DispatchController = {
      aborted: false,
      paused: false,
      reason: null,
      abort(reason) {
        if (over) return;
        over = true;
        Object.assign(controller, { aborted: true, reason });
        client.lose();
        handler.onResponseError?.(controller, reason);
      },
      pause() {},
      resume() {},
    };
    handler.onRequestStart?.(controller, null);
    if (over) return;
    this.world.send(one.tunnel, ({ status, headers }) => {
      if (over) return;
      over = true;
      if (status === 0) {
        client.lose();
        const error = Object.assign(new Error('the simulated tunnel broke'), { code: 'ECONNRESET' });
        handler.onResponseError?.(controller, error);
        return;
      }
      if (once) client.lose();
      handler.onResponseStart?.(controller, status, headers, '');
      handler.onResponseData?.(controller, BODY);
      handler.onResponseEnd?.(controller, {});
    });
  }
}
