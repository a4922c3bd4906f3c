import { inspect } from 'node:util';
import { Redis } from 'ioredis';
import { ConfigError, ProxyManager, StoreError } from 'paceline';
import { redisStore } from 'paceline/redis';
import { type MockTarget, mockTarget } from 'paceline/testing';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { FailureOptions } from '../../src/store/shared/failure-options.ts';
import { type RedisServer, startRedis } from '../support/redis-server.ts';

// What a user meets: a manager, a client set up badly or a Redis that is not well, and a request.

const PASSWORD = 'hunter2-redis';
let target: MockTarget;
let managers: ProxyManager[];

beforeAll(async () => {
  target = await mockTarget();
});
afterAll(() => target.close());
beforeEach(() => {
  managers = [];
});
afterEach(async () => {
  await Promise.all(managers.map((one) => one.close({ force: true })));
});

/** Clients tell of each trouble by an event, too; a program listens to it. */
function quiet(client: Redis): Redis {
  client.on('error', () => {});
  return client;
}

function managerOn(client: Redis, options: FailureOptions = {}, budget = { limit: 100, windowMs: 1000 }) {
  const proxies = new ProxyManager({
    store: redisStore(client, { commandTimeoutMs: 400, ...options }),
    targets: [{ match: '127.0.0.1', budget: { ...budget, spacing: 'burst' } }],
    retry: { attempts: 1 },
  });
  managers.push(proxies);
  return proxies;
}

/** How a request ended: its status, or its error. */
async function ending(proxies: ProxyManager): Promise<number | Error> {
  try {
    const response = await proxies.fetch(target.url);
    await response.text();
    return response.status;
  } catch (error) {
    return error as Error;
  }
}

function storeErrorOf(error: unknown): StoreError {
  for (let one = error; one instanceof Error; one = one.cause) if (one instanceof StoreError) return one;
  throw new Error(`no StoreError in ${inspect(error)}`);
}

describe('a client that is set up wrongly', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await startRedis({ password: PASSWORD, appendonly: false });
  });
  afterAll(() => server[Symbol.asyncDispose]());

  const clientOf = (options: object): Redis =>
    quiet(new Redis({ port: server.port, host: '127.0.0.1', maxRetriesPerRequest: 1, ...options }));

  it.each(['local', 'wait', 'fail'] as const)('without the password is told so (%s)', async (onStoreError) => {
    const client = clientOf({});
    const error = storeErrorOf(await ending(managerOn(client, { onStoreError })));
    expect(error.message).toMatch(/credentials.*check username and password/);
    client.disconnect();
  });

  it('with a wrong one is told so, and shows neither', async () => {
    const client = clientOf({ password: `${PASSWORD}-wrong` });
    const error = await ending(managerOn(client, { onStoreError: 'fail' }));
    expect(storeErrorOf(error).message).toMatch(/credentials/);
    expect(inspect(error, { depth: 10, showHidden: true })).not.toContain(PASSWORD);
    client.disconnect();
  });

  it('with a key of another type in the way is told which prefix to change', async () => {
    const client = clientOf({ password: PASSWORD });
    await client.hset('paceline:{127.0.0.1}:gate', 'a', 'b');
    const error = storeErrorOf(await ending(managerOn(client)));
    expect(error.message).toMatch(/another prefix, or delete that key/);
    await client.flushall();
    client.disconnect();
  });

  it.each([
    [undefined, 'redis'],
    [{}, 'redis'],
    ['redis://localhost', 'redis'],
  ])('that is none (%o) is a ConfigError', (client, option) => {
    expect(() => redisStore(client as never)).toThrow(ConfigError);
    expect(() => redisStore(client as never)).toThrow(`${option}: expected`);
  });

  it.each([
    [{ prefix: 'a{b}' }, 'prefix'],
    [{ commandTimeoutMs: 0 }, 'commandTimeoutMs'],
    [{ commandTimeoutMs: Number.NaN }, 'commandTimeoutMs'],
    [{ onStoreError: 'ignore' }, 'onStoreError'],
    [{ expectedWorkers: 0 }, 'expectedWorkers'],
    [{ expectedWorkers: 1.5 }, 'expectedWorkers'],
    [{ prefixx: 'a' }, 'prefixx'],
  ])('with %o is a ConfigError that names it', (options, option) => {
    const client = { evalsha: async () => '', eval: async () => '' };
    expect(() => redisStore(client, options as never)).toThrow(ConfigError);
    expect(() => redisStore(client, options as never)).toThrow(new RegExp(`${option}: expected`));
  });
});

describe('a Redis that is not well', () => {
  it('that is a read-only replica is told so', async () => {
    await using primary = await startRedis({ appendonly: false });
    await using replica = await startRedis({ replicaOf: primary, appendonly: false });
    const proxies = managerOn(quiet(replica.client()), { onStoreError: 'fail' });
    expect(storeErrorOf(await ending(proxies)).message).toMatch(/replica.*connect to the primary/);
  });

  it('that is full says so, and serves again when it has room', async () => {
    await using server = await startRedis({
      appendonly: false,
      config: ['maxmemory 2mb', 'maxmemory-policy noeviction'],
    });
    const client = quiet(server.client());
    const proxies = managerOn(client, { onStoreError: 'fail' });
    expect(await ending(proxies)).toBe(200);
    await client.config('SET', 'maxmemory', '1');
    expect(storeErrorOf(await ending(proxies)).message).toMatch(/no memory left/);
    await client.config('SET', 'maxmemory', '0');
    await expect.poll(() => ending(proxies), { timeout: 5000 }).toBe(200);
  });

  it('that is too old, or lacks the commands, is told what is needed', async () => {
    await using server = await startRedis({
      appendonly: false,
      config: ['rename-command EVALSHA ""', 'rename-command EVAL ""'],
    });
    const error = storeErrorOf(await ending(managerOn(quiet(server.client()))));
    expect(error.message).toMatch(/Redis 6\.2 or later/);
  });

  it('that is not there at first does not lose what waits', async () => {
    await using server = await startRedis({ appendonly: false });
    await server.stop();
    const client = quiet(server.client({ retryStrategy: () => 50 }));
    const proxies = managerOn(client, { onStoreError: 'wait' });
    const told: string[] = [];
    proxies.on('store-error', () => told.push('down'));
    proxies.on('store-back', () => told.push('back'));
    const waiting = Array.from({ length: 5 }, () => ending(proxies));
    await expect.poll(() => told, { timeout: 5000 }).toEqual(['down']);
    await server.start();
    expect(await Promise.all(waiting)).toEqual([200, 200, 200, 200, 200]);
    expect(told).toEqual(['down', 'back']);
  });

  it('that goes away for good leaves each worker its share', async () => {
    await using server = await startRedis({ appendonly: false });
    const client = quiet(server.client({ retryStrategy: () => 100 }));
    const proxies = managerOn(client, { expectedWorkers: 2 }, { limit: 4, windowMs: 500 });
    expect(await ending(proxies)).toBe(200);
    await server.kill();
    target.reset();
    const endings = await Promise.all(Array.from({ length: 6 }, () => ending(proxies)));
    expect(endings).toEqual([200, 200, 200, 200, 200, 200]);
    expect(target.worst(500)).toBe(2);
  });
});
