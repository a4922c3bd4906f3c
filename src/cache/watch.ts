import type { IncomingHttpHeaders } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Dispatcher } from 'undici';
import type { Call } from '../call.ts';
import type { Flight } from './flight.ts';
import type { CacheResult, GuardedStore } from './guarded-store.ts';

/** Between the cache and the pacing: one request that is sent, as the cache gets to see it. */
export class Watch implements Dispatcher.DispatchHandler {
  private readonly store: GuardedStore;
  private readonly call: Call;
  private readonly handler: Dispatcher.DispatchHandler;
  private readonly flight: Flight | undefined;
  /** The entry that this request asks to confirm. */
  private readonly stale: CacheResult | undefined;
  private readonly done: ((confirmed: boolean) => void) | undefined;
  private confirmed: Confirmed | undefined;

  constructor(
    store: GuardedStore,
    call: Call,
    handler: Dispatcher.DispatchHandler,
    flight?: Flight,
    stale?: CacheResult,
    done?: (confirmed: boolean) => void,
  ) {
    this.store = store;
    this.call = call;
    this.handler = handler;
    this.flight = flight;
    this.stale = stale;
    this.done = done;
  }

  onRequestStart(controller: Dispatcher.DispatchController, context: unknown): void {
    this.flight?.steer(controller);
    this.handler.onRequestStart?.(controller, context as never);
  }

  onRequestUpgrade(
    controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
    socket: Duplex,
  ): void {
    this.handler.onRequestUpgrade?.(controller, status, headers, socket);
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
    // undici's cache takes an early hint for the answer.
    if (status < 200) return;
    const { handler, stale } = this;
    if (status === 304 && stale !== undefined && confirms(headers, stale)) {
      this.confirmed = new Confirmed(controller);
      this.judged(stale.statusCode, () => this.replay(this.confirmed!, headers, stale));
      return;
    }
    this.judged(status, () => handler.onResponseStart?.(controller, status, headers, message));
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.confirmed === undefined) this.handler.onResponseData?.(controller, chunk);
  }

  onResponseEnd(controller: Dispatcher.DispatchController, trailers: IncomingHttpHeaders): void {
    this.done?.(this.confirmed !== undefined);
    this.handler.onResponseEnd?.(this.confirmed ?? controller, trailers);
  }

  onResponseError(controller: Dispatcher.DispatchController, error: Error): void {
    this.done?.(false);
    this.handler.onResponseError?.(this.confirmed ?? controller, error);
  }

  private judged(status: number, tell: () => void): void {
    if (this.flight !== undefined) this.flight.lastStatus = status;
    this.store.judging(this.call.outcome === 'ok', tell);
  }

  /**
   * undici's cache answers from a confirmed entry, but drops it, or leaves it as stale as it was: the next request would be
   * sent again. So it is shown the whole response instead, as RFC 9111 puts it together (section 4.3.4), and keeps that.
   */
  private replay(controller: Confirmed, headers: IncomingHttpHeaders, stale: CacheResult): void {
    const { handler } = this;
    const merged: IncomingHttpHeaders = { ...stale.headers };
    for (const [name, value] of Object.entries(headers)) if (!NOT_UPDATED.test(name)) merged[name] = value;
    // A date from before would make it as old as it was.
    if (headers.date === undefined) delete merged.date;
    handler.onResponseStart?.(controller, stale.statusCode, merged, stale.statusMessage);
    for (const chunk of chunksOf(stale)!) handler.onResponseData?.(controller, chunk);
  }
}

/** About the 304 itself, or about a body that it does not have. */
const NOT_UPDATED = /^(?:content-(?:length|encoding|range)|transfer-encoding|connection|keep-alive|trailer|upgrade)$/;

/** Whether a 304 is about this very entry, and leaves nothing for undici to refuse. */
function confirms(headers: IncomingHttpHeaders, stale: CacheResult): boolean {
  const { etag, vary } = headers;
  if (etag !== undefined && etag !== stale.etag) return false;
  if (vary !== undefined || headers['set-cookie'] !== undefined) return false;
  if (/no-store|private/i.test(String(headers['cache-control'] ?? ''))) return false;
  return chunksOf(stale) !== undefined;
}

/** The body, when it is there as a whole; undici can have only one reader of a stream. */
function chunksOf({ body }: CacheResult): Buffer[] | undefined {
  if (body === undefined || body === null) return [];
  if (typeof body === 'string') return [Buffer.from(body)];
  if (Buffer.isBuffer(body)) return [body];
  return Array.isArray(body) ? body.map((chunk) => Buffer.from(chunk)) : undefined;
}

/** The reins of a response that is here already: there is no socket to be paused. */
class Confirmed implements Dispatcher.DispatchController {
  private readonly real: Dispatcher.DispatchController;
  // The headers in their raw form are the 304's.
  readonly rawHeaders = undefined;
  readonly rawTrailers = undefined;
  readonly paused = false;

  constructor(real: Dispatcher.DispatchController) {
    this.real = real;
  }

  get aborted(): boolean {
    return this.real.aborted;
  }

  get reason(): Error | null {
    return this.real.reason;
  }

  abort(reason: Error): void {
    this.real.abort(reason);
  }

  pause(): void {}

  resume(): void {}
}
