import { memoryStore } from 'paceline';
import { redisStore } from 'paceline/redis';
import { sqliteStore } from 'paceline/sqlite';
import { type StoreContractOptions, storeContract } from 'paceline/testing';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { Direct } from '../../src/store/shared/direct.ts';
import { localBackend } from '../../src/store/shared/local.ts';
import { SharedStore } from '../../src/store/shared/shared-store.ts';
import { type RedisCluster, startRedisCluster } from '../support/redis-cluster.ts';
import { type RedisServer, startRedis } from '../support/redis-server.ts';

const traces = Number(process.env.RUNS ?? 50);

function keeps(make: StoreContractOptions['make'], options: Omit<StoreContractOptions, 'make'> = {}): void {
  for (const { name, run } of storeContract({ make, traces, ...options })) it(name, run);
}

describe('the store contract: memory', () => {
  keeps(({ clock, random }) => memoryStore({ clock, random }));
});

describe('the store contract: the core of the shared stores', () => {
  keeps(({ clock, random }) => new SharedStore(new Direct(localBackend({ clock }), clock), { clock, random }));
});

describe('the store contract: SQLite', () => {
  keeps(({ clock, random }) => sqliteStore(':memory:', { clock, random }));
});

describe('the store contract: Redis', () => {
  let server: RedisServer;
  let client: ReturnType<RedisServer['client']>;
  let n = 0;
  beforeAll(async () => {
    server = await startRedis({ appendonly: false });
    client = server.client();
  });
  afterAll(() => server[Symbol.asyncDispose]());

  keeps(({ clock, random }) =>
    redisStore(client, { prefix: `contract-${n++}:`, clock, random, now: () => clock.now() }),
  );
});

describe('the store contract: Redis Cluster', () => {
  let cluster: RedisCluster;
  let client: ReturnType<RedisCluster['client']>;
  let n = 0;
  beforeAll(async () => {
    cluster = await startRedisCluster();
    client = cluster.client();
  }, 60_000);
  afterAll(() => cluster[Symbol.asyncDispose]());

  keeps(
    ({ clock, random }) => redisStore(client, { prefix: `contract-${n++}:`, clock, random, now: () => clock.now() }),
    { traces: Math.ceil(traces / 5) },
  );
});
