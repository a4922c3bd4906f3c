/**
 * "Exponential Backoff And Jitter" (Marc Brooker, AWS Architecture Blog, 2015) over again: N clients each want one write to a row with
 * optimistic concurrency. A client reads, then writes; the write fails when another came in between, and the client waits and begins anew.
 *
 *   npm run bench:jitter
 */
import { mkdir, writeFile } from 'node:fs/promises';
import Table from 'cli-table3';
import { type Random, seededRandom } from '../../src/clock.ts';
import { type Backoff, decorrelatedJitter, equalJitter, fullJitter } from '../../src/index.ts';
import { virtualClock } from '../../src/testing/virtual-clock.ts';
import { jitterPlots } from './plots.ts';

export interface JitterRow {
  readonly strategy: string;
  readonly clients: number;
  /** Writes tried until everybody had one through, and milliseconds until then; means over the runs. */
  readonly calls: number;
  readonly ms: number;
}

const CLIENTS = [10, 25, 50, 75, 100];
const RUNS = 20;
/** As in the article's simulation: base 5 ms, cap 2 s, a network of 10 ± 2 ms one way. */
const LIMITS = { baseMs: 5, capMs: 2000 };
const HOP_MS = 10;
const HOP_SIGMA = 2;

const strategies: [string, (random: Random) => Backoff][] = [
  ['no wait', () => () => 0],
  ['fixed 5 ms', () => () => LIMITS.baseMs],
  ['exponential, no jitter', () => (attempt) => Math.min(LIMITS.capMs, LIMITS.baseMs * 2 ** attempt)],
  ['equal jitter', (random) => equalJitter({ ...LIMITS, random })],
  ['decorrelated jitter', (random) => decorrelatedJitter({ ...LIMITS, random })],
  ['full jitter', (random) => fullJitter({ ...LIMITS, random })],
];

const rows: JitterRow[] = [];
for (const clients of CLIENTS) {
  for (const [strategy, backoff] of strategies) {
    let calls = 0;
    let ms = 0;
    for (let seed = 1; seed <= RUNS; seed++) {
      const one = contend(clients, backoff, seed);
      calls += one.calls / RUNS;
      ms += one.ms / RUNS;
    }
    rows.push({ strategy, clients, calls, ms });
  }
}

/** All begin at once; time is virtual. */
function contend(clients: number, backoffOf: (random: Random) => Backoff, seed: number): { calls: number; ms: number } {
  const clock = virtualClock();
  const random = seededRandom(seed);
  const hop = (): number => {
    const gaussian = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    return Math.max(0, HOP_MS + HOP_SIGMA * gaussian);
  };
  let version = 0;
  let calls = 0;
  let waiting = clients;
  let endedAt = 0;
  for (let i = 0; i < clients; i++) {
    const backoff = backoffOf(random);
    let attempt = 0;
    let previousMs: number | undefined;
    const begin = (): void => {
      clock.setTimeout(() => {
        const read = version;
        clock.setTimeout(() => clock.setTimeout(() => write(read), hop()), hop());
      }, hop());
    };
    const write = (read: number): void => {
      calls++;
      if (read === version) {
        version++;
        waiting--;
        endedAt = clock.now();
        return;
      }
      clock.setTimeout(() => {
        previousMs = backoff(attempt++, previousMs);
        clock.setTimeout(begin, previousMs);
      }, hop());
    };
    begin();
  }
  while (waiting > 0) clock.advanceSync(1000);
  return { calls, ms: endedAt };
}

const table = new Table({
  head: ['', ...CLIENTS.flatMap((n) => [`${n}: calls`, 's'])],
  colAligns: ['left', ...CLIENTS.flatMap(() => ['right', 'right'] as const)],
  style: { head: [], border: [], compact: true },
});
for (const [name] of strategies) {
  const of = rows.filter(({ strategy }) => strategy === name);
  table.push([name, ...of.flatMap(({ calls, ms }) => [calls.toFixed(0), (ms / 1000).toFixed(2)])]);
}
const at = (name: string): JitterRow => rows.find((row) => row.strategy === name && row.clients === 100)!;
const full = at('full jitter');
const fixed = at('fixed 5 ms');
const text = `${table.toString()}
full jitter against a fixed wait, 100 clients: ${(100 * (1 - full.calls / fixed.calls)).toFixed(0)} % fewer calls, ${(full.ms / fixed.ms).toFixed(2)} × the time
`;
console.log(text);
const out = new URL('../results/', import.meta.url);
await mkdir(out, { recursive: true });
await writeFile(new URL('jitter.txt', out), text);
for (const [file, svg] of Object.entries(await jitterPlots(rows))) await writeFile(new URL(file, out), svg);
