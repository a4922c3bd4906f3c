import type { Clock, Random } from '../clock.ts';
import { systemClock } from '../clock.ts';
import { MemoryTarget } from './memory-target.ts';
import type { Binding, Demand, Grant, Report, Reservation, Snapshot, Store, Verdict } from './store.ts';

export interface MemoryStoreOptions {
  /** @default the system clock */
  readonly clock?: Clock;
  /** Jitter of even spacing. @default Math.random */
  readonly random?: Random;
}

/** One target is looked at for clean-up every so many reserves, and two for each new one, so that their number follows the work. */
const SWEEP_EVERY = 16;
const SWEEP_FOR_NEW = 2;

/**
 * The default store: everything in this process, every answer synchronous.
 * A target that is not used is forgotten once nothing of it cools, so memory follows the work.
 *
 * @example
 * const proxies = new ProxyManager({ gateway, store: memoryStore() });
 */
export function memoryStore(options: MemoryStoreOptions = {}): MemoryStore {
  return new MemoryStore(options.clock ?? systemClock, options.random ?? Math.random);
}

/** What {@link memoryStore} returns: a {@link Store} whose answers are never promises. */
export class MemoryStore implements Store {
  private readonly clock: Clock;
  private readonly random: Random;
  private readonly targets = new Map<string, MemoryTarget>();
  private readonly sweeper: Iterator<[string, MemoryTarget]>;
  private untilSweep = SWEEP_EVERY;

  constructor(clock: Clock, random: Random) {
    this.clock = clock;
    this.random = random;
    this.sweeper = this.rounds();
  }

  reserve(target: string, demand: Demand): Reservation {
    const now = this.clock.now();
    let state = this.targets.get(target);
    if (state === undefined) {
      state = new MemoryTarget(target, demand.policy, this.random);
      this.targets.set(target, state);
      for (let i = 0; i < SWEEP_FOR_NEW; i++) this.sweep(now, target);
    } else if (--this.untilSweep <= 0) this.sweep(now, target);
    return state.reserve(demand, now);
  }

  bind(target: string, grant: Grant, egress: string): Binding {
    const state = this.targets.get(target);
    if (state === undefined) return { ok: false, retryInMs: 0, duplicate: false };
    return state.bind(grant, egress, this.clock.now());
  }

  settle(target: string, reports: readonly Report[]): readonly Verdict[] {
    return this.targets.get(target)?.settle(reports, this.clock.now()) ?? [];
  }

  cancel(target: string, grants: readonly Grant[]): void {
    this.targets.get(target)?.cancel(grants, this.clock.now());
  }

  inspect(target?: string): Snapshot {
    const now = this.clock.now();
    if (target !== undefined) {
      const state = this.targets.get(target);
      return { targets: state === undefined ? [] : [state.inspect(now)] };
    }
    return { targets: [...this.targets.values()].map((state) => state.inspect(now)) };
  }

  close(): void {
    this.targets.clear();
  }

  /** Forgets the next target in turn when nothing of it matters any more. */
  private sweep(now: number, inUse: string): void {
    this.untilSweep = SWEEP_EVERY;
    const next = this.sweeper.next().value as [string, MemoryTarget] | undefined;
    if (next !== undefined && next[0] !== inUse && next[1].idle(now)) this.targets.delete(next[0]);
  }

  private *rounds(): Generator<[string, MemoryTarget], never> {
    for (;;) {
      yield* this.targets;
      if (this.targets.size === 0) yield ['', undefined as never];
    }
  }
}
