import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { emissionInterval, nextAllowed, type Rate, refund, spend } from '../../src/store/rate.ts';
import { worstWindow } from '../../src/testing/window.ts';

const rates = fc
  .record({
    limit: fc.integer({ min: 1, max: 20 }),
    windowMs: fc.integer({ min: 1, max: 60_000 }),
    share: fc.double({ min: 0, max: 1, noNaN: true }),
  })
  .map(({ limit, windowMs, share }): Rate => ({ limit, windowMs, burst: 1 + Math.floor(share * (limit - 1)) }));

/** How many may go at once. */
function allowedNow(rate: Rate, tat: number, now: number): number {
  let cost = rate.burst;
  while (cost > 0 && nextAllowed(rate, tat, now, cost) > now) cost--;
  return cost;
}

describe('a rate', () => {
  it('is never over N in a half-open window after any burst, whatever is given back', () => {
    const asks = fc.array(
      fc.record({
        // As shares of the window: often nothing, often just the time it takes.
        wait: fc.oneof(fc.constant(0), fc.constant(-1), fc.double({ min: 0, max: 1.2, noNaN: true })),
        count: fc.integer({ min: 1, max: 8 }),
        givesBack: fc.option(fc.nat(), { nil: undefined, freq: 3 }),
      }),
      { maxLength: 80 },
    );
    fc.assert(
      fc.property(rates, asks, (rate, work) => {
        let now = 1000;
        let tat = -Infinity;
        let spentAt = -Infinity;
        let refunded = 0;
        let sent: { at: number; mark: number }[] = [];
        for (const { wait, count, givesBack } of work) {
          now = wait < 0 ? nextAllowed(rate, tat, now) : now + wait * rate.windowMs;
          const allowed = Math.min(count, allowedNow(rate, tat, now));
          if (wait < 0) expect(allowed).toBeGreaterThan(0);
          for (let i = 0; i < allowed; i++) {
            tat = spend(rate, tat, now, 1);
            spentAt = now;
            sent.push({ at: now, mark: tat + refunded });
          }
          if (givesBack !== undefined && sent.length > 0) {
            const back = sent[givesBack % sent.length];
            sent = sent.filter((one) => one !== back);
            const left = refund(rate, tat, back.mark - refunded, spentAt);
            expect(left).toBeLessThanOrEqual(tat);
            refunded += tat - left;
            tat = left;
          }
        }
        // A billionth less than the window: times are doubles.
        const times = sent.map(({ at }) => at);
        expect(worstWindow(times, rate.windowMs * (1 - 1e-7))).toBeLessThanOrEqual(rate.limit);
      }),
      { numRuns: 1000 },
    );
  });

  it('lets `burst` through at once, then one per interval', () => {
    fc.assert(
      fc.property(rates, (rate) => {
        const now = 5;
        expect(allowedNow(rate, -Infinity, now)).toBe(rate.burst);
        const tat = spend(rate, -Infinity, now, rate.burst);
        expect(allowedNow(rate, tat, now)).toBe(0);
        const next = nextAllowed(rate, tat, now);
        expect(next).toBeCloseTo(now + emissionInterval(rate), 6);
        expect(allowedNow(rate, tat, next)).toBe(1);
      }),
    );
  });

  test('what is given back at once may be spent again at once', () => {
    const rate: Rate = { limit: 4, windowMs: 100, burst: 1 };
    const tat = spend(rate, -Infinity, 0, 1);
    expect(allowedNow(rate, refund(rate, tat, tat, 0), 0)).toBe(1);
  });

  test('what would have come back by itself is not given back a second time', () => {
    const rate: Rate = { limit: 4, windowMs: 100, burst: 1 };
    const first = spend(rate, -Infinity, 0, 1);
    const second = spend(rate, first, 30, 1); // sent at 30: the first one's place had come back at 25
    expect(allowedNow(rate, refund(rate, second, first, 30), 31)).toBe(0);
    expect(nextAllowed(rate, refund(rate, second, first, 30), 31)).toBe(55);
  });
});
