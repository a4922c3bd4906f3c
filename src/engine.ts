import type { Dispatcher } from 'undici';
import { Admission, type TargetQueue } from './admission.ts';
import { CacheLayer } from './cache/layer.ts';
import type { Call } from './call.ts';
import type { Clock } from './clock.ts';
import { ClosedError, StoreError } from './errors.ts';
import { Events } from './events.ts';
import { Exchange } from './exchange.ts';
import { Exits } from './exits.ts';
import { Carriers } from './gateway/carriers.ts';
import { JustAnswered } from './just-answered.ts';
import type { Step } from './ladder.ts';
import type { ResolvedOptions } from './options.ts';
import type { Passage } from './passage.ts';
import { SessionBook } from './session-book.ts';
import { Stats } from './stats.ts';
import type { Store, Verdict } from './store/store.ts';
import { Targets } from './targets.ts';
import { type Placed, UnderWay } from './under-way.ts';

/** Open ways out kept at a time, whatever the number of sessions: each holds up to a tunnel an origin. */
const MOST_CARRIERS = 512;

/** A body that has not moved for this long when the manager closes is one that nobody reads, in milliseconds. */
const CLOSE_PATIENCE_MS = 1000;

/** Grace on top of a request's own time limits before the store takes its permit for lost, in milliseconds. */
export const DEADLINE_GRACE_MS = 60_000;

/** Where requests come in: the engine itself, or the cache in front of it. */
export interface Entry {
  dispatch(call: Call, options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean;
}

/** What is drained when the manager closes: an exchange, or a lease. */
export interface InFlight extends Placed {
  /** Nothing is awaited any more but its end, for which its holder is responsible. */
  readonly answered: boolean;
  /** Changes as long as something happens. */
  readonly progress: number;
  /** Ends it by force. */
  cut(reason: Error): void;
}

/** The parts of a manager, and the questions a request asks of them. */
export class Engine implements Entry {
  readonly options: ResolvedOptions;
  readonly clock: Clock;
  readonly events: Events = new Events();
  readonly stats: Stats = new Stats();
  readonly admission: Admission;
  readonly targets: Targets;
  readonly exits: Exits;
  readonly carriers: Carriers;
  readonly sessions: SessionBook;
  readonly cache: CacheLayer | undefined;
  readonly entry: Entry;
  readonly timeouts: ResolvedOptions['timeouts'];
  readonly deadlineMs: number;
  readonly exchanges: UnderWay<InFlight> = new UnderWay();
  readonly justAnswered: JustAnswered = new JustAnswered();
  private drained: (() => void) | undefined;
  private readonly unwatch: (() => void) | undefined;
  /** Calls of fetch under way, between their exchanges too. */
  private calls = 0;
  /** No new calls; and then nothing at all any more. */
  closed = false;
  private ended = false;

  constructor(options: ResolvedOptions) {
    const { clock, timeouts } = options;
    this.options = options;
    this.clock = clock;
    this.timeouts = timeouts;
    this.deadlineMs = 2 * timeouts.connectMs + timeouts.headersMs + DEADLINE_GRACE_MS;
    this.admission = new Admission(options.store, clock, this.deadlineMs, {
      verdicts: (verdicts) => {
        for (const verdict of verdicts) this.tell(verdict);
      },
      storeFailed: (error) => {
        // Who has closed is told no more of it: by then the store may be closed, too.
        if (!this.ended) this.events.emit('store-error', { error: StoreError.from(error) });
      },
    });
    const store: Store = options.store;
    this.unwatch = store.watch?.({
      down: (error) => this.events.emit('store-error', { error: StoreError.from(error) }),
      lost: (error) => this.events.emit('store-error', { error }),
      back: (downMs) => this.events.emit('store-back', { downMs }),
    });
    this.targets = new Targets(options, this.admission);
    this.exits = new Exits(this);
    this.carriers = new Carriers(options.transport ?? ((route) => this.exits.open(route)), MOST_CARRIERS);
    this.sessions = new SessionBook(this);
    this.cache = options.cache && new CacheLayer(this, options.cache);
    this.entry = this.cache ?? this;
  }

  /** Sends one request, paced; with the permit that `held` has, when it is for that. */
  dispatch(
    call: Call,
    options: Dispatcher.DispatchOptions,
    handler: Dispatcher.DispatchHandler,
    held?: Passage,
  ): boolean {
    this.sessions.sweep();
    const exchange = new Exchange(this, call, options, handler);
    // The further hops and attempts of a call that was there before are part of what is drained.
    if (this.ended || (this.closed && call.attempts === 0 && held === undefined)) {
      exchange.turnAway(new ClosedError());
    } else exchange.start(held);
    return true;
  }

  /** A call of fetch begins; to be followed by `finish`. */
  begin(): void {
    if (this.closed) throw new ClosedError();
    this.calls++;
  }

  finish(): void {
    this.calls--;
    this.exchangeOver();
  }

  /** A target's requests take another pool: those that wait, too. */
  moved(queue: TargetQueue, { from, to }: Step): void {
    this.events.emit('escalate', { target: queue.key, from: from.name, to: to.name });
    this.admission.move(queue, from, to);
  }

  exchangeOver(): void {
    if (this.exchanges.size === 0 && this.calls === 0) this.drained?.();
  }

  /** Lets what runs come to its end (with `force`, cuts it), cuts bodies that nobody reads, then frees everything. */
  async close(force: boolean): Promise<void> {
    this.closed = true;
    if (!force) await this.drain();
    this.ended = true;
    const error = new ClosedError();
    this.admission.close(error);
    for (const exchange of [...this.exchanges]) exchange.cut(error);
    this.cache?.close();
    await this.carriers.destroy();
    this.unwatch?.();
    if (this.options.ownsStore) await this.options.store.close();
  }

  /** What the store has concluded goes out as events. */
  private tell(verdict: Verdict): void {
    const { events } = this;
    const { kind, target } = verdict;
    if (kind === 'cooldown') events.emit('cooldown', { target, egress: verdict.egress, forMs: verdict.forMs });
    else if (kind === 'ejected') events.emit('eject', { target, egress: verdict.egress, forMs: verdict.forMs });
    else if (kind === 'returned') events.emit('return', { target, egress: verdict.egress });
    else if (kind === 'circuit')
      events.emit('circuit', { target, pool: undefined, open: verdict.open, forMs: verdict.forMs });
    else events.emit('adapt', { target, of: kind, limit: verdict.limit });
  }

  private async drain(): Promise<void> {
    const { clock } = this;
    while (!this.ended && (this.exchanges.size > 0 || this.calls > 0)) {
      const before = new Map([...this.exchanges].map((exchange) => [exchange, exchange.progress]));
      const { promise, resolve } = Promise.withResolvers<void>();
      this.drained = resolve;
      const timer = clock.setTimeout(resolve, CLOSE_PATIENCE_MS);
      await promise;
      clock.clearTimeout(timer);
      this.drained = undefined;
      const alive = [...this.exchanges];
      if (this.calls > 0) continue;
      if (alive.every((exchange) => exchange.answered && before.get(exchange) === exchange.progress)) return;
    }
  }
}
