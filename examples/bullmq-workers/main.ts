/**
 * BullMQ as the queue, paceline as the pacing: four processes take pages from one queue and fetch them within one budget, both
 * in the same Redis. Pages whose connection breaks come with a later attempt of their job; one that is not there fails for good.
 *
 *   node examples/bullmq-workers/main.ts
 *
 * It uses the Redis of REDIS_URL, else starts a redis-server for as long as it takes.
 */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue, QueueEvents } from 'bullmq';
import { Redis } from 'ioredis';
import { openRedis } from '../support/redis.ts';
import { BUDGET, EXITS, type News, openWorld, PAGES, QUEUE, RATE, WORKERS } from './world.ts';

await using redis = await openRedis();
await using world = await openWorld();
const prefix = `paceline-example-${Date.now()}`;
const connection = new Redis(redis.url, { maxRetriesPerRequest: null });
const queue = new Queue<{ url: string }>(QUEUE, { connection, prefix });
const events = new QueueEvents(QUEUE, { connection, prefix });
let done = 0;
const lost: string[] = [];
events.on('completed', () => done++);
events.on('failed', ({ failedReason }) => lost.push(failedReason));
await events.waitUntilReady();

console.log(
  `${PAGES} jobs for ${WORKERS} processes, which share ${EXITS} IPs with ${BUDGET.limit} requests in any 2 s each,`,
);
console.log(`and send no more than ${RATE.limit} in 2 s over all of them`);
await queue.addBulk(
  Array.from({ length: PAGES }, (_, i) => ({
    name: 'page',
    data: { url: `http://shop.test/item/${i}` },
    opts: { attempts: 5, backoff: { type: 'exponential', delay: 500, jitter: 0.5 } },
  })),
);
const failures: News[] = [];
const workers = Array.from({ length: WORKERS }, () =>
  fork(new URL('./worker.ts', import.meta.url), [world.gateway.url, redis.url, prefix]).on('message', (news: News) => {
    failures.push(news);
  }),
);

const started = performance.now();
const seconds = (): number => (performance.now() - started) / 1000;
for (let looks = 1; done + lost.length < PAGES && seconds() < 60; looks++) {
  await sleep(500);
  if (looks % 4 === 0) console.log(`  ${seconds().toFixed(0)} s: ${done} pages`);
}
const took = seconds();

for (const worker of workers) worker.disconnect();
await Promise.all(workers.map((worker) => once(worker, 'exit')));
await queue.obliterate({ force: true });
await events.close();
await queue.close();
connection.disconnect();

const again = failures.filter(({ name }) => name !== 'UnrecoverableError');
console.log(`\n${done} pages in ${took.toFixed(1)} s; ${lost.length} failed for good: ${lost.join(', ')}`);
console.log(`failed, and tried again later by BullMQ: ${again.length}`);
for (const [what, same] of Map.groupBy(again, ({ name, message }) => `${name}: ${message}`)) {
  console.log(`  ${same.length} × ${what}`);
}
console.log(`over budget, as the site counts: ${world.shop.overBudget()}`);

assert.equal(done, PAGES - 1);
assert.equal(world.shop.overBudget(), 0);
assert.equal(world.shop.byStatus()[429] ?? 0, 0);
