import type { IncomingHttpHeaders } from 'node:http';
import type { Dispatcher } from 'undici';
import { Call } from '../call.ts';
import type { CacheResult } from './guarded-store.ts';
import { Member } from './member.ts';

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/** As much of a body that nobody wants is read to keep its tunnel, in bytes. */
const MOST_DUMPED = 131_072;

export interface FlightHost {
  /** Nobody can join it any more. */
  boarded(flight: Flight): void;
  /** It is answered, and nothing was sent. */
  hit(flight: Flight): void;
}

/**
 * One request on its way through cache and pacing, and all those who wait for it. undici's deduplicate interceptor hands the
 * first one the reins: when that one aborts, cancels its body or leaves it unread, the others fail or stall with it. Here the
 * flight belongs to nobody: the fastest reader sets the speed, and it ends early only when the last one has left.
 */
export class Flight implements Dispatcher.DispatchHandler {
  readonly call: Call;
  /** As they were asked for. */
  readonly options: Dispatcher.DispatchOptions;
  readonly key: string | undefined;
  readonly maxBehind: number;
  private readonly members = new Set<Member>();
  private readonly host: FlightHost;
  /** What holds the reins now: the pending request's controller, or that of a response out of the cache. */
  private current: Dispatcher.DispatchController | undefined;
  private dumped = 0;
  private over = false;
  /** Everybody left before the end. */
  givenUp: Error | undefined;
  /** What the cache had; it may be stale. */
  stored: CacheResult | undefined;
  /** Status that came from below last. */
  lastStatus: number | undefined;
  answered = false;
  fromCache = false;

  constructor(
    by: Call,
    options: Dispatcher.DispatchOptions,
    key: string | undefined,
    maxBehind: number,
    host: FlightHost,
  ) {
    this.call = new Call(by.pace, by.pin, false);
    this.call.attempts = by.attempts;
    this.call.refusedBy = by.refusedBy;
    this.options = options;
    this.key = key;
    this.maxBehind = maxBehind;
    this.host = host;
  }

  /** Takes somebody on board: possible until the headers are here. */
  join(call: Call, handler: Dispatcher.DispatchHandler): void {
    const member = new Member(this, call, handler, this.members.size === 0);
    this.members.add(member);
    member.start();
  }

  /** An abort goes to this one from now on. */
  steer(controller: Dispatcher.DispatchController): void {
    this.current = controller;
    if (this.givenUp !== undefined) controller.abort(this.givenUp);
  }

  left(member: Member, reason: Error): void {
    this.members.delete(member);
    if (this.members.size > 0 || this.over) {
      this.flow();
      return;
    }
    this.givenUp = reason;
    this.host.boarded(this);
    this.current?.abort(reason);
  }

  /** Waits for the readers when none of them takes more. */
  flow(): void {
    if (this.over || !this.answered || this.members.size === 0) return;
    // Said again with every chunk: undici's cache resumes on its own when it has stored one.
    if (!this.isRead) this.current?.pause();
    else if (this.current?.paused) this.current.resume();
  }

  /** Somebody takes what comes. */
  get isRead(): boolean {
    for (const member of this.members) if (!member.paused || member.dumping) return true;
    return false;
  }

  get rawHeaders(): Dispatcher.DispatchController['rawHeaders'] {
    return this.current?.rawHeaders;
  }

  bytes(): { sent: number; received: number } {
    const { call } = this;
    const live = call.live?.bytes();
    return { sent: call.bytesSent + (live?.sent ?? 0), received: call.bytesReceived + (live?.received ?? 0) };
  }

  // --- DispatchHandler: what the cache tells

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.steer(controller);
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
    message?: string,
  ): void {
    const { call } = this;
    this.answered = true;
    this.host.boarded(this);
    if (status !== this.lastStatus) {
      // Out of the cache, whatever the target said or did not say: there is nothing to be tried again.
      call.outcome = 'ok';
      call.retryAfterMs = undefined;
      this.fromCache = call.sends === 0 && this.stored !== undefined;
      if (this.fromCache) this.host.hit(this);
    }
    // The bodies of redirects are read here, since no fetch that follows them will.
    const redirect = headers.location !== undefined && REDIRECTS.has(status);
    for (const member of [...this.members]) member.responded(status, headers, message, redirect);
    this.flow();
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    let wanted = false;
    for (const member of [...this.members]) {
      if (!member.dumping) wanted = true;
      member.data(chunk);
    }
    if (!wanted && (this.dumped += chunk.length) > MOST_DUMPED) {
      this.current?.abort(new Error('too long to be thrown away'));
    } else this.flow();
  }

  onResponseEnd(_controller: Dispatcher.DispatchController, trailers: IncomingHttpHeaders): void {
    for (const member of this.end()) member.ended(trailers);
  }

  onResponseError(_controller: Dispatcher.DispatchController | undefined, error: Error): void {
    for (const member of this.end()) member.failed(error);
  }

  private end(): Member[] {
    if (this.over) return [];
    this.over = true;
    this.host.boarded(this);
    const members = [...this.members];
    this.members.clear();
    return members;
  }
}
