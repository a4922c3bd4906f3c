import fc from 'fast-check';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { RedisBackend } from '../../src/store/redis/redis-backend.ts';
import { Direct } from '../../src/store/shared/direct.ts';
import { SharedStore } from '../../src/store/shared/shared-store.ts';
import { type RedisServer, startRedis } from '../support/redis-server.ts';
import { runTrace, storeTrace } from '../support/store-trace.ts';

let server: RedisServer;
let runs = 0;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
});
afterAll(() => server[Symbol.asyncDispose]());

describe('the store in Redis against the reference', () => {
  it('grants, waits, bindings, cooldowns and inspect() are the same for every trace', async () => {
    const client = server.client();
    await fc.assert(
      fc.asyncProperty(storeTrace, (trace) =>
        runTrace((clock, random) => {
          const backend = new RedisBackend(client, { prefix: `trace-${runs++}:`, now: () => clock.now() });
          return new SharedStore(new Direct(backend, clock), { clock, random });
        }, trace),
      ),
      { numRuns: Number(process.env.RUNS ?? 200) },
    );
  }, 600_000);
});
