import type { Dispatcher } from 'undici';
import type { Random } from '../../src/clock.ts';
import type { Carrier } from '../../src/gateway/agents.ts';
import { Dial } from '../../src/gateway/dial.ts';
import type { PoolRoute } from '../../src/gateway/pool.ts';
import type { Gate, TunnelClient } from '../../src/gateway/tunnels.ts';
import type { VirtualClock } from '../../src/testing/virtual-clock.ts';

/** A request as the target saw it, and as the client sent it. */
export interface Passage {
  readonly target: string;
  readonly path: string;
  readonly pool: string;
  readonly egress: string;
  readonly sentAt: number;
  arrivedAt: number;
  answeredAt: number;
  /** When the client had its answer, or gave up. */
  endedAt: number;
  status: number;
  retryAfterMs: number;
}

/** A request as the gateway of a pool saw it: from the dial, or from the send where a tunnel was kept, to its end. */
export interface Use {
  readonly pool: string;
  readonly from: number;
  to: number;
}

export interface WorldOptions {
  readonly clock: VirtualClock;
  readonly random: Random;
  /** Exits behind the gateway; a new session gets one of them at random. */
  readonly exits: number;
  readonly dialMs: readonly [number, number];
  /** One way. */
  readonly latencyMs: readonly [number, number];
  /** Share of dials after which a session has moved to another exit. */
  readonly churn: number;
  /** What the target answers; default 200. `undefined` as status: the connection is reset after the arrival. */
  readonly answer?: (passage: Passage) => { status: number | undefined; headers?: Record<string, string> };
  /** How a dial to a host fails at the gateway, if it does. */
  readonly refuse?: (route: PoolRoute, host: string) => Error | undefined;
  /** Whether the gateway names the exit on its CONNECT answer. @default true */
  readonly names?: boolean;
}

interface Tunnel {
  readonly origin: string;
  readonly dial: Dial;
  busy: boolean;
}

/** Targets and a rotating gateway in virtual time, in the place of sockets: what arrives, when, and from where, is logged on the target's side. */
export class SimulatedWorld {
  readonly passages: Passage[] = [];
  readonly uses: Use[] = [];
  dials = 0;
  private readonly options: WorldOptions;
  private readonly exitOf = new Map<string, string>();

  constructor(options: WorldOptions) {
    this.options = options;
  }

  readonly transport = (route: PoolRoute): Carrier => {
    const tunnels: Tunnel[] = [];
    return {
      dispatch: (options, handler, gate) => {
        const origin = String(options.origin);
        const use: Use = { pool: route.pool, from: this.options.clock.now(), to: Infinity };
        this.uses.push(use);
        const idle = tunnels.find(
          (tunnel) => !tunnel.busy && tunnel.origin === origin && tunnel.dial.egress === gate.egress,
        );
        if (idle !== undefined) {
          idle.busy = true;
          gate.carriedBy(this.client(idle, tunnels, use));
          this.exchange(route, idle, options, handler);
        } else this.open(route, origin, options, handler, gate, tunnels, use);
        return true;
      },
      destroy: async () => {},
    };
  };

  /** Arrival times by target and egress. */
  arrivals(): Map<string, number[]> {
    const all = new Map<string, number[]>();
    for (const { target, egress, arrivedAt } of this.passages) {
      if (arrivedAt === Infinity) continue;
      const key = `${target} ${egress}`;
      const times = all.get(key);
      if (times === undefined) all.set(key, [arrivedAt]);
      else times.push(arrivedAt);
    }
    for (const times of all.values()) times.sort((a, b) => a - b);
    return all;
  }

  private between([low, high]: readonly [number, number]): number {
    return low + (high - low) * this.options.random();
  }

  private client(tunnel: Tunnel, tunnels: Tunnel[], use: Use): TunnelClient {
    return {
      tunnel: tunnel.dial,
      release: () => {
        use.to = this.options.clock.now();
        tunnel.busy = false;
        if (tunnel.dial.aborted !== undefined) tunnels.splice(tunnels.indexOf(tunnel), 1);
      },
    } as unknown as TunnelClient;
  }

  private exit(route: PoolRoute): string {
    const { random, exits, churn } = this.options;
    // The machine itself and a static proxy have the one address they have.
    if (route.session === undefined && route.weight === 1) return route.egress;
    let exit = this.exitOf.get(route.id);
    if (exit === undefined || random() < churn) {
      exit = `10.0.0.${1 + Math.floor(random() * exits)}`;
      this.exitOf.set(route.id, exit);
    }
    return exit;
  }

  private open(
    route: PoolRoute,
    origin: string,
    options: Dispatcher.DispatchOptions,
    handler: Dispatcher.DispatchHandler,
    gate: Gate,
    tunnels: Tunnel[],
    use: Use,
  ): void {
    const { clock, dialMs, names = true, refuse } = this.options;
    const dial = new Dial();
    const tunnel: Tunnel = { origin, dial, busy: true };
    this.dials++;
    gate.carriedBy(this.client(tunnel, tunnels, use));
    let over = false;
    dial.onAbort((reason) => {
      if (over) return;
      over = true;
      handler.onResponseError?.(undefined as never, reason);
    });
    gate.dialing(dial);
    clock.setTimeout(() => {
      if (over) return;
      over = true;
      dial.finished();
      const fault = refuse?.(route, new URL(origin).hostname);
      if (fault !== undefined) {
        handler.onResponseError?.(undefined as never, fault);
        return;
      }
      const exit = this.exit(route);
      dial.answered(200, names && exit !== route.egress ? { 'x-egress-ip': exit } : {});
      try {
        gate.admit(dial);
      } catch (error) {
        handler.onResponseError?.(undefined as never, error as Error);
        return;
      }
      tunnels.push(tunnel);
      this.exchange(route, tunnel, options, handler, exit);
    }, this.between(dialMs));
  }

  private exchange(
    route: PoolRoute,
    tunnel: Tunnel,
    options: Dispatcher.DispatchOptions,
    handler: Dispatcher.DispatchHandler,
    exit = tunnel.dial.egress!,
  ): void {
    const { clock, latencyMs, answer } = this.options;
    const passage: Passage = {
      target: new URL(String(options.origin)).hostname,
      path: String(options.path),
      pool: route.pool,
      egress: exit,
      sentAt: clock.now(),
      arrivedAt: Infinity,
      answeredAt: Infinity,
      endedAt: Infinity,
      status: 0,
      retryAfterMs: 0,
    };
    this.passages.push(passage);
    let over = false;
    const controller: Dispatcher.DispatchController = {
      aborted: false,
      paused: false,
      reason: null,
      abort: (reason) => {
        if (over) return;
        over = true;
        passage.endedAt = clock.now();
        Object.assign(controller, { aborted: true, reason });
        // A cut tunnel is not used again.
        tunnel.dial.egress = undefined;
        handler.onResponseError?.(controller, reason);
      },
      pause: () => {},
      resume: () => {},
    };
    handler.onRequestStart?.(controller, null);
    // What was sent arrives, aborted or not.
    clock.setTimeout(() => {
      passage.arrivedAt = clock.now();
      const { status, headers = {} } = answer?.(passage) ?? { status: 200 };
      passage.status = status ?? 0;
      clock.setTimeout(() => {
        if (over) return;
        over = true;
        passage.answeredAt = passage.endedAt = clock.now();
        if (status === undefined) {
          tunnel.dial.egress = undefined;
          handler.onResponseError?.(controller, Object.assign(new Error('reset'), { code: 'ECONNRESET' }));
          return;
        }
        handler.onResponseStart?.(controller, status, headers, '');
        handler.onResponseData?.(controller, Buffer.from('x'));
        handler.onResponseEnd?.(controller, {});
      }, this.between(latencyMs));
    }, this.between(latencyMs));
  }
}
