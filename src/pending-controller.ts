import type { Dispatcher } from 'undici';

/** What can be given up before undici has it. */
interface Abortable {
  /** Nobody wants the rest: an abort has nothing left to stop. */
  readonly dumping: boolean;
  abandon(reason: Error): void;
}

/** What the caller holds from the start, whether or not there is a request yet: so that waiting and dialing can be aborted too. */
export class PendingController implements Dispatcher.DispatchController {
  private readonly exchange: Abortable;
  real: Dispatcher.DispatchController | undefined;
  aborted = false;
  reason: Error | null = null;
  paused = false;

  constructor(exchange: Abortable) {
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
