import { answer, child } from './child.ts';
import { median } from './report.ts';

/** One thing to be timed. */
export interface Contender {
  /** Does its work about `ops` times; returns how often it did. */
  run(ops: number): number | Promise<number>;
}

export interface Timing {
  readonly name: string;
  /** Nanoseconds an operation, the median of the rounds. */
  readonly ns: number;
  /** How often as long as the first contender, the median of the ratios within each round. */
  readonly ratio: number;
}

/** About the time of one turn; how much work that is, each contender finds out while it warms up. */
const TURN_MS = 80;

/**
 * Times contenders in turn, round after round, each in a process of its own (`file` with name and setting as its arguments,
 * see {@link contend}): nobody pays for another's heap, and whatever else the machine is doing hits all of them alike.
 */
export async function race(file: URL, names: readonly string[], setting: unknown, rounds: number): Promise<Timing[]> {
  await using children = new AsyncDisposableStack();
  const racers = names.map((name) => children.use(child(file, [name, String(setting)])));
  for (const racer of racers) await racer.ask('warm up');
  const all: number[][] = names.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (const [i, racer] of racers.entries()) all[i].push(await racer.ask<number>('go'));
  }
  return all.map((own, i) => ({
    name: names[i],
    ns: median(own),
    ratio: median(own.map((ns, round) => ns / all[0][round])),
  }));
}

/** The child's side of {@link race}. */
export function contend(contender: Contender): void {
  let ops = 16;
  answer(async (question: string) => {
    if (question === 'go') return (await time(contender, ops)) * 1e6;
    for (let warm = 0; warm < 6; ) {
      const ms = (await time(contender, ops)) * ops;
      if (ms < TURN_MS / 2) ops *= 2;
      else if (ms > TURN_MS * 2 && ops > 16) ops = Math.ceil(ops / 2);
      else warm++;
    }
    return 0;
  });
}

/** Milliseconds an operation. */
async function time({ run }: Contender, ops: number): Promise<number> {
  const start = performance.now();
  const done = run(ops);
  const count = typeof done === 'number' ? done : await done;
  return (performance.now() - start) / count;
}
