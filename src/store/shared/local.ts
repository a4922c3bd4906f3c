import { type Clock, systemClock } from '../../clock.ts';
import { MapRows } from './map-rows.ts';
import type { Backend, Batch, BatchAnswer } from './steps.ts';
import { isForgettable, takeBatch } from './take.ts';

/** One target is looked at for clean-up every so many batches, and two for each new one, so that their number follows the work. */
const SWEEP_EVERY = 16;
const SWEEP_FOR_NEW = 2;

/** The state in this process's memory: answers at once, and forgets targets that nobody uses. */
export function localBackend(options: { readonly clock?: Clock } = {}): LocalBackend {
  return new LocalBackend(options.clock ?? systemClock);
}

/** What {@link localBackend} returns: its answers are never promises. */
export class LocalBackend implements Backend {
  private readonly clock: Clock;
  private readonly targets = new Map<string, MapRows>();
  private readonly sweeper: Iterator<[string, MapRows]>;
  private untilSweep = SWEEP_EVERY;

  constructor(clock: Clock) {
    this.clock = clock;
    this.sweeper = this.rounds();
  }

  take(batch: Batch): BatchAnswer {
    const now = this.clock.now();
    let rows = this.targets.get(batch.target);
    if (rows === undefined) {
      rows = new MapRows();
      this.targets.set(batch.target, rows);
      for (let i = 0; i < SWEEP_FOR_NEW; i++) this.sweep(now, rows);
    } else if (--this.untilSweep <= 0) this.sweep(now, rows);
    return takeBatch(rows, batch, now);
  }

  close(): void {
    this.targets.clear();
  }

  /** Forgets the next target in turn when nothing of it matters any more. */
  private sweep(now: number, inUse: MapRows): void {
    this.untilSweep = SWEEP_EVERY;
    const next = this.sweeper.next().value;
    const gate = next[1].gate();
    if (next[1] !== inUse && gate !== undefined && isForgettable(gate, now)) this.targets.delete(next[0]);
  }

  /** Only asked while there is a target. */
  private *rounds(): Generator<[string, MapRows], never> {
    for (;;) yield* this.targets;
  }
}
