import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Direct } from '../../src/store/shared/direct.ts';
import { localBackend } from '../../src/store/shared/local.ts';
import { SharedStore } from '../../src/store/shared/shared-store.ts';
import { adaptingTrace, runAdapting } from '../support/adapting-trace.ts';
import { runTrace, storeTrace } from '../support/store-trace.ts';
import { TwinStore } from '../support/twin-store.ts';

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

describe('the shared core against the memory store', () => {
  it('whatever adapts: grants, waits, bindings, verdicts and inspect() are the same for every trace', () => {
    let ejections = 0;
    let apart = 0;
    const runs = Number(process.env.RUNS ?? 400);
    fc.assert(
      fc.property(adaptingTrace, fc.constantFrom(0.25, 0.5), (trace, luck) => {
        let twin: TwinStore | undefined;
        ejections += runAdapting(trace, (clock) => (twin = new TwinStore(clock, () => luck)));
        if (twin?.apart) apart++;
      }),
      { numRuns: runs },
    );
    // The traces are hard enough, and compared for long enough, to mean something.
    expect(apart).toBeLessThan(runs / 20);
    expect(ejections).toBeGreaterThan(50);
  });
});
