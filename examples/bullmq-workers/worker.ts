import { UnrecoverableError, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { ConfigError, GatewayError, ProxyManager } from 'paceline';
import { redisStore } from 'paceline/redis';
import { BUDGET, type News, QUEUE, RATE, WORKERS } from './world.ts';

// One worker process: BullMQ says which page is next, paceline when it may be fetched, and by which IP.

const [, , gateway, redis, prefix] = process.argv;
// A connection each: BullMQ's wait for as long as it takes, the store has an answer in a second or does without.
const jobs = new Redis(redis, { maxRetriesPerRequest: null });
const budgets = new Redis(redis);

const proxies = new ProxyManager({
  gateway,
  targets: [{ match: 'shop.test', budget: BUDGET, rate: RATE }],
  // Two attempts here, soon after one another; what does not come then comes with the job's next attempt.
  retry: { attempts: 2, baseMs: 50 },
  // While the shared budget cannot be asked nothing is sent: the job fails, and goes back to the queue.
  store: redisStore(budgets, { prefix: `${prefix}:pace:`, onStoreError: 'fail', expectedWorkers: WORKERS }),
});

async function page(url: string): Promise<number> {
  try {
    const response = await proxies.fetch(url);
    const { length } = await response.text();
    if (response.ok) return length;
    // What comes after the last attempt is handed over as it is. Most of it would be the same next time.
    if (response.status === 429 || response.status >= 500) throw new Error(`status ${response.status}`);
    throw new UnrecoverableError(`status ${response.status}`);
  } catch (error) {
    // So would these. All others pass, a RetriesExhaustedError and a StoreError among them: BullMQ tries the job again.
    const isFatal = error instanceof ConfigError || (error instanceof GatewayError && error.fatal);
    throw isFatal ? new UnrecoverableError(error.message) : error;
  }
}

const worker = new Worker<{ url: string }, number>(QUEUE, ({ data: { url } }) => page(url), {
  connection: jobs,
  prefix,
  // Jobs at a time: most wait for their turn with paceline, and BullMQ renews their locks meanwhile.
  concurrency: 20,
});
const tell = (news: News): void => void process.send?.(news);
worker.on('failed', (_, { name, message }) => tell({ name, message }));
worker.on('error', ({ message }) => console.error(`worker ${process.pid}: ${message}`));

// The parent has no more work, or is gone.
process.on('disconnect', async () => {
  await worker.close();
  await proxies.close();
  jobs.disconnect();
  budgets.disconnect();
});
