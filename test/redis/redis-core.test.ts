import fc from 'fast-check';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RedisBackend } from '../../src/store/redis/redis-backend.ts';
import { localBackend } from '../../src/store/shared/local.ts';
import { virtualClock } from '../../src/testing/virtual-clock.ts';
import { batchTrace, calmBatchTrace, runBatches } from '../support/batch-trace.ts';
import { type RedisServer, startRedis } from '../support/redis-server.ts';

let server: RedisServer;
let runs = 0;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
});
afterAll(() => server[Symbol.asyncDispose]());

/** What is in flight ends by itself, nothing else is remembered in its place, and no key stays for ever. */
async function expectInOrder(client: Redis, prefix: string): Promise<void> {
  const permits = await client.hgetallBuffer(`${prefix}{shop.test}:permits`);
  const until = await client.zrange(`${prefix}{shop.test}:until`, '0', '-1');
  const ofCalls = new Set<string>();
  const single: string[] = [];
  for (const name of until) {
    const [, call, count] = /^(.*)\+(\d+)$/.exec(name) ?? [];
    if (call === undefined) single.push(name);
    else for (let i = 0; i < Number(count); i++) ofCalls.add(`${call}.${i}`);
  }
  expect(single.filter((id) => !(id in permits))).toEqual([]);
  const known = new Set(single);
  // A record of eight bytes has no flags; the flag says that its call stands for it.
  const lost = Object.entries(permits).filter(([id, record]) => {
    return !(record.length > 8 && record[0] >= 16 ? ofCalls : known).has(id);
  });
  expect(lost).toEqual([]);
  if (Object.keys(permits).length === 0) expect(until).toEqual([]);
  for (const key of await client.keys(`${prefix}*`)) expect([key, (await client.pttl(key)) > 0]).toEqual([key, true]);
}

describe('the script against the same decisions in TypeScript', () => {
  it.each([
    ['where all kinds of things happen', batchTrace],
    ['where most is as usual', calmBatchTrace],
  ])(
    'answers every batch alike, to the last digit, %s',
    async (_, traces) => {
      const client = server.client();
      await fc.assert(
        fc.asyncProperty(traces, async (trace) => {
          const time = { now: 1000 };
          const clock = { ...virtualClock(), now: () => time.now };
          const prefix = `core-${runs++}:`;
          const backend = new RedisBackend(client, { prefix, now: () => time.now });
          await runBatches(localBackend({ clock }), backend, trace, time);
          await expectInOrder(client, prefix);
          await client.flushall();
        }),
        { numRuns: Number(process.env.RUNS ?? 400) },
      );
    },
    600_000,
  );
});
