import fc from 'fast-check';
import { describe, it } from 'vitest';
import { sqliteStore } from '../../src/sqlite.ts';
import { localBackend } from '../../src/store/shared/local.ts';
import { SqliteBackend } from '../../src/store/sqlite/sqlite-backend.ts';
import { virtualClock } from '../../src/testing/virtual-clock.ts';
import { batchTrace, runBatches } from '../support/batch-trace.ts';
import { runTrace, storeTrace } from '../support/store-trace.ts';

describe('the sqlite store against the reference', () => {
  it('grants, waits, bindings, cooldowns and inspect() are the same for every trace', async () => {
    await fc.assert(
      fc.asyncProperty(storeTrace, async (trace) => {
        const stores: { close(): unknown }[] = [];
        await runTrace((clock, random) => {
          const store = sqliteStore(':memory:', { clock, random });
          stores.push(store);
          return store;
        }, trace);
        for (const store of stores) await store.close();
      }),
      { numRuns: Number(process.env.RUNS ?? 100) },
    );
  });
});

describe('the records in a file against those in memory', () => {
  it('every batch is answered alike, to the last digit', async () => {
    await fc.assert(
      fc.asyncProperty(batchTrace, async (trace) => {
        const time = { now: 1000 };
        const clock = { ...virtualClock(), now: () => time.now };
        const backend = new SqliteBackend(':memory:', 0, () => time.now);
        await runBatches(localBackend({ clock }), backend, trace, time);
        backend.close();
      }),
      { numRuns: Number(process.env.RUNS ?? 100) },
    );
  });
});
