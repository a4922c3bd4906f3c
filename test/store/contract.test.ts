import { ConfigError, MemoryStore, memoryStore } from 'paceline';
import { redisStore } from 'paceline/redis';
import { sqliteStore } from 'paceline/sqlite';
import { type StoreContractOptions, storeContract } from 'paceline/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
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

describe('storeContract', () => {
  const make: StoreContractOptions['make'] = ({ clock, random }) => memoryStore({ clock, random });

  it('refuses what it does not know', () => {
    expect(() => storeContract({ make, runs: 3 } as never)).toThrow(ConfigError);
    expect(() => storeContract({ make, traces: -1 })).toThrow(ConfigError);
    expect(() => storeContract({ make, seed: 0.5 })).toThrow(ConfigError);
    expect(() => storeContract({} as never)).toThrow(ConfigError);
  });

  it('has a name of its own for each case', () => {
    const names = storeContract({ make, traces: 3, seed: 9 }).map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(names.filter((name) => name.startsWith('as memoryStore()'))).toEqual(
      [9, 10, 11].map((n) => `as memoryStore() has it: trace ${n}`),
    );
  });

  it('ends every store that it made, also of a case that fails', async () => {
    let closed = 0;
    let disposed = 0;
    let made = 0;
    class Generous extends MemoryStore {
      override inspect(): never {
        throw new Error('no inspection today');
      }
      override close(): void {
        closed++;
      }
    }
    class Disposable extends Generous implements AsyncDisposable {
      async [Symbol.asyncDispose](): Promise<void> {
        disposed++;
      }
    }
    const cases = storeContract({
      make: async ({ clock, random }) => new (++made % 2 === 0 ? Generous : Disposable)(clock, random),
      traces: 4,
    });
    const ends = await Promise.allSettled(cases.map(({ run }) => run()));
    expect(ends.filter(({ status }) => status === 'rejected').length).toBeGreaterThan(30);
    expect([closed, disposed]).toEqual([Math.floor(made / 2), Math.ceil(made / 2)]);
  });
});
