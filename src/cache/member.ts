import type { IncomingHttpHeaders } from 'node:http';
import type { Dispatcher } from 'undici';
import type { Call, LiveExchange } from '../call.ts';
import type { Flight } from './flight.ts';

/** One of those who wait for a flight: it reads at its own speed and leaves when it wants, and the others do not notice. */
export class Member implements Dispatcher.DispatchController, LiveExchange {
  private readonly flight: Flight;
  private readonly call: Call;
  private readonly handler: Dispatcher.DispatchHandler;
  /** The flight was begun for this one: its sends, waits and bytes are counted here, once. */
  private readonly opener: boolean;
  private readonly behind: Buffer[] = [];
  private bytesBehind = 0;
  private trailers: IncomingHttpHeaders | undefined;
  private over = false;
  private sends = 0;
  private waitedMs = 0;
  paused = false;
  aborted = false;
  reason: Error | null = null;
  /** The body is not wanted, and read all the same, so that the tunnel may carry the next request. */
  dumping = false;
  rawHeaders: Dispatcher.DispatchController['rawHeaders'];
  rawTrailers: Dispatcher.DispatchController['rawTrailers'];

  constructor(flight: Flight, call: Call, handler: Dispatcher.DispatchHandler, opener: boolean) {
    this.flight = flight;
    this.call = call;
    this.handler = handler;
    this.opener = opener;
  }

  start(): void {
    this.call.failure = undefined;
    if (!this.opener) this.call.joins++;
    this.guarded(() => this.handler.onRequestStart?.(this, null));
  }

  // --- the flight's side

  responded(status: number, headers: IncomingHttpHeaders, message: string | undefined, redirect: boolean): void {
    const { call, flight } = this;
    this.rawHeaders = flight.rawHeaders;
    this.follow();
    call.live = this;
    this.dumping = redirect && call.dumpsRedirects;
    // A copy, since its receiver may write to it.
    this.guarded(() => this.handler.onResponseStart?.(this, status, { ...headers }, message));
  }

  data(chunk: Buffer): void {
    if (this.dumping || this.over) return;
    if (!this.paused && this.behind.length === 0) {
      this.guarded(() => this.handler.onResponseData?.(this, chunk));
      return;
    }
    this.behind.push(chunk);
    this.bytesBehind += chunk.length;
    if (this.bytesBehind > this.flight.maxBehind && this.flight.isRead) {
      this.abort(new Error(`the body was read too slowly: ${this.bytesBehind} bytes behind a request joined with it`));
    }
  }

  ended(trailers: IncomingHttpHeaders): void {
    this.trailers = trailers;
    this.finishIfRead();
  }

  failed(error: Error): void {
    if (this.over) return;
    this.follow();
    this.call.failure = this.flight.call.failure ?? error;
    this.leave();
    // The call has gone on, to where the redirect leads or to another attempt.
    if (!this.dumping) this.handler.onResponseError?.(this, error);
  }

  // --- DispatchController: the receiver's side

  pause(): void {
    this.paused = true;
    this.flight.flow();
  }

  resume(): void {
    this.paused = false;
    while (!this.paused && !this.over && this.behind.length > 0) {
      const chunk = this.behind.shift()!;
      this.bytesBehind -= chunk.length;
      this.guarded(() => this.handler.onResponseData?.(this, chunk));
    }
    this.finishIfRead();
    this.flight.flow();
  }

  abort(reason: Error): void {
    if (this.aborted || this.over || this.dumping) return;
    this.aborted = true;
    this.reason = reason;
    this.follow();
    if (!this.flight.answered) this.call.outcome = 'ignored';
    this.call.failure = reason;
    this.leave();
    this.flight.left(this, reason);
    this.handler.onResponseError?.(this, reason);
  }

  // --- LiveExchange

  dump(): void {
    if (this.over) return;
    this.dumping = true;
    this.behind.length = 0;
    this.finishIfRead();
    this.flight.flow();
  }

  bytes(): { sent: number; received: number } {
    return this.opener ? this.flight.bytes() : { sent: 0, received: 0 };
  }

  private finishIfRead(): void {
    if (this.trailers === undefined || this.over || this.behind.length > 0) return;
    const { trailers } = this;
    this.leave();
    try {
      this.handler.onResponseEnd?.(this, trailers);
    } catch (error) {
      // As undici does it: its retry interceptor counts on that.
      this.handler.onResponseError?.(this, error as Error);
    }
  }

  /** What became of the flight so far became of this call; what it cost is the opener's. */
  private follow(): void {
    const { call, flight } = this;
    const { call: made } = flight;
    if (made.target !== '') {
      call.target = made.target;
      call.tier = made.tier;
    }
    call.outcome = made.outcome;
    call.retryAfterMs = made.retryAfterMs;
    call.refusedBy = made.refusedBy;
    call.cached = flight.fromCache;
    if (made.route !== undefined) call.route = made.route;
    if (made.pin !== undefined) call.pin = made.pin;
    if (made.egress !== '') call.egress = made.egress;
    const sends = made.sends - this.sends;
    this.sends = made.sends;
    if (!this.opener) {
      call.shared += sends;
      return;
    }
    call.sends += sends;
    call.waitedMs += made.waitedMs - this.waitedMs;
    this.waitedMs = made.waitedMs;
  }

  /** Nothing more is told to it. */
  private leave(): void {
    const { call } = this;
    this.over = true;
    this.behind.length = 0;
    const { sent, received } = this.bytes();
    call.bytesSent += sent;
    call.bytesReceived += received;
    if (call.live !== this) return;
    call.live = undefined;
    call.onEnd?.();
  }

  /** A receiver that throws fails itself alone. */
  private guarded(tell: () => void): void {
    if (this.over) return;
    try {
      tell();
    } catch (error) {
      this.dumping = false;
      this.abort(error as Error);
    }
  }
}
