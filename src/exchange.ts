import type { IncomingHttpHeaders } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Dispatcher } from 'undici';
import type { Lane, TargetQueue, Waiter } from './admission.ts';
import type { Call } from './call.ts';
import type { TimerHandle } from './clock.ts';
import type { Engine } from './engine.ts';
import { GatewayError } from './errors.ts';
import { isCallersFault } from './failure.ts';
import type { Dial } from './gateway/dial.ts';
import type { Pool, PoolRoute } from './gateway/pool.ts';
import type { Gate, TunnelClient } from './gateway/tunnels.ts';
import { parseRetryAfter } from './headers/retry-after.ts';
import type { Grant, Outcome } from './store/store.ts';
import type { Target } from './target/types.ts';
import type { Level } from './waiters.ts';

// One way only: waiting for a permit → on its way to a tunnel → sent → headers came → over. A refused tunnel leads back to waiting.
const WAITING = 0;
const DIALING = 1;
const SENT = 2;
const ANSWERED = 3;
const OVER = 4;

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/** How much of an unwanted body is read to keep its tunnel, in bytes; a longer one costs more than another tunnel. */
const MOST_DUMPED = 131_072;

/** The tunnel's exit must not be used now: the request goes back to the queue, nothing was sent. */
class EgressRefused extends Error {
  readonly code = 'PACELINE_EGRESS_REFUSED';
}

/** What the caller holds from the start, whether or not there is a request yet: so that waiting and dialing can be aborted too. */
class PendingController implements Dispatcher.DispatchController {
  private readonly exchange: Exchange;
  real: Dispatcher.DispatchController | undefined;
  aborted = false;
  reason: Error | null = null;
  paused = false;

  constructor(exchange: Exchange) {
    this.exchange = exchange;
  }

  get rawHeaders(): Dispatcher.DispatchController['rawHeaders'] {
    return this.real?.rawHeaders;
  }

  get rawTrailers(): Dispatcher.DispatchController['rawTrailers'] {
    return this.real?.rawTrailers;
  }

  abort(reason: Error): void {
    if (this.aborted || this.exchange.dumping) return;
    this.aborted = true;
    this.reason = reason;
    if (this.real !== undefined) this.real.abort(reason);
    else this.exchange.abandon(reason);
  }

  pause(): void {
    this.paused = true;
    this.real?.pause();
  }

  resume(): void {
    this.paused = false;
    this.real?.resume();
  }
}

/** One request to one target, a hop of a redirect included: its wait, its permit, its tunnel, its outcome. */
export class Exchange implements Dispatcher.DispatchHandler, Gate, Waiter {
  private readonly engine: Engine;
  private readonly call: Call;
  private readonly options: Dispatcher.DispatchOptions;
  private readonly handler: Dispatcher.DispatchHandler;
  private readonly controller: PendingController;
  private state = WAITING;
  private target!: Target;
  private queue!: TargetQueue;
  private pool!: Pool;
  private route!: PoolRoute;
  private grant!: Grant;
  private dial: Dial | undefined;
  private client: TunnelClient | undefined;
  private leaveCarrier: (() => void) | undefined;
  private sentAt = 0;
  private counted: Dial | undefined;
  /** Time in the queue. */
  private waitedMs = 0;
  /** Nobody wants the rest of the body: it is read and thrown away here, so that the tunnel may carry the next request. */
  dumping = false;
  private dumped = 0;
  /** Moves with every piece of the response: how `close()` tells a body that flows from one nobody reads. */
  progress = 0;

  // Waiter
  readonly priority: number;
  lane: Lane | undefined;
  before: Exchange | undefined;
  after: Exchange | undefined;
  level: Level | undefined;
  queuedAt = 0;
  giveUpAt: number = Infinity;
  giveUpTimer: TimerHandle | undefined;

  constructor(engine: Engine, call: Call, options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler) {
    this.engine = engine;
    this.call = call;
    this.options = options;
    this.handler = handler;
    this.priority = call.pace.priority ?? 0;
    this.controller = new PendingController(this);
  }

  get answered(): boolean {
    return this.state === ANSWERED;
  }

  /** Takes its place in the queue. The caller gets its handle first: from here on it may abort. */
  start(): void {
    const { engine, call, options, handler } = this;
    engine.exchanges.add(this);
    call.failure = undefined;
    handler.onRequestStart?.(this.controller, null);
    if (this.state === OVER) return;
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
    const maxWaitMs = Math.min(call.pace.maxWaitMs ?? Infinity, engine.timeouts.queueMs ?? Infinity);
    this.giveUpAt = this.queuedAt + maxWaitMs;
    engine.admission.take(this, this.queue, this.pool, call.pin, false);
  }

  // --- Waiter

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
      carrier.dispatch(dispatched, this, this);
    } catch (error) {
      this.onResponseError(undefined, error as Error);
    }
  }

  // --- Gate

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

  // --- DispatchHandler: what undici tells us

  onRequestStart(controller: Dispatcher.DispatchController): void {
    const { engine, call, grant } = this;
    if (this.state === OVER) {
      controller.abort(this.controller.reason ?? new Error('aborted'));
      return;
    }
    this.controller.real = controller;
    if (this.state !== DIALING) return;
    this.state = SENT;
    this.sentAt = engine.clock.now();
    this.counted = this.client?.tunnel;
    call.sends++;
    call.egress = grant.egress;
    call.live = this;
    if (engine.events.wants('admit')) {
      engine.events.emit('admit', {
        target: this.target.name,
        tier: this.target.tier,
        pool: this.pool.name,
        session: this.route.session,
        egress: grant.egress,
        waitedMs: this.waitedMs,
      });
    }
    if (this.controller.paused) controller.pause();
  }

  onRequestUpgrade(
    controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
    socket: Duplex,
  ): void {
    this.answer(status, headers);
    // The socket is the caller's now; the tunnel cannot serve another request.
    this.client = undefined;
    socket.once('close', () => this.over());
    this.handler.onRequestUpgrade?.(controller, status, headers, socket);
  }

  onResponseStarted(): void {
    this.handler.onResponseStarted?.();
  }

  onBodySent(chunk: Buffer): void {
    this.handler.onBodySent?.(chunk);
  }

  onRequestSent(): void {
    this.handler.onRequestSent?.();
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
    message?: string,
  ): void {
    if (status >= 200) {
      this.answer(status, headers);
      this.dumping = this.call.dumpsRedirects && headers.location !== undefined && REDIRECTS.has(status);
    }
    this.handler.onResponseStart?.(controller, status, headers, message);
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.progress++;
    if (!this.dumping) this.handler.onResponseData?.(controller, chunk);
    else if ((this.dumped += chunk.length) > MOST_DUMPED) controller.abort(new Error('too long to be thrown away'));
  }

  onResponseEnd(controller: Dispatcher.DispatchController, trailers: IncomingHttpHeaders): void {
    if (this.state === OVER) return;
    this.over();
    try {
      this.handler.onResponseEnd?.(controller, trailers);
    } catch (error) {
      // As undici does it: its retry interceptor counts on that.
      this.handler.onResponseError?.(controller, error as Error);
    }
  }

  onResponseError(controller: Dispatcher.DispatchController | undefined, error: Error): void {
    if (this.state === OVER) {
      // Given up before; only the tunnel is still to be handed back.
      this.releaseTunnel();
      return;
    }
    if (error instanceof EgressRefused && this.state === DIALING) {
      this.requeue();
      return;
    }
    const { engine, call } = this;
    if (this.state === DIALING) {
      // The target never saw it: the slot goes back as if it had never been taken.
      const outcome: Outcome =
        error instanceof GatewayError ? 'gateway-error' : isCallersFault(error) ? 'ignored' : 'network-error';
      call.outcome = outcome;
      engine.failedDial(this.route, this.pool, error);
      engine.admission.cancel(this.queue, this.grant);
      this.report(outcome, undefined, 0);
    } else if (this.state === SENT) {
      // Sent, and perhaps still on its way: the slot cools from when it can no longer arrive.
      const outcome: Outcome = this.controller.aborted || isCallersFault(error) ? 'ignored' : 'network-error';
      call.outcome = outcome;
      this.settle(outcome, undefined, this.queue.slowestMs, true);
      this.report(outcome, undefined, engine.clock.now() - this.sentAt);
    }
    this.over();
    // The call has gone on, to where the redirect leads or to another attempt: what becomes of the body must not end that.
    if (this.dumping) return;
    call.failure = error;
    this.handler.onResponseError?.((controller ?? this.controller) as Dispatcher.DispatchController, error);
  }

  /** The manager ends, and this with it. */
  cut(reason: Error): void {
    this.dumping = false;
    this.controller.abort(reason);
  }

  /** The rest of the body is not wanted. Called before it is cancelled, which would cut the tunnel. */
  dump(): void {
    if (this.state !== ANSWERED) return;
    this.dumping = true;
    this.controller.resume();
  }

  /** The caller gave up before undici had the request. */
  abandon(reason: Error): void {
    if (this.state === OVER) return;
    const { engine } = this;
    if (this.state === WAITING) engine.admission.leave(this);
    else {
      const { dial } = this;
      this.state = OVER;
      dial?.abort(reason);
      engine.admission.cancel(this.queue, this.grant);
      this.state = DIALING;
    }
    this.call.outcome = 'ignored';
    this.fail(reason);
  }

  /** The way out turned out to be unusable: back to the head of the queue. */
  private requeue(): void {
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

  /** The headers are here: the slot begins to cool. */
  private answer(status: number, headers: IncomingHttpHeaders): void {
    const { engine, call, queue } = this;
    this.state = ANSWERED;
    const latencyMs = engine.clock.now() - this.sentAt;
    // The slowest lately: an old maximum fades, a new one counts at once.
    queue.slowestMs = Math.max(latencyMs, queue.slowestMs * 0.995);
    const retryAfter = status >= 300 ? headers['retry-after'] : undefined;
    const retryAfterMs =
      retryAfter === undefined ? undefined : parseRetryAfter(String(retryAfter), engine.clock.wallNow());
    const url = `${this.options.origin}${this.options.path}`;
    const outcome = engine.outcomeOf({ url, method: this.options.method, status, headers });
    call.outcome = outcome;
    call.retryAfterMs = retryAfterMs;
    this.settle(outcome, retryAfterMs, 0, false);
    this.report(outcome, status, latencyMs);
  }

  private settle(outcome: Outcome, retryAfterMs: number | undefined, graceMs: number, end: boolean): void {
    this.engine.admission.settle(this.queue, { grant: this.grant, outcome, retryAfterMs, graceMs, end });
  }

  private report(outcome: Outcome, status: number | undefined, latencyMs: number): void {
    const { engine, target, pool, route, grant } = this;
    engine.stats.settled(target.name, pool.name, grant.egress, outcome, latencyMs, this.waitedMs);
    if (!engine.events.wants('settle')) return;
    engine.events.emit('settle', {
      target: target.name,
      pool: pool.name,
      session: route.session,
      egress: grant.egress,
      outcome,
      status,
      latencyMs,
    });
  }

  /** Nothing more will come: everything the request held is given back. */
  private over(): void {
    const { engine, call } = this;
    const before = this.state;
    this.state = OVER;
    engine.exchanges.delete(this);
    if (before === ANSWERED) {
      engine.admission.settle(this.queue, {
        grant: this.grant,
        outcome: undefined,
        retryAfterMs: undefined,
        graceMs: 0,
        end: true,
      });
    }
    if (before >= SENT) {
      const { sent, received } = this.bytes();
      call.bytesSent += sent;
      call.bytesReceived += received;
      engine.stats.transferred(this.target.name, this.pool.name, sent, received);
      this.counted?.count();
    }
    this.releaseTunnel();
    this.leaveCarrier?.();
    if (before !== WAITING) engine.admission.finished(this.queue, this.pool);
    if (call.live === this) {
      call.live = undefined;
      call.onEnd?.();
    }
    engine.exchangeOver();
  }

  private fail(error: Error): void {
    this.call.failure = error;
    this.over();
    this.handler.onResponseError?.(this.controller as Dispatcher.DispatchController, error);
  }

  private releaseTunnel(): void {
    this.client?.release();
    this.client = undefined;
    this.dial = undefined;
  }

  bytes(): { sent: number; received: number } {
    return this.counted?.sinceCount() ?? { sent: 0, received: 0 };
  }
}
