import type { Dispatcher } from 'undici';
import type { TargetQueue } from './admission.ts';
import type { Call } from './call.ts';
import type { TimerHandle } from './clock.ts';
import { DEADLINE_GRACE_MS, type Engine, type InFlight } from './engine.ts';
import { ConfigError, GatewayError } from './errors.ts';
import type { Carrier } from './gateway/agents.ts';
import { Dial } from './gateway/dial.ts';
import type { PoolRoute } from './gateway/pool.ts';
import { DIALING, EgressRefused, SENT as HELD, OVER, WAITING } from './passage.ts';
import { PendingController } from './pending-controller.ts';
import { Settling } from './settling.ts';
import type { Outcome, QuotaReport } from './store/store.ts';

/** The tunnel has named its exit, and that is all it was for: it is dropped before a byte goes to the target. */
class Named extends Error {}

/** Also where a ladder of pools leads there. */
function rotates(pool: string): ConfigError {
  const message = `acquire.pool: expected a pool with sessions, got '${pool}', whose exit is another one for every tunnel of the lease`;
  return new ConfigError(message, { option: 'acquire.pool' });
}

/** How a permit ended, as its holder tells it. */
export interface Ending {
  readonly outcome: Outcome;
  readonly status?: number | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly quota?: QuotaReport | undefined;
}

/** A permit in the caller's hands: waits in the queue like a request, learns its exit, and is then kept until it is settled. */
export class Holding extends Settling implements InFlight {
  protected readonly controller: PendingController = new PendingController(this);
  readonly dumping = false;
  progress = 0;
  /** When it was handed out, on the manager's clock. */
  heldAt: number | undefined;
  private readonly holdMs: number;
  private readonly done: (error?: Error) => void;
  private timer: TimerHandle | undefined;

  /** `done` is called once: with nothing when the permit is held, with an error when there will be none. */
  constructor(engine: Engine, call: Call, url: URL, holdMs: number, done: (error?: Error) => void) {
    super(engine, call, { origin: url.origin, path: url.pathname + url.search, method: 'HEAD' });
    this.holdMs = holdMs;
    this.done = done;
    // It ends by its own timer; the store takes it for lost only when nobody is left to run that.
    if (holdMs + DEADLINE_GRACE_MS > engine.deadlineMs) this.deadlineMs = holdMs + DEADLINE_GRACE_MS;
  }

  start(): void {
    this.engine.exchanges.add(this);
    this.enter();
  }

  /** Gives up waiting. */
  abort(reason: Error): void {
    if (!this.held) this.controller.abort(reason);
  }

  get held(): boolean {
    return this.state === HELD;
  }

  get answered(): boolean {
    return this.held;
  }

  get way(): PoolRoute {
    return this.route;
  }

  /** What it is for, and how long that was waited for; once it is held. */
  facts(): { readonly target: string; readonly tier: string; readonly waitedMs: number } {
    return { target: this.target.name, tier: this.target.tier, waitedMs: this.waitedMs };
  }

  /** Key of the exit it goes by; a later request on it may find another. */
  get exit(): string {
    return this.route.verified ? this.route.egress : this.grant.egress;
  }

  /** Through a route whose exit may yet be named, one tunnel is opened to learn it; else the permit stays with what is known. */
  protected override send(carrier: Carrier): void {
    const { route, pool } = this;
    const { endpoint, probed, verified, weight } = route;
    const unnamed = probed === undefined && !verified && weight === 1;
    // SOCKS has no headers; and a gateway that has not named an exit so far will not start to.
    const names = pool.options.egressHeaders.length > 0 && endpoint?.protocol !== 'socks5:';
    if (weight === Infinity) this.onResponseError(undefined, rotates(pool.name));
    else if (unnamed && names && (pool.seen || !pool.unseen)) super.send(carrier);
    else if (verified && this.grant.egress === route.egress) this.hold();
    else this.bindAsKnown();
  }

  override admit(dial: Dial): undefined | Promise<void> {
    const binding = super.admit(dial);
    if (binding === undefined) throw new Named();
    return binding.then(() => {
      throw new Named();
    });
  }

  /** A tunnel that was open already: it has nothing to tell, and must not carry a request. */
  onRequestStart(controller: Dispatcher.DispatchController): void {
    controller.abort(new Named());
  }

  // undici insists on these. Nothing was sent.
  onResponseStart(): void {}
  onResponseData(): void {}
  onResponseEnd(): void {}

  onResponseError(_controller: Dispatcher.DispatchController | undefined, error: Error): void {
    if (this.state !== DIALING) this.releaseTunnel();
    else if (error instanceof Named) this.hold();
    else if (error instanceof EgressRefused) this.requeue();
    else {
      const { engine } = this;
      const unasked = error instanceof ConfigError;
      const outcome: Outcome = error instanceof GatewayError ? 'gateway-error' : unasked ? 'ignored' : 'network-error';
      this.gatewayDid(error instanceof GatewayError ? error.kind : 'ignored');
      engine.exits.failedDial(this.route, this.pool, error);
      engine.admission.cancel(this.queue, this.grant);
      this.report(outcome, undefined, 0);
      this.fail(error);
    }
  }

  override handsOver(queue: TargetQueue, applies: readonly boolean[] | undefined): boolean {
    if (!this.held || queue !== this.queue || applies !== this.applies) return false;
    // What it holds goes with the permit: nothing is given back here.
    this.state = OVER;
    this.engine.clock.clearTimeout(this.timer);
    this.engine.exchanges.delete(this);
    return true;
  }

  /** Ends it. Returns whether it was still held. */
  conclude(ending: Ending): boolean {
    const { outcome } = ending;
    if (outcome !== 'gateway-error') {
      // Whether the request is through is known only when an answer came.
      const unsure = outcome === 'ignored' || outcome === 'network-error';
      return this.end(ending, unsure ? this.queue.slowestMs : 0);
    }
    if (!this.held) return false;
    const { engine, pool } = this;
    engine.admission.cancel(this.queue, this.grant);
    const told = new GatewayError('the holder of the lease said so', { kind: 'exit-failed', pool: pool.name });
    engine.exits.failedDial(this.route, pool, told);
    this.report(ending.outcome, ending.status, this.heldMs, 0);
    this.over();
    return true;
  }

  cut(reason: Error): void {
    // Its holder may use it until its time is over, and nobody will be there to be told.
    const leftMs = Math.max(0, (this.heldAt ?? 0) + this.holdMs - this.engine.clock.now());
    if (!this.end({ outcome: 'ignored' }, leftMs + this.queue.slowestMs)) this.controller.abort(reason);
  }

  private end(ending: Ending, graceMs: number): boolean {
    if (!this.held) return false;
    const { outcome, retryAfterMs, quota } = ending;
    this.settle(outcome, retryAfterMs, graceMs, true, quota);
    this.report(ending.outcome, ending.status, this.heldMs, 0);
    this.over();
    return true;
  }

  /** The permit goes to the exit that a probe named, or stays with the one assumed. */
  private bindAsKnown(): void {
    this.gatewayDid('ignored');
    const over = (error: Error): void => this.onResponseError(undefined, error);
    try {
      this.admit(new Dial())?.catch(over);
    } catch (error) {
      over(error as Error);
    }
  }

  /** Since it was handed out; no latency of the target's. */
  private get heldMs(): number {
    return this.heldAt === undefined ? 0 : this.engine.clock.now() - this.heldAt;
  }

  private hold(): void {
    const { clock } = this.engine;
    // Without a dial the gateway was not asked.
    this.gatewayDid(this.dial === undefined ? 'ignored' : 'ok');
    this.releaseTunnel();
    this.state = HELD;
    this.heldAt = clock.now();
    this.progress++;
    this.timer = clock.setTimeout(() => this.conclude({ outcome: 'ignored' }), Math.ceil(this.holdMs));
    this.announce();
    this.done();
  }

  protected fail(error: Error): void {
    this.over();
    this.done(error);
  }

  private over(): void {
    const { engine } = this;
    const before = this.state;
    this.state = OVER;
    engine.clock.clearTimeout(this.timer);
    engine.exchanges.delete(this);
    this.releaseTunnel();
    this.leaveCarrier();
    if (before !== WAITING) engine.admission.finished(this.queue, this.pool);
    engine.exchangeOver();
  }
}
