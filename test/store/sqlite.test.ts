import fc from 'fast-check';
import { describe, it } from 'vitest';
import { sqliteStore } from '../../src/sqlite.ts';
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
