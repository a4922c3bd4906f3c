/**
 * 100,000 pages of a protected, adaptive, banning site over 8 hours of virtual time, by six strategies in the same world.
 *
 *   npm run bench:strategies [-- urls]
 */
import { mkdir, writeFile } from 'node:fs/promises';
import Table from 'cli-table3';
import type { SimulatedWorld } from '../../src/testing/simulation/world.ts';
import { paceline } from './paceline.ts';
import {
  articleManager,
  crawleeSessions,
  domainBucket,
  fixedInterval,
  naiveRotation,
  politeRotation,
} from './peers.ts';
import { plots } from './plots.ts';
import { type Ending, HOST, openWorld, run, type Strategy, URLS } from './world.ts';

/** What a strategy came to. */
export interface Row {
  readonly name: string;
  readonly success: number;
  readonly sendsPerPage: number;
  readonly overBudget: number;
  readonly limited: number;
  readonly bans: number;
  readonly megabytes: number;
  readonly dialsPerPage: number;
  readonly meanWaitS: number;
  readonly endings: readonly Ending[];
}

const urls = Number(process.argv[2] ?? URLS);
const strategies: [string, (world: SimulatedWorld) => Strategy][] = [
  ['naive rotation', naiveRotation],
  ['fixed-interval retry', fixedInterval],
  ['rotation + Retry-After', politeRotation],
  ['domain token bucket', domainBucket],
  ['Crawlee session rules', crawleeSessions],
  ["the article's manager", articleManager],
  ['paceline', paceline],
];

const rows: Row[] = [];
for (const [name, strategy] of strategies) {
  const started = performance.now();
  const world = openWorld(42);
  const endings = await run(world, strategy(world), urls);
  const { counts } = world.site(HOST);
  const got = endings.filter(({ ok }) => ok).length;
  rows.push({
    name,
    success: got / urls,
    sendsPerPage: world.sends / Math.max(1, got),
    overBudget: counts.overBudget,
    limited: counts.limited,
    bans: counts.bans,
    megabytes: world.bytes / 1e6,
    dialsPerPage: world.dials / Math.max(1, got),
    meanWaitS: endings.reduce((sum, { startedAt, endedAt }) => sum + endedAt - startedAt, 0) / endings.length / 1000,
    endings,
  });
  console.error(`${name}: ${((performance.now() - started) / 1000).toFixed(0)} s of real time`);
}

const table = new Table({
  head: ['', 'success', 'sends a page', '429s', 'over budget', 'IPs banned', 'dials a page', 'MB', 'mean s a page'],
  colAligns: ['left', 'right', 'right', 'right', 'right', 'right', 'right', 'right', 'right'],
  style: { head: [], border: [] },
});
for (const row of rows) {
  table.push([
    row.name,
    `${(100 * row.success).toFixed(2)} %`,
    row.sendsPerPage.toFixed(3),
    row.limited,
    row.overBudget,
    row.bans,
    row.dialsPerPage.toFixed(3),
    row.megabytes.toFixed(0),
    row.meanWaitS.toFixed(1),
  ]);
}
console.log(table.toString());
if (urls === URLS) {
  const out = new URL('../results/', import.meta.url);
  await mkdir(out, { recursive: true });
  await writeFile(new URL('strategies.txt', out), `${table.toString()}\n`);
  for (const [file, svg] of Object.entries(await plots(rows))) await writeFile(new URL(file, out), svg);
}
