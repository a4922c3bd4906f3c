import type { Dispatcher } from 'undici';
import type { TargetQueue } from './admission.ts';
import { GatewayError, type GatewayErrorKind } from './errors.ts';
import type { Carrier } from './gateway/agents.ts';
import type { Held } from './gateway/carriers.ts';
import type { Dial } from './gateway/dial.ts';
import type { PoolRoute } from './gateway/pool.ts';
import type { Gate, TunnelClient } from './gateway/tunnels.ts';
import type { PendingController } from './pending-controller.ts';
import { Queued } from './queued.ts';
import type { Grant } from './store/store.ts';

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
export abstract class Passage extends Queued implements Gate {
  protected abstract readonly controller: PendingController;
  protected state: number = WAITING;
  protected route!: PoolRoute;
  protected grant!: Grant;
  protected dial: Dial | undefined;
  protected client: TunnelClient | undefined;
  private carried: Held | undefined;
  /** Its pass to the gateway, until the gateway has done its part or not. */
  private ticket = -1;
  /** The permit's `admit` event went out. */
  protected told = false;

  /** Whether another passage, for this queue and under these of its rates, may have the permit that this one holds; from then on it is that one's. */
  handsOver(_queue: TargetQueue, _applies: readonly boolean[] | undefined): boolean {
    return false;
  }

  /** Gives up before undici has the request; what it holds goes back. */
  abstract abandon(reason: Error): void;

  abstract onResponseError(controller: Dispatcher.DispatchController | undefined, error: Error): void;

  granted(grant: Grant): void {
    const { engine, call } = this;
    this.waited();
    this.state = DIALING;
    this.grant = grant;
    this.route = grant.route as PoolRoute;
    call.route = this.route;
    this.ticket = this.pool.circuit.pass();
    // Hops stay where the first one left from: a site may tie its redirects to the address.
    if (this.route.weight === 1) call.pin = this.route;
    const lost = call.stay?.lost;
    if (lost !== undefined) {
      this.abandon(lost);
      return;
    }
    let carrier: Carrier;
    try {
      this.carried = engine.carriers.use(this.route);
      carrier = this.carried.carrier;
    } catch (error) {
      // A transport of the caller's own: it ends this request, not the one that made room for it.
      this.onResponseError(undefined, error as Error);
      return;
    }
    const { probeUrl } = this.pool.options;
    if (probeUrl === undefined || this.route.probed !== undefined) this.send(carrier);
    else {
      engine.exits.probe(this.route, carrier, probeUrl).then(
        () => {
          if (this.state === DIALING) this.send(carrier);
        },
        (error) => {
          if (this.state === DIALING) this.onResponseError(undefined, error);
        },
      );
    }
  }

  protected adopt(from: Passage): boolean {
    if (!from.handsOver(this.queue, this.applies)) return false;
    this.pool = from.pool;
    this.waitedMs = from.waitedMs;
    this.told = from.told;
    this.granted(from.grant);
    // Not before: the way out would be closed in between.
    from.leaveCarrier();
    return true;
  }

  protected send(carrier: Carrier): void {
    const { options, call } = this;
    // What fetch makes for each dispatch is ours to write to; cookies are added anew every time it is sent.
    const dispatched = call.attempts > 0 && call.jar === undefined ? options : { ...options };
    if (this.pool.options.rotation === 'per-request') dispatched.reset = true;
    // Not before: what was set while it waited in the queue goes along.
    if (call.jar !== undefined) {
      dispatched.headers = call.jar.addTo(options.headers, `${options.origin}${options.path}`);
    }
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

  get plain(): boolean {
    return this.call.plain && this.call.jar === undefined;
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
    const { engine, call, route, pool } = this;
    const named = engine.exits.egressOf(dial, pool);
    const known = named ?? route.probed ?? (route.verified ? route.egress : undefined);
    if (named === undefined && (route.weight === Infinity || (call.stay?.strict && pool.mints))) {
      const names = pool.options.egressHeaders.join(' or ');
      throw new GatewayError(
        `the gateway did not name the exit: expected one address or id in ${names} on its CONNECT answer`,
        {
          kind: 'protocol',
          pool: pool.name,
        },
      );
    }
    if (known === undefined) pool.unseen = true;
    else pool.seen = true;
    call.stay?.check(known);
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
    const { engine, call, route } = this;
    // Once more: a store that takes its time may have let another tunnel go first.
    call.stay?.check(known);
    if (known !== undefined) engine.exits.learned(route, known, duplicate, this.queue);
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

  /** How the gateway did; once a pass. */
  protected gatewayDid(end: 'ok' | 'ignored' | GatewayErrorKind, now: number = this.engine.clock.now()): void {
    const { ticket, pool, engine } = this;
    if (ticket < 0) return;
    this.ticket = -1;
    if (!pool.circuit.done(ticket, end, this.queue.key, now)) return;
    const { isOpen: open, waitMs: forMs } = pool.circuit;
    engine.events.emit('circuit', { target: undefined, pool: pool.name, open, forMs });
    if (open) engine.admission.leavePool(pool);
  }

  /** The way out turned out to be unusable: back to the head of the queue. */
  protected requeue(): void {
    const { engine, call } = this;
    this.gatewayDid('ok');
    this.releaseTunnel();
    this.leaveCarrier();
    this.state = WAITING;
    this.queuedAt = engine.clock.now();
    if (!call.sticky && call.unsent) call.pin = undefined;
    engine.admission.finished(this.queue, this.pool);
    this.follow();
    engine.admission.take(this, this.queue, this.pool, call.pin, true);
    engine.admission.wake(this.queue);
  }

  protected leaveCarrier(): void {
    const { carried } = this;
    this.carried = undefined;
    if (carried !== undefined) this.engine.carriers.handBack(carried);
  }

  protected releaseTunnel(): void {
    this.client?.release();
    this.client = undefined;
    this.dial = undefined;
  }
}
