import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { adaptingTrace, runAdapting } from '../support/adapting-trace.ts';

describe('whatever happens to a store that adapts', () => {
  it('nothing leaves early, what is out has one probe, the books are right, and nothing is stuck', () => {
    let ejections = 0;
    fc.assert(
      fc.property(adaptingTrace, (trace) => {
        ejections += runAdapting(trace);
      }),
      { numRuns: Number(process.env.RUNS ?? 500) },
    );
    // The traces are hard enough to mean something.
    expect(ejections).toBeGreaterThan(50);
  });
});
