import fc from 'fast-check';
import { describe, it } from 'vitest';
import { MemoryStore } from '../../src/store/memory.ts';
import { runTrace, storeTrace } from '../support/store-trace.ts';

describe('the memory store against the reference', () => {
  it('grants, waits, bindings, cooldowns and inspect() are the same for every trace', async () => {
    await fc.assert(
      fc.asyncProperty(storeTrace, (trace) => runTrace((clock, random) => new MemoryStore(clock, random), trace)),
      { numRuns: Number(process.env.RUNS ?? 400) },
    );
  });
});
