import type { Dispatcher } from 'undici';
import type { Lane, TargetQueue, Waiter } from './admission.ts';
import type { Call } from './call.ts';
import type { TimerHandle } from './clock.ts';
import type { Engine } from './engine.ts';
import type { Pool } from './gateway/pool.ts';
import type { Grant } from './store/store.ts';
import { ratesThatApply } from './target/applies.ts';
import type { Target } from './target/types.ts';
import { invalid } from './validate.ts';
import type { Level } from './waiters.ts';

/** One request to one target, in the queue of that target. */
export abstract class Queued implements Waiter {
  protected readonly engine: Engine;
  protected readonly call: Call;
  protected readonly options: Dispatcher.DispatchOptions;
  protected url = '';
  protected target!: Target;
  protected queue!: TargetQueue;
  protected pool!: Pool;
  /** The pool of its target's requests when it took its own. */
  private rung: Pool | undefined;
  /** Time in the queue. */
  protected waitedMs = 0;
  /** Among all that is under way. */
  place = -1;

  // Waiter
  readonly priority: number;
  readonly cost: number;
  applies: readonly boolean[] | undefined;
  lane: Lane | undefined;
  before: Queued | undefined;
  after: Queued | undefined;
  level: Level | undefined;
  queuedAt = 0;
  giveUpAt: number = Infinity;
  maxWaitMs: number = Infinity;
  giveUpTimer: TimerHandle | undefined;
  /** How long its permit must last in the store; 0: as long as any request's. */
  deadlineMs = 0;

  constructor(engine: Engine, call: Call, options: Dispatcher.DispatchOptions) {
    this.engine = engine;
    this.call = call;
    this.options = options;
    this.priority = call.pace.priority ?? 0;
    this.cost = call.pace.cost ?? 1;
  }

  /** It cannot go on: nothing was sent. */
  protected abstract fail(error: Error): void;

  abstract granted(grant: Grant): void;

  /** Goes on with the permit that `from` holds, when that is for this. Returns whether it does. */
  protected abstract adopt(from: Queued): boolean;

  /** Takes its place in the queue of its target; or goes on with the permit that `from` holds for it. */
  protected enter(from?: Queued): void {
    const { engine, call, options } = this;
    try {
      call.stay?.check(undefined);
      const url = `${options.origin}${options.path}`;
      this.url = url;
      this.target = engine.targets.classify(url, call.pace.tier, options.origin);
      this.queue = engine.targets.queueFor(this.target, call.pace.tier);
      const { pool, ladder } = this.queue;
      const named = call.pin?.pool ?? call.pace.pool;
      this.rung = ladder?.current;
      this.pool = named === undefined ? (ladder?.choose(call.refusedBy) ?? pool) : engine.targets.pool(named);
      this.applies = ratesThatApply(this.target, url);
      if (this.cost > 1) this.checkCost();
    } catch (error) {
      this.fail(error as Error);
      return;
    }
    call.target = this.target.name;
    call.tier = this.target.tier;
    this.queuedAt = engine.clock.now();
    this.maxWaitMs = Math.min(call.pace.maxWaitMs ?? Infinity, engine.timeouts.queueMs ?? Infinity);
    this.giveUpAt = this.queuedAt + this.maxWaitMs;
    if (from !== undefined && this.adopt(from)) return;
    engine.admission.take(this, this.queue, this.pool, call.pin, false);
  }

  /** A cost that no window can hold would wait for ever. */
  private checkCost(): void {
    const { name, budget, rates } = this.target;
    for (const { limit } of [budget, ...rates.filter((_rate, i) => this.applies?.[i] !== false)]) {
      if (this.cost > limit)
        throw invalid('pace.cost', `at most ${limit}, which ${name} allows in a window`, this.cost);
    }
  }

  /** Neither a session nor the caller ties it to its pool. */
  get free(): boolean {
    return this.call.pin === undefined && this.call.pace.pool === undefined;
  }

  moved(pool: Pool): void {
    this.pool = pool;
    this.engine.admission.take(this, this.queue, pool, undefined, false);
  }

  /** Before it queues once more: goes where the others have gone meanwhile. */
  protected follow(): void {
    const { ladder } = this.queue;
    if (ladder === undefined || !this.free || ladder.current === this.rung) return;
    this.rung = ladder.current;
    this.pool = ladder.choose(this.call.refusedBy);
  }

  refused(error: Error): void {
    this.waited();
    this.fail(error);
  }

  protected waited(): void {
    const ms = this.engine.clock.now() - this.queuedAt;
    this.waitedMs += ms;
    this.call.waitedMs += ms;
  }
}
