import type { IncomingHttpHeaders } from 'node:http';
import type { Dispatcher } from 'undici';
import { type BodyStart, firstLookAt, MOST_RAW, startOf } from './body-look.ts';
import type { Clock, TimerHandle } from './clock.ts';
import type { PendingController } from './pending-controller.ts';

/** A body that has not shown its beginning by then is judged by what there is, in milliseconds since the headers. */
const LONGEST_HOLD_MS = 1000;

// One way only.
const HOLDING = 0;
const PASSING = 1;
const DONE = 2;

/** Whose response it is, and its head. */
export interface Head {
  readonly clock: Clock;
  readonly controller: PendingController;
  readonly handler: Dispatcher.DispatchHandler;
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly message: string | undefined;
}

/** Told the beginning of the body, `undefined` where it cannot be read, and whether the body goes on after it. */
export type Judge = (body: string | undefined, bodyCut: boolean) => void;

/**
 * A response that nobody hears of until the beginning of its body was looked at. Then all of it goes on to the handler, in order and
 * byte for byte, as fast as that takes it. Held are 64 KiB and one piece at most, for a second at most.
 */
export class HeldResponse {
  private readonly head: Head;
  private readonly judge: Judge;
  private readonly timer: TimerHandle;
  private chunks: Buffer[] = [];
  /** The first that has not been passed on. */
  private next = 0;
  private size = 0;
  private lookAt: number;
  private start: BodyStart | undefined;
  private ended = false;
  private state: number = HOLDING;
  private busy = false;

  /** `judge` is called once, before anything goes on. */
  constructor(head: Head, judge: Judge) {
    const { clock, controller, headers } = head;
    this.head = head;
    this.judge = judge;
    this.lookAt = firstLookAt(headers);
    this.timer = clock.setTimeout(() => this.guarded(() => this.release()), LONGEST_HOLD_MS);
    controller.held = this;
    // Paused beforehand: that is for what the caller gets.
    controller.real?.resume();
  }

  /** A piece of the body. False when it is no longer anything to this: all that was held has been passed on. */
  take(chunk: Buffer): boolean {
    if (this.state === DONE) return false;
    this.chunks.push(chunk);
    this.size += chunk.length;
    if (this.state === HOLDING && this.size >= this.lookAt) this.look();
    return true;
  }

  /** The caller would like more. */
  resume(): void {
    if (this.state === PASSING) this.guarded(() => this.pass(false));
  }

  /** Nothing more will come: everything goes on, whether or not the caller has paused; nothing, when it has aborted. */
  end(): void {
    this.ended = true;
    this.finish();
  }

  /**
   * It broke. What came before is the caller's all the same; what its handler throws over that no longer matters. Whether it got the
   * head only now: then it must hear of the failure later, for undici's fetch never ends when it is told both at once.
   */
  break(): boolean {
    const headToo = this.state === HOLDING && !this.head.controller.aborted;
    try {
      this.finish();
    } catch {}
    return headToo;
  }

  /** Nobody wants what is still here. */
  drop(): void {
    if (this.state === HOLDING) this.decide();
    this.chunks = [];
    this.state = DONE;
    this.head.controller.held = undefined;
  }

  /** Not at every piece, of which there may be very many. */
  private look(): void {
    this.start = startOf(this.chunks, this.head.headers);
    if (this.start.final) this.release();
    else this.lookAt = Math.min(2 * this.size, MOST_RAW);
  }

  private finish(): void {
    if (this.state === HOLDING) this.release(true);
    else this.pass(true);
  }

  private decide(): void {
    const { clock, headers } = this.head;
    this.state = PASSING;
    clock.clearTimeout(this.timer);
    const { text, final } = this.start?.final ? this.start : startOf(this.chunks, headers);
    this.start = undefined;
    this.judge(text, final || !this.ended);
  }

  private release(all = false): void {
    if (this.state !== HOLDING) return;
    this.decide();
    const { controller, handler, status, headers, message } = this.head;
    this.handing(() => {
      if (!controller.aborted) handler.onResponseStart?.(controller, status, headers, message);
    });
    this.pass(all);
  }

  private pass(all: boolean): void {
    if (this.busy || this.state !== PASSING) return;
    const { controller, handler } = this.head;
    this.handing(() => {
      while (this.next < this.chunks.length && !controller.aborted && (all || !controller.paused)) {
        handler.onResponseData?.(controller, this.chunks[this.next++]);
      }
    });
    const { real, paused, aborted } = controller;
    if (this.next >= this.chunks.length || aborted) this.drop();
    // When all has come, its connection may be another response's by now.
    if (all || aborted) return;
    if (paused) real?.pause();
    else real?.resume();
  }

  /** Whatever the handler does meanwhile, it is given one thing at a time. */
  private handing(work: () => void): void {
    this.busy = true;
    try {
      work();
    } catch (error) {
      this.drop();
      throw error;
    } finally {
      this.busy = false;
    }
  }

  /** What a handler throws ends its request, as it does in undici. */
  private guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.head.controller.abort(error as Error);
    }
  }
}
