import fc from 'fast-check';
import { countOver, worstWindow } from 'paceline/testing';
import { describe, expect, it } from 'vitest';
import { PeerBudget } from '../../src/testing/budget.ts';

const times = fc.array(fc.integer({ min: 0, max: 200 }), { maxLength: 60 });

function inWindow(all: readonly number[], end: number, windowMs: number): number {
  return all.filter((t) => t > end - windowMs && t <= end).length;
}

describe('worstWindow', () => {
  it.each([
    ['none', [], 10, 0],
    ['one', [5], 10, 1],
    ['exactly a window apart never share one', [0, 10], 10, 1],
    ['just under a window apart do', [0, 9.999], 10, 2],
    ['the same instant', [3, 3, 3], 10, 3],
    ['in any order', [25, 0, 5, 20, 21], 10, 3],
    ['a window that slides over a gap', [0, 1, 2, 11, 12], 10, 3],
  ])('%s', (_name, at, windowMs, worst) => {
    expect(worstWindow(at, windowMs)).toBe(worst);
  });

  it('is what counting by hand finds', () => {
    fc.assert(
      fc.property(times, fc.integer({ min: 1, max: 60 }), (at, windowMs) => {
        const byHand = Math.max(0, ...at.map((end) => inWindow(at, end, windowMs)));
        expect(worstWindow(at, windowMs)).toBe(byHand);
      }),
    );
  });

  it('leaves its input as it was', () => {
    const at = [3, 1, 2];
    worstWindow(at, 10);
    expect(at).toEqual([3, 1, 2]);
  });
});

describe('countOver', () => {
  it('is 0 exactly when no window holds more than the limit', () => {
    fc.assert(
      fc.property(times, fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 60 }), (at, limit, windowMs) => {
        expect(countOver(at, limit, windowMs) === 0).toBe(worstWindow(at, windowMs) <= limit);
      }),
    );
  });

  it('counts each that finds the window full', () => {
    expect(countOver([0, 10, 20], 1, 1_000)).toBe(2);
    expect(countOver([0, 1_000, 2_000], 1, 1_000)).toBe(0);
    expect(countOver([0, 1, 999, 1_001, 1_999], 2, 1_000)).toBe(1);
    // Those over the limit count for the ones after them.
    expect(countOver([0, 1, 999, 1_000, 1_001], 2, 1_000)).toBe(3);
  });
});

describe('PeerBudget', () => {
  const never = Number.POSITIVE_INFINITY;

  it('opens at the very end of the window, not before', () => {
    const budget = new PeerBudget({ limit: 2, windowMs: 1_000 }, never, 1);
    expect(budget.arrive('a', 0).kind).toBe('allowed');
    expect(budget.arrive('a', 400).kind).toBe('allowed');
    expect(budget.arrive('a', 400)).toEqual({ kind: 'over', retryMs: 600 });
    expect(budget.arrive('a', 999.75)).toEqual({ kind: 'over', retryMs: 0.25 });
    expect(budget.arrive('a', 1_000).kind).toBe('allowed');
    expect(budget.arrive('a', 1_399).kind).toBe('over');
    expect(budget.arrive('a', 1_400).kind).toBe('allowed');
    expect(budget.arrive('b', 1_400).kind).toBe('allowed');
  });

  it('allows an arrival exactly when fewer than the limit were allowed in its window', () => {
    fc.assert(
      fc.property(
        times,
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 60 }),
        (unsorted, limit, windowMs) => {
          const budget = new PeerBudget({ limit, windowMs }, never, 1);
          const allowed: number[] = [];
          for (const now of unsorted.toSorted((a, b) => a - b)) {
            const expected = inWindow(allowed, now, windowMs) < limit;
            expect(budget.arrive('a', now).kind === 'allowed').toBe(expected);
            if (expected) allowed.push(now);
          }
        },
      ),
    );
  });

  it('bans after so many over the budget, for the time of the ban', () => {
    const budget = new PeerBudget({ limit: 1, windowMs: 100 }, 2, 5_000);
    const kinds = [0, 1, 2, 3, 5_001, 5_002, 5_003].map((now) => budget.arrive('a', now).kind);
    expect(kinds).toEqual(['allowed', 'over', 'banned', 'banned', 'banned', 'allowed', 'over']);
  });
});
