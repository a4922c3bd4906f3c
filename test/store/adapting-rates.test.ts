import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { worstWindow } from '../../src/testing/window.ts';
import { proxies } from '../support/adapting.ts';
import { type AtStore, atStore, storePolicy, TARGET } from '../support/at-store.ts';

describe('several rates at once', () => {
  const rates = [
    { limit: 10, windowMs: 100, burst: 10 },
    { limit: 3, windowMs: 100, burst: 3 },
  ];
  const policy = storePolicy({ limit: 100, rates });

  it('are taken all or none', () => {
    const at = atStore(proxies(1), policy);
    expect(at.reserve(9)).toMatchObject({ grants: { length: 3 }, limiting: 'rate' });
    for (let i = 0; i < 9; i++) expect(at.reserve(1).grants).toEqual([]);
    expect(at.reserve(99, { applies: [true, false] }).grants).toHaveLength(7);
  });

  it('count only where they apply', () => {
    const at = atStore(proxies(1), policy);
    expect(at.reserve(9, { applies: [false, true] }).grants).toHaveLength(3);
    expect(at.reserve(99, { applies: [true, false] }).grants).toHaveLength(10);
    expect(at.reserve(99, { applies: [false, false] }).grants).toHaveLength(87);
  });

  it('give back what was cancelled, but nothing that has come back by itself since', () => {
    // One every 50 ms, two at once.
    const at = atStore(proxies(1), storePolicy({ limit: 100, rates: [{ limit: 3, windowMs: 100, burst: 2 }] }));
    const { grants } = at.reserve(2);
    at.store.cancel(TARGET, [grants[0]]);
    at.clock.advanceSync(75);
    at.grant();
    at.store.cancel(TARGET, [grants[1]]);
    at.grant();
    expect(at.reserve(1)).toMatchObject({ grants: [], limiting: 'rate', retryInMs: 50 });
  });

  it('never let more through in any window, whatever is cancelled, booked ahead or costs more', () => {
    const rate = fc.record({
      limit: fc.integer({ min: 2, max: 8 }),
      windowMs: fc.integer({ min: 20, max: 120 }),
      burst: fc.integer({ min: 1, max: 8 }),
    });
    const step = fc.record({
      cost: fc.integer({ min: 1, max: 4 }),
      count: fc.integer({ min: 1, max: 4 }),
      applies: fc.tuple(fc.boolean(), fc.boolean()),
      horizonMs: fc.constantFrom(0, 0, 30),
      cancel: fc.constantFrom(0, 0, 1, 2, 3),
      waitMs: fc.integer({ min: 0, max: 40 }),
    });
    fc.assert(
      fc.property(fc.tuple(rate, rate), fc.array(step, { maxLength: 40 }), (drawn, steps) => {
        const own = drawn.map((one) => ({ ...one, burst: Math.min(one.burst, one.limit) }));
        const fits = Math.min(...own.map((one) => one.limit));
        const at = atStore(proxies(3), storePolicy({ limit: 4, windowMs: 10, spacingMs: 1, rates: own }));
        const sent: number[][] = [[], []];
        let open: { grant: ReturnType<AtStore['grant']>; at: number; cost: number; applies: readonly boolean[] }[] = [];
        const leave = (): void => {
          const now = at.clock.now();
          for (const one of open.filter((other) => other.at <= now)) {
            for (const i of [0, 1]) if (one.applies[i]) sent[i].push(...new Array<number>(one.cost).fill(one.at));
            at.answer(one.grant);
          }
          open = open.filter((other) => other.at > now);
        };
        for (const { cost, count, applies, horizonMs, cancel, waitMs } of steps) {
          const price = Math.min(cost, fits);
          const now = at.clock.now();
          for (const grant of at.reserve(count, { cost: price, applies, horizonMs }).grants) {
            open.push({ grant, at: now + grant.startInMs, cost: price, applies });
          }
          for (const { grant } of open.splice(0, cancel)) at.store.cancel(TARGET, [grant]);
          at.clock.advanceSync(waitMs);
          leave();
        }
        at.clock.advanceSync(1000);
        leave();
        for (const i of [0, 1]) {
          const worst = worstWindow(
            sent[i].sort((a, b) => a - b),
            own[i].windowMs - 1e-6,
          );
          expect(worst).toBeLessThanOrEqual(own[i].limit);
        }
      }),
      { numRuns: Number(process.env.RUNS ?? 300) },
    );
  });
});
