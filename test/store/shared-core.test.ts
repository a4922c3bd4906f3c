import fc from 'fast-check';
import { describe, it } from 'vitest';
import { Direct } from '../../src/store/shared/direct.ts';
import { localBackend } from '../../src/store/shared/local.ts';
import { SharedStore } from '../../src/store/shared/shared-store.ts';
import { runTrace, storeTrace } from '../support/store-trace.ts';

describe('the shared core against the reference', () => {
  it('grants, waits, bindings, cooldowns and inspect() are the same for every trace', async () => {
    await fc.assert(
      fc.asyncProperty(storeTrace, (trace) =>
        runTrace(
          (clock, random) => new SharedStore(new Direct(localBackend({ clock }), clock), { clock, random }),
          trace,
        ),
      ),
      { numRuns: Number(process.env.RUNS ?? 400) },
    );
  });
});
