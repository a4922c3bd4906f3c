/**
 * Eight processes crawl one protected site through one pool of IPs: first each with a budget of its own, as if it were alone,
 * then all with one budget in Redis. Everything runs on loopback, on mocks of `paceline/testing`; the site counts.
 *
 *   node examples/redis-workers/main.ts [number of workers]
 *
 * It uses the Redis of REDIS_URL, else starts a redis-server for as long as it takes.
 */
import { SingleBar } from 'cli-progress';
import Table from 'cli-table3';
import { openRedis } from '../support/redis.ts';
import { EXITS, LIMIT, PAGES, type Result, run, startWorkers, WINDOW_MS } from './world.ts';

/** What the slot rule allows at best: every exit's slots used again one window after their answer, from the first instant on. */
function shortestMs(latencyMs: number): number {
  const rounds = Math.ceil(PAGES / (EXITS * LIMIT));
  return (rounds - 1) * (WINDOW_MS + latencyMs) + latencyMs;
}

const count = Number(process.argv[2] ?? 8);
if (!Number.isInteger(count) || count < 1) throw new Error('the number of workers must be an integer of 1 or more');

await using redis = await openRedis();
console.log(
  `${PAGES} pages of a site that allows each IP ${LIMIT} requests in any ${WINDOW_MS / 1000} s, by ${count} processes through ${EXITS} IPs;\nfirst with a budget each, then with one in ${redis.title}\n`,
);
const workers = await startWorkers(count);

async function show(title: string, url: string | undefined): Promise<Result> {
  const bar = new SingleBar({
    format: `${title} {bar} {value}/{total} pages · {duration_formatted}`,
    hideCursor: true,
    noTTYOutput: true,
    notTTYSchedule: 5000,
  });
  bar.start(PAGES, 0);
  const result = await run(workers, url, (done) => bar.update(done));
  bar.stop();
  return result;
}
const alone = await show('a budget each      ', undefined);
const shared = await show('one budget in Redis', redis.url);
for (const worker of workers) worker.disconnect();

const share = shortestMs(shared.latencyMs) / shared.ms;
const percent = (part: number): string => `${(100 * part).toFixed(1)} %`;
const table = new Table({
  head: ['', 'a budget each', 'one budget in Redis'],
  colAligns: ['left', 'right', 'right'],
  style: { head: [], border: [] },
});
const row = (title: string, value: (result: Result) => string | number): void => {
  table.push([title, String(value(alone)), String(value(shared))]);
};
row('pages fetched', ({ pages }) => pages);
row('sends', ({ sends }) => sends);
row('arrivals over budget, counted by the site', ({ overBudget }) => overBudget);
row(`most requests of an IP in ${WINDOW_MS / 1000} s (${LIMIT} allowed)`, ({ worst }) => worst);
row('429 answers', ({ limited }) => limited);
row('pages a second', ({ pages, ms }) => ((1000 * pages) / ms).toFixed(1));
table.push(['share of the theoretical maximum', '–', percent(share)]);
row('sessions, all workers together', ({ sessions }) => sessions);
row('tunnels opened', ({ tunnels }) => tunnels);
row('Redis calls a page', ({ calls }) => (calls === 0 ? '–' : (calls / PAGES).toFixed(2)));
console.log(`\n${table.toString()}\n`);

const failures = [
  shared.pages < PAGES && `${PAGES - shared.pages} pages are missing`,
  shared.limited > 0 && `${shared.limited} answers were 429`,
  shared.overBudget > 0 && `${shared.overBudget} arrivals were over budget`,
].filter((failure) => failure !== false);
for (const failure of failures) console.error(`not as promised: ${failure}`);
if (failures.length > 0) process.exitCode = 1;
else {
  console.log(
    `With a budget each they sent ${alone.overBudget} requests more than the site allows; with one for all of them, none.`,
  );
}
