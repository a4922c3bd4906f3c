import { Redis } from 'ioredis';
import { ProxyManager } from 'paceline';
import { type RedisClient, redisStore } from 'paceline/redis';
import { LIMIT, type News, type Order, WINDOW_MS } from './world.ts';

// One worker of the fleet. Only its `store` differs from that of a program that runs alone.

const tell = (news: News): void => void process.send!(news);

async function crawl({ gateway, redis, prefix, workers, urls }: Order): Promise<void> {
  const client = redis === undefined ? undefined : new Redis(redis);
  let calls = 0;
  // All that the store needs of a client is two commands: they are counted on their way.
  const counted: RedisClient | undefined = client && {
    evalsha(...call) {
      calls++;
      return client.evalsha(...call);
    },
    eval(...call) {
      calls++;
      return client.eval(...call);
    },
  };
  const proxies = new ProxyManager({
    gateway,
    targets: [{ match: '127.0.0.1', budget: { limit: LIMIT, windowMs: WINDOW_MS, spacing: 'burst' } }],
    store: counted && redisStore(counted, { prefix, expectedWorkers: workers }),
  });
  const latenciesMs: number[] = [];
  proxies.on('settle', ({ latencyMs }) => latenciesMs.push(latencyMs));
  // All at once: who is too many waits.
  await Promise.all(
    urls.map(async (url) => {
      const response = await proxies.fetch(url);
      await response.arrayBuffer();
      tell({ is: 'page', ok: response.ok });
    }),
  );
  await proxies.close();
  client?.disconnect();
  tell({ is: 'done', calls, latenciesMs });
}

process.on('message', crawl);
// Nobody is left to work for.
process.on('disconnect', () => process.exit());
tell({ is: 'ready' });
