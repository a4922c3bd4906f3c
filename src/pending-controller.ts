import type { Dispatcher } from 'undici';

/** What can be given up before undici has it. */
interface Abortable {
  /** Nobody wants the rest: an abort has nothing left to stop. */
  readonly dumping: boolean;
  abandon(reason: Error): void;
}

/** After the end there is nothing to give up. */
const NOTHING: Abortable = { dumping: false, abandon() {} };

/** What the caller holds from the start, whether or not there is a request yet: so that waiting and dialing can be aborted too. */
export class PendingController implements Dispatcher.DispatchController {
  private exchange: Abortable;
  real: Dispatcher.DispatchController | undefined;
  aborted = false;
  reason: Error | null = null;
  paused = false;
  /** A response that is held back: undici reads on, whatever pace the caller wants; that counts once it gets the response. */
  held: { resume(): void } | undefined;

  constructor(exchange: Abortable) {
    this.exchange = exchange;
  }

  /**
   * It is over. A fetch keeps its handle until the response is collected, which takes more than one young collection: what hangs on
   * it would be copied twice for nothing.
   */
  end(): void {
    this.exchange = NOTHING;
    this.real = undefined;
    this.held = undefined;
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
    if (this.held === undefined) this.real?.pause();
  }

  resume(): void {
    this.paused = false;
    if (this.held === undefined) this.real?.resume();
    else this.held.resume();
  }
}
