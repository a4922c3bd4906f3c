import type { IncomingHttpHeaders } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Dispatcher } from 'undici';
import { isReadable } from './body-look.ts';
import type { Call } from './call.ts';
import type { Engine } from './engine.ts';
import { GatewayError, SessionLostError, StoreError } from './errors.ts';
import { isCallersFault } from './failure.ts';
import type { Dial } from './gateway/dial.ts';
import { HeldResponse } from './held-response.ts';
import { needsBody } from './outcome.ts';
import { ANSWERED, DIALING, EgressRefused, OVER, type Passage, SENT, WAITING } from './passage.ts';
import { PendingController } from './pending-controller.ts';
import { Settling } from './settling.ts';
import type { Outcome } from './store/store.ts';

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/** Neither the target nor the way there is to blame. */
const isOurs = (error: Error): boolean => error instanceof StoreError || isCallersFault(error);

/** How much of an unwanted body is read to keep its tunnel, in bytes; a longer one costs more than another tunnel. */
const MOST_DUMPED = 131_072;

/** One request to one target, a hop of a redirect included: from the send to the end of the body, and what that means for its permit. */
export class Exchange extends Settling implements Dispatcher.DispatchHandler {
  private readonly handler: Dispatcher.DispatchHandler;
  protected readonly controller: PendingController;
  private held: HeldResponse | undefined;
  private counted: Dial | undefined;
  /** Nobody wants the rest of the body: it is read and thrown away here, so that the tunnel may carry the next request. */
  dumping = false;
  private dumped = 0;
  /** Moves with every piece of the response: how `close()` tells a body that flows from one nobody reads. */
  progress = 0;

  constructor(engine: Engine, call: Call, options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler) {
    super(engine, call, options);
    this.handler = handler;
    this.controller = new PendingController(this);
  }

  get answered(): boolean {
    return this.state === ANSWERED;
  }

  /** Ends before it began. The caller gets its handle all the same: fetch uses it whatever happens. */
  turnAway(reason: Error): void {
    this.handler.onRequestStart?.(this.controller, null);
    if (this.state !== OVER) this.fail(reason);
  }

  /** Takes its place in the queue, or the permit that `from` holds. The caller gets its handle first: from here on it may abort. */
  start(from?: Passage): void {
    const { engine, call, handler } = this;
    engine.exchanges.add(this);
    call.failure = undefined;
    handler.onRequestStart?.(this.controller, null);
    if (this.state === OVER) return;
    this.enter(from);
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
    this.gatewayDid('ok', this.sentAt);
    this.counted = this.client?.tunnel;
    call.sends++;
    call.egress = grant.egress;
    call.live = this;
    this.announce();
    if (this.controller.paused) controller.pause();
  }

  onRequestUpgrade(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
    socket: Duplex,
  ): void {
    this.judged(this.answer(status, headers));
    // The socket is the caller's now; the tunnel cannot serve another request.
    this.client = undefined;
    socket.once('close', () => {
      this.over();
      this.controller.end();
    });
    this.handler.onRequestUpgrade?.(this.controller, status, headers, socket);
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
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
    message?: string,
  ): void {
    const { call, engine, handler } = this;
    if (status >= 200) {
      const facts = this.answer(status, headers);
      call.jar?.keep(headers, facts.url);
      this.dumping = call.dumpsRedirects && headers.location !== undefined && REDIRECTS.has(status);
      const asked = call.pace.inspectBody ?? engine.options.inspectBody;
      if (needsBody(facts, asked) && !this.asksForRest && isReadable(headers)) {
        const head = { clock: engine.clock, controller: this.controller, handler, status, headers, message };
        this.held = new HeldResponse(head, (body, bodyCut) => this.judged({ ...facts, body, bodyCut }));
        return;
      }
      this.judged(facts);
    }
    handler.onResponseStart?.(this.controller, status, headers, message);
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.progress++;
    if (this.held?.take(chunk)) return;
    if (!this.dumping) this.handler.onResponseData?.(this.controller, chunk);
    else if ((this.dumped += chunk.length) > MOST_DUMPED) controller.abort(new Error('too long to be thrown away'));
  }

  onResponseEnd(_controller: Dispatcher.DispatchController, trailers: IncomingHttpHeaders): void {
    if (this.state === OVER) return;
    this.held?.end();
    if (this.controller.aborted) {
      // In the last moment, over what it was just given.
      this.onResponseError(undefined, this.controller.reason!);
      return;
    }
    this.over();
    try {
      this.handler.onResponseEnd?.(this.controller, trailers);
    } catch (error) {
      // As undici does it: its retry interceptor counts on that.
      this.handler.onResponseError?.(this.controller, error as Error);
    }
    this.controller.end();
  }

  onResponseError(_controller: Dispatcher.DispatchController | undefined, error: Error): void {
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
      const ofGateway = error instanceof GatewayError || error instanceof SessionLostError;
      const outcome: Outcome = ofGateway ? 'gateway-error' : isOurs(error) ? 'ignored' : 'network-error';
      call.outcome = outcome;
      this.gatewayDid(error instanceof GatewayError ? error.kind : 'ignored');
      engine.exits.failedDial(this.route, this.pool, error);
      engine.admission.cancel(this.queue, this.grant);
      this.report(outcome, undefined, 0);
    } else if (this.state === SENT) {
      // Sent, and perhaps still on its way: the slot cools from when it can no longer arrive.
      const outcome: Outcome = this.controller.aborted || isCallersFault(error) ? 'ignored' : 'network-error';
      call.outcome = outcome;
      this.settle(outcome, undefined, this.queue.slowestMs, true);
      this.report(outcome, undefined, engine.clock.now() - this.sentAt);
    }
    const late = this.held?.break() ?? false;
    this.over();
    // The call has gone on, to where the redirect leads or to another attempt: what becomes of the body must not end that.
    if (this.dumping) {
      this.controller.end();
      return;
    }
    call.failure = error;
    if (late) setImmediate(() => this.tellFailure(error));
    else this.tellFailure(error);
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
    this.held?.drop();
    this.controller.resume();
  }

  /** Nothing more will come: everything the request held is given back. */
  private over(): void {
    const { engine, call } = this;
    const before = this.state;
    this.state = OVER;
    engine.exchanges.delete(this);
    if (before === ANSWERED) this.ended();
    if (before >= SENT && this.counted !== undefined) {
      const { sent, received } = this.counted.count();
      call.bytesSent += sent;
      call.bytesReceived += received;
      this.atTarget.transferred(sent, received);
      this.overPool.transferred(sent, received);
    }
    this.releaseTunnel();
    this.leaveCarrier();
    if (before !== WAITING) engine.admission.finished(this.queue, this.pool);
    // Not before all is given back: who hears of it may send the next request at once.
    this.reportAnswer();
    if (call.live === this) {
      call.live = undefined;
      call.onEnd?.();
    }
    engine.exchangeOver();
  }

  protected fail(error: Error): void {
    this.call.failure = error;
    this.over();
    this.tellFailure(error);
  }

  private tellFailure(error: Error): void {
    this.handler.onResponseError?.(this.controller, error);
    this.controller.end();
  }

  bytes(): { sent: number; received: number } {
    return this.counted?.sinceCount() ?? { sent: 0, received: 0 };
  }
}
