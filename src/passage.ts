import type { Dispatcher } from 'undici';
import type { Lane, TargetQueue, Waiter } from './admission.ts';
import type { Call } from './call.ts';
import type { TimerHandle } from './clock.ts';
import type { Engine } from './engine.ts';
import { GatewayError } from './errors.ts';
import type { Dial } from './gateway/dial.ts';
import type { Pool, PoolRoute } from './gateway/pool.ts';
import type { Gate, TunnelClient } from './gateway/tunnels.ts';
import type { PendingController } from './pending-controller.ts';
import type { Grant } from './store/store.ts';
import type { Target } from './target/types.ts';
import type { Level } from './waiters.ts';

// One way only: waiting for a permit → on its way to a tunnel → sent → headers came → over. A refused tunnel leads back to waiting.
export const WAITING = 0;
export const DIALING = 1;
export const SENT = 2;
export const ANSWERED = 3;
export const OVER = 4;

/** The tunnel's exit must not be used now: the request goes back to the queue, nothing was sent. */
export class EgressRefused extends Error {
  readonly code: string = 'PACELINE_EGRESS_REFUSED';
}

/** A request's way to a tunnel: it waits for a permit, is given a route, and is checked against the exit that the tunnel really has. */
export abstract class Passage implements Gate, Waiter {
  protected readonly engine: Engine;
  protected readonly call: Call;
  protected readonly options: Dispatcher.DispatchOptions;
  protected abstract readonly controller: PendingController;
  protected state: number = WAITING;
  protected target!: Target;
  protected queue!: TargetQueue;
  protected pool!: Pool;
  protected route!: PoolRoute;
  protected grant!: Grant;
  protected dial: Dial | undefined;
  protected client: TunnelClient | undefined;
  protected leaveCarrier: (() => void) | undefined;
  /** Time in the queue. */
  protected waitedMs = 0;

  // Waiter
  readonly priority: number;
  lane: Lane | undefined;
  before: Passage | undefined;
  after: Passage | undefined;
  level: Level | undefined;
  queuedAt = 0;
  giveUpAt: number = Infinity;
  maxWaitMs: number = Infinity;
  giveUpTimer: TimerHandle | undefined;

  constructor(engine: Engine, call: Call, options: Dispatcher.DispatchOptions) {
    this.engine = engine;
    this.call = call;
    this.options = options;
    this.priority = call.pace.priority ?? 0;
  }

  /** It cannot go on: nothing was sent. */
  protected abstract fail(error: Error): void;

  abstract onResponseError(controller: Dispatcher.DispatchController | undefined, error: Error): void;

  /** Takes its place in the queue of its target. */
  protected enter(): void {
    const { engine, call, options } = this;
    try {
      const url = `${options.origin}${options.path}`;
      this.target = engine.classify(url, call.pace.tier);
      this.pool = call.pin === undefined ? engine.poolFor(this.target, call.pace.pool) : engine.pool(call.pin.pool);
      this.queue = engine.queueFor(this.target, call.pace.tier);
    } catch (error) {
      this.fail(error as Error);
      return;
    }
    call.target = this.target.name;
    call.tier = this.target.tier;
    this.queuedAt = engine.clock.now();
    this.maxWaitMs = Math.min(call.pace.maxWaitMs ?? Infinity, engine.timeouts.queueMs ?? Infinity);
    this.giveUpAt = this.queuedAt + this.maxWaitMs;
    engine.admission.take(this, this.queue, this.pool, call.pin, false);
  }

  granted(grant: Grant): void {
    const { engine, call } = this;
    this.waited();
    this.state = DIALING;
    this.grant = grant;
    this.route = grant.route as PoolRoute;
    call.route = this.route;
    // Hops stay where the first one left from: a site may tie its redirects to the address.
    if (this.route.weight === 1) call.pin = this.route;
    const { carrier, done } = engine.carriers.use(this.route);
    this.leaveCarrier = done;
    const { probeUrl } = this.pool.options;
    if (probeUrl === undefined || this.route.probed !== undefined) this.send(carrier);
    else {
      engine.probe(this.route, carrier, probeUrl).then(
        () => {
          if (this.state === DIALING) this.send(carrier);
        },
        (error) => {
          if (this.state === DIALING) this.onResponseError(undefined, error);
        },
      );
    }
  }

  refused(error: Error): void {
    this.waited();
    this.fail(error);
  }

  private waited(): void {
    const ms = this.engine.clock.now() - this.queuedAt;
    this.waitedMs += ms;
    this.call.waitedMs += ms;
  }

  private send(carrier: {
    dispatch: (o: Dispatcher.DispatchOptions, h: Dispatcher.DispatchHandler, g: Gate) => boolean;
  }): void {
    const { timeouts } = this.engine;
    const { options } = this;
    const dispatched: Dispatcher.DispatchOptions = {
      ...options,
      headersTimeout: options.headersTimeout ?? timeouts.headersMs,
      bodyTimeout: options.bodyTimeout ?? timeouts.bodyMs,
    };
    if (this.pool.options.rotation === 'per-request') dispatched.reset = true;
    try {
      carrier.dispatch(dispatched, this as Dispatcher.DispatchHandler, this);
    } catch (error) {
      this.onResponseError(undefined, error as Error);
    }
  }

  // Gate

  get egress(): string {
    return this.grant.egress;
  }

  dialing(dial: Dial): void {
    this.dial = dial;
    if (this.state === OVER) dial.abort(this.controller.reason ?? new Error('aborted'));
  }

  carriedBy(client: TunnelClient): void {
    this.client = client;
  }

  /** The slot is moved to the exit the tunnel really has, or the tunnel is dropped: before the request leaves, and with nothing spent. */
  admit(dial: Dial): undefined | Promise<void> {
    const { engine, route, pool } = this;
    const known = engine.egressOf(dial, pool) ?? route.probed ?? (route.verified ? route.egress : undefined);
    if (known === undefined && route.weight === Infinity) {
      const names = pool.options.egressHeaders.join(' or ');
      throw new GatewayError(`the gateway did not name the exit: expected the header ${names} on its CONNECT answer`, {
        kind: 'protocol',
        pool: pool.name,
      });
    }
    if (known === undefined) pool.unseen = true;
    else pool.seen = true;
    const egress = known ?? this.grant.egress;
    dial.egress = egress;
    pool.tried(route);
    const binding = engine.admission.bind(this.grant, egress);
    if ('then' in binding) {
      return Promise.resolve(binding).then((bound) => this.bound(known, bound.ok, bound.duplicate, bound.retryInMs));
    }
    this.bound(known, binding.ok, binding.duplicate, binding.retryInMs);
    return undefined;
  }

  private bound(known: string | undefined, ok: boolean, duplicate: boolean, retryInMs: number): void {
    const { engine, route } = this;
    if (known !== undefined) engine.learned(route, known, duplicate, this.queue);
    if (ok) return;
    const { target, pool } = this;
    if (engine.events.wants('refuse')) {
      engine.events.emit('refuse', {
        target: target.name,
        pool: pool.name,
        egress: known ?? this.grant.egress,
        retryInMs,
      });
    }
    throw new EgressRefused(
      `the exit ${known ?? this.grant.egress} is not to be used for another ${Math.ceil(retryInMs)} ms`,
    );
  }

  /** The way out turned out to be unusable: back to the head of the queue. */
  protected requeue(): void {
    const { engine, call } = this;
    this.releaseTunnel();
    this.leaveCarrier?.();
    this.leaveCarrier = undefined;
    this.state = WAITING;
    this.queuedAt = engine.clock.now();
    if (!call.sticky && call.unsent) call.pin = undefined;
    engine.admission.finished(this.queue, this.pool);
    engine.admission.take(this, this.queue, this.pool, call.pin, true);
    engine.admission.wake(this.queue);
  }

  protected releaseTunnel(): void {
    this.client?.release();
    this.client = undefined;
    this.dial = undefined;
  }
}
