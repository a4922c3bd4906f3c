/**
 * 100,000 pages of a protected, adaptive, banning site over 8 hours of virtual time, by seven strategies in the same three worlds.
 *
 *   npm run bench:strategies [-- urls]
 *
 * Fewer pages than 100,000 are the first of the 8 hours, one world only, and nothing is written.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import Table from 'cli-table3';
import { type Contender, contenders } from './contenders.ts';
import type { Row } from './measure.ts';
import { plots } from './plots.ts';
import { URLS } from './world.ts';

const urls = Number(process.argv[2] ?? URLS);
const seeds = urls === URLS ? [42, 43, 44] : [42];
/** Runs that are done side by side; a world needs one core. */
const WORKERS = 2;

interface Job {
  readonly name: Contender;
  readonly seed: number;
}

const names = Object.keys(contenders) as Contender[];
const results = new Map<Contender, Row[]>(names.map((name) => [name, []]));
// The longest ones first, and ours once more: the same seed must come to the same end.
const jobs: Job[] = [...names].reverse().flatMap((name) => seeds.map((seed) => ({ name, seed })));
const again: { hash?: string } = {};

function one({ name, seed }: Job): Promise<Row> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { workerData: { name, seed, urls } });
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

async function work(): Promise<void> {
  for (let job = jobs.shift(); job !== undefined; job = jobs.shift()) {
    const started = performance.now();
    const row = await one(job);
    console.error(`${job.name}, seed ${job.seed}: ${((performance.now() - started) / 1000).toFixed(0)} s of real time`);
    results.get(job.name)!.push(row);
  }
}

const repeated = one({ name: 'paceline', seed: seeds[0] }).then(({ hash }) => void (again.hash = hash));
await Promise.all([repeated.then(work), ...Array.from({ length: WORKERS - 1 }, work)]);

/** The mean over the seeds, and how far the seeds lie apart where that shows. */
function cell(rows: readonly Row[], of: (row: Row) => number, digits: number, unit = ''): string {
  const values = rows.map(of);
  const text = (value: number): string =>
    value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const mean = text(values.reduce((sum, value) => sum + value, 0) / values.length);
  const [low, high] = [text(Math.min(...values)), text(Math.max(...values))];
  return low === high ? `${mean}${unit}` : `${mean}${unit}\n${low}–${high}`;
}

function meanOf(name: Contender): Row {
  const rows = results.get(name)!;
  const mean = (of: (row: Row) => number): number => rows.reduce((sum, row) => sum + of(row), 0) / rows.length;
  return {
    name,
    success: mean((row) => row.success),
    late: mean((row) => row.late),
    sendsPerPage: mean((row) => row.sendsPerPage),
    overBudget: mean((row) => row.overBudget),
    limited: mean((row) => row.limited),
    bans: mean((row) => row.bans),
    bytesPerPage: mean((row) => row.bytesPerPage),
    dialsPerPage: mean((row) => row.dialsPerPage),
    meanWaitS: mean((row) => row.meanWaitS),
    overTime: rows[0].overTime.map((_, bin) => mean((row) => row.overTime[bin])),
    hash: '',
  };
}

const table = new Table({
  head: ['', 'success', 'late', 'sends a page', '429s', 'over budget', 'bans', 'dials a page', 'kB a page', 'mean s'],
  colAligns: ['left', ...Array.from({ length: 9 }, () => 'right' as const)],
  style: { head: [], border: [] },
});
for (const [name, rows] of results) {
  table.push([
    name,
    cell(rows, (row) => 100 * row.success, 2, ' %'),
    cell(rows, (row) => 100 * row.late, 2, ' %'),
    cell(rows, (row) => row.sendsPerPage, 3),
    cell(rows, (row) => row.limited, 0),
    cell(rows, (row) => row.overBudget, 0),
    cell(rows, (row) => row.bans, 0),
    cell(rows, (row) => row.dialsPerPage, 3),
    cell(rows, (row) => row.bytesPerPage, 1),
    cell(rows, (row) => row.meanWaitS, 1),
  ]);
}
const ours = results.get('paceline')!;
const first = ours.find(({ hash }) => hash === again.hash);
const text = `${urls} pages, mean of the seeds ${seeds.join(', ')}, their range below it
${table.toString()}
paceline twice with seed ${seeds[0]}: ${first === undefined ? 'the endings DIFFER' : `the same endings, ${again.hash}`}
`;
console.log(text);
if (urls === URLS) {
  const out = new URL('../results/', import.meta.url);
  await mkdir(out, { recursive: true });
  await writeFile(new URL('strategies.txt', out), text);
  for (const [file, svg] of Object.entries(await plots(names.map(meanOf)))) await writeFile(new URL(file, out), svg);
}
