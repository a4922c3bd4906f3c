/**
 * Several processes of one machine on one SQLite file: four scripts that know nothing of each other keep one budget, with no
 * server to run. One of them is killed while it works: what it had begun still counts, and the others go on.
 *
 *   node examples/sqlite-processes/main.ts
 */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mockGateway, mockTarget } from 'paceline/testing';

const PROCESSES = 4;
const PAGES = 30;
await using shop = await mockTarget({ budget: { limit: 5, windowMs: 2000 }, latencyMs: [5, 60] });
await using gateway = await mockGateway({ exits: 6 });
const directory = await mkdtemp(join(tmpdir(), 'paceline-example-'));
const file = join(directory, 'pace.db');

function start(from: number): ChildProcess {
  const given = [file, gateway.url, shop.url, String(from), String(PAGES)];
  // Node says of each process that its SQLite is experimental.
  return fork(new URL('./worker.ts', import.meta.url), given, { execArgv: ['--disable-warning=ExperimentalWarning'] });
}

console.log(`${PROCESSES} processes, ${PAGES} pages each, over 6 IPs with 5 requests in any 2 s each`);
const processes = Array.from({ length: PROCESSES }, (_, i) => start(i * PAGES));
const ends = Promise.all(processes.map((process) => once(process, 'exit')));
// Or all have failed.
await Promise.race([shop.arrived(40), ends]);
const victim = processes.findLast(({ exitCode }) => exitCode === null);
victim?.kill('SIGKILL');
console.log(`process ${victim?.pid}: killed, after ${shop.arrivals.length} pages of all four`);

await ends;
const { 200: fetched = 0, 429: refused = 0 } = shop.byStatus();
console.log(
  `${fetched} pages over ${shop.ips().length} IPs; over budget, as the site counts: ${shop.overBudget()}, 429s: ${refused}`,
);
await rm(directory, { recursive: true });

for (const process of processes) if (process !== victim) assert.equal(process.exitCode, 0);
assert.ok(fetched >= 3 * PAGES);
assert.equal(shop.overBudget(), 0);
assert.equal(refused, 0);
