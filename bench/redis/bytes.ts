import type { Redis } from 'ioredis';
import { redisStore } from '../../src/redis.ts';
import { type RedisServer, startRedis } from '../../test/support/redis-server.ts';
import { address, staticRoutes } from '../support/egresses.ts';
import { FOUR, introduce } from './paceline.ts';
import { flexibleLimiter, unionOfFour } from './peers.ts';

const MANY = 100_000;
/** Nothing is over, and so forgotten, while it is weighed. */
const HOUR_MS = 3_600_000;
const AT_ONCE = 1_000;

export interface Bytes {
  readonly name: string;
  /** By which the server's memory has grown, for each egress. */
  readonly bytes: number;
  /** What Redis says of its keys, by kind of key; the table that finds them comes on top. */
  readonly parts: Readonly<Record<string, number>>;
}

/** What a server of its own keeps of one target with 100,000 egresses, eight of whose slots have been used. */
export async function bytesEach(): Promise<Bytes[]> {
  return [
    await weigh('paceline, 8 slots each', async (server) => {
      const store = redisStore(server.client(), { commandTimeoutMs: 10_000 });
      await introduce(store, 'shop.test', { ...FOUR, windowMs: HOUR_MS }, staticRoutes(MANY));
      await store.close();
    }),
    await weigh('rate-limiter-flexible, single', async (server) => {
      const limiter = flexibleLimiter(server, 'single');
      await eachEgress((key) => limiter.consume(key));
    }),
    await weigh('rate-limiter-flexible, union of 4', async (server) => {
      const union = unionOfFour(server);
      await eachEgress((key) => union.consume(key));
    }),
  ];
}

async function eachEgress(work: (key: string) => Promise<unknown>): Promise<void> {
  for (let from = 0; from < MANY; from += AT_ONCE) {
    await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => work(address(from + i))));
  }
}

async function weigh(name: string, fill: (server: RedisServer) => Promise<void>): Promise<Bytes> {
  await using server = await startRedis({ appendonly: false });
  const control = server.client();
  const used = async (): Promise<number> => Number(/used_memory:(\d+)/.exec(await control.info('memory'))?.[1]);
  const before = await used();
  await fill(server);
  const bytes = ((await used()) - before) / MANY;
  return { name, bytes, parts: await parts(control) };
}

/** By kind of key, for each egress. Where there are many they are all alike, and some are asked for. */
async function parts(control: Redis): Promise<Record<string, number>> {
  const all: Record<string, number> = {};
  const [, keys] = await control.scan(0, 'COUNT', 100);
  const count = await control.dbsize();
  for (const key of keys) {
    const kind = count > keys.length ? 'all' : key.replace(/.*\}:/, '');
    const usage = (await control.memory('USAGE', key, 'SAMPLES', 0)) ?? 0;
    all[kind] = (all[kind] ?? 0) + (usage * count) / keys.length / MANY;
  }
  return all;
}
