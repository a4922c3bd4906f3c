import { median } from './report.ts';

/** One thing to be timed: does its work about `ops` times and returns how often it did. */
export interface Contender {
  readonly name: string;
  readonly ops: number;
  run(ops: number): number | Promise<number>;
}

export interface Timing {
  /** Nanoseconds an operation, the median of the rounds. */
  readonly ns: number;
  /** How often as long as the first contender, the median of the ratios within each round. */
  readonly ratio: number;
}

/**
 * Times all contenders in turn, round after round: whatever else the machine is doing then hits all of them alike, and the
 * ratios within a round hold where the times themselves do not. The first round warms up and does not count.
 */
export async function race(contenders: readonly Contender[], rounds: number): Promise<Timing[]> {
  const all: number[][] = contenders.map(() => []);
  for (let round = -1; round < rounds; round++) {
    for (const [i, contender] of contenders.entries()) {
      const ns = await time(contender);
      if (round >= 0) all[i].push(ns);
    }
  }
  return all.map((ns) => ({ ns: median(ns), ratio: median(ns.map((own, round) => own / all[0][round])) }));
}

async function time({ run, ops }: Contender): Promise<number> {
  const start = process.hrtime.bigint();
  const done = run(ops);
  const count = typeof done === 'number' ? done : await done;
  return Number(process.hrtime.bigint() - start) / count;
}
