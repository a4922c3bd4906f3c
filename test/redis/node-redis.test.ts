import { ProxyManager, StoreError } from 'paceline';
import { redisStore } from 'paceline/redis';
import { mockTarget } from 'paceline/testing';
import { createClient } from 'redis';
import { describe, expect, it } from 'vitest';
import { startRedis } from '../support/redis-server.ts';

describe('a client of node-redis', () => {
  it('will do: the script is told once, and a budget is shared with an ioredis client', async () => {
    await using server = await startRedis({ appendonly: false });
    await using target = await mockTarget();
    const client = createClient({ url: server.url });
    await client.connect();
    const targets = [{ match: '127.0.0.1', budget: { limit: 3, windowMs: 400, spacing: 'burst' as const } }];
    const crew = [client, server.client()].map((redis) => new ProxyManager({ store: redisStore(redis), targets }));
    const statuses = await Promise.all(
      Array.from({ length: 9 }, async (_, i) => (await crew[i % 2].fetch(target.url)).status),
    );
    expect([statuses.every((status) => status === 200), target.worst(400)]).toEqual([true, 3]);
    expect(await client.info('commandstats')).toMatch(/cmdstat_eval:calls=1,/);
    await Promise.all(crew.map((one) => one.close()));
    client.destroy();
  });

  it('that is not connected is told so', async () => {
    const client = createClient({ url: 'redis://127.0.0.1:1', disableOfflineQueue: true });
    client.on('error', () => {});
    // Whatever is to be done about outages: this is none.
    const store = redisStore(client, { onStoreError: 'wait' });
    const policy = { limit: 1, windowMs: 100, spacingMs: 0, rates: [], concurrency: undefined };
    const demand = { count: 1, policy, pool: 'pool', patienceMs: 0, horizonMs: 0, deadlineMs: 1000 };
    const error = await Promise.resolve(store.reserve('shop.test', demand)).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(StoreError);
    expect((error as Error).message).toMatch(/connect it first.*await client\.connect\(\)/);
    await store.close();
  });
});
