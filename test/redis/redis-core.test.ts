import fc from 'fast-check';
import { afterAll, beforeAll, describe, it } from 'vitest';
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

describe('the script against the same decisions in TypeScript', () => {
  it.each([
    ['where all kinds of things happen', batchTrace],
    ['where most is as usual', calmBatchTrace],
  ])(
    'answers every batch alike, to the last digit, %s',
    async (_, traces) => {
      const client = server.client();
      await fc.assert(
        fc.asyncProperty(traces, (trace) => {
          const time = { now: 1000 };
          const clock = { ...virtualClock(), now: () => time.now };
          const backend = new RedisBackend(client, { prefix: `core-${runs++}:`, now: () => time.now });
          return runBatches(localBackend({ clock }), backend, trace, time);
        }),
        { numRuns: Number(process.env.RUNS ?? 400) },
      );
    },
    600_000,
  );
});
