/**
 * Crawls 2,000 pages of a protected site through a pool of 40 IPs, twice: the usual way, and paced.
 * Everything runs on loopback: the gateway, its exits (127.0.1.x) and the site are mocks of `paceline/testing` on real sockets.
 *
 *   npm run demo
 */
import { SingleBar } from 'cli-progress';
import Table from 'cli-table3';
import { naive } from './naive.ts';
import { paced } from './paced.ts';
import { EXITS, LIMIT, PAGES, type Result, WINDOW_MS } from './world.ts';

/** What the slot rule allows at best: every exit's slots used again one window after their answer, from the first instant on. */
function shortestMs(latencyMs: number): number {
  const rounds = Math.ceil(PAGES / (EXITS * LIMIT));
  return (rounds - 1) * (WINDOW_MS + latencyMs) + latencyMs;
}

async function run(title: string, work: (progress: (done: number) => void) => Promise<Result>): Promise<Result> {
  const bar = new SingleBar({
    format: `${title} {bar} {value}/{total} pages · {duration_formatted}`,
    hideCursor: true,
    noTTYOutput: true,
    notTTYSchedule: 5000,
  });
  bar.start(PAGES, 0);
  const result = await work((done) => bar.update(done));
  bar.stop();
  return result;
}

console.log(
  `${PAGES} pages of a site that allows each IP ${LIMIT} requests in any ${WINDOW_MS / 1000} s, through a pool of ${EXITS} IPs\n`,
);
const before = await run('naive rotation', naive);
const after = await run('paceline      ', paced);

const share = shortestMs(after.latencyMs) / after.ms;
const shareBefore = before.pages === PAGES ? shortestMs(after.latencyMs) / before.ms : undefined;
const percent = (part: number): string => `${(100 * part).toFixed(1)} %`;
const table = new Table({
  head: ['', before.name, after.name],
  colAligns: ['left', 'right', 'right'],
  style: { head: [], border: [] },
});
const row = (title: string, value: (result: Result) => string): void => {
  table.push([title, value(before), value(after)]);
};
row('pages fetched', (r) => `${r.pages} (${percent(r.pages / PAGES)})`);
row('429 answers', (r) => String(r.limited));
row('arrivals over budget, counted by the site', (r) => String(r.overBudget));
row('pages a second', (r) => ((1000 * r.pages) / r.ms).toFixed(1));
table.push([
  'share of the theoretical maximum',
  shareBefore === undefined ? '–' : percent(shareBefore),
  percent(share),
]);
row('tunnels opened', (r) => String(r.tunnels));
row('bytes a page on the wire', (r) => String(Math.round(r.bytes / Math.max(1, r.pages))));
console.log(`\n${table.toString()}\n`);

const failures = [
  after.pages < PAGES && `${PAGES - after.pages} pages are missing`,
  after.limited > 0 && `${after.limited} answers were 429`,
  after.overBudget > 0 && `${after.overBudget} arrivals were over budget`,
  share < 0.95 && `${percent(share)} of the theoretical maximum is less than 95 %`,
].filter((failure) => failure !== false);
for (const failure of failures) console.error(`not as promised: ${failure}`);
if (failures.length > 0) process.exitCode = 1;
else console.log('As promised: nothing over budget, nothing refused, and close to the limit.');
