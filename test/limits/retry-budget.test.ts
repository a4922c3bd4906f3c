import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { retryBudget } from '../../src/limits/retry-budget.ts';
import { manualClock } from '../support/manual-clock.ts';

function withdrawAll(budget: { tryWithdraw(): boolean }): number {
  let n = 0;
  while (budget.tryWithdraw()) n++;
  return n;
}

describe('retryBudget', () => {
  test.each([
    // [ratio, floor/s, windowMs, requests, retries]
    [0.2, 10, 10_000, 0, 100],
    [0.2, 10, 10_000, 1000, 300],
    [0.2, 0, 10_000, 4, 0],
    [0.2, 0, 10_000, 5, 1],
    [0.1, 0, 10_000, 10, 1],
    [0.29, 0, 10_000, 100, 29],
    [0, 0, 10_000, 1000, 0],
    [0, 1, 1500, 1000, 1],
    [2, 0, 10_000, 3, 6],
  ])(
    'ratio %d, floor %d/s over %d ms: %i requests vouch for %i retries',
    (ratio, floorPerSecond, windowMs, requests, retries) => {
      const budget = retryBudget({ ratio, floorPerSecond, windowMs, clock: manualClock(123) });
      for (let i = 0; i < requests; i++) budget.deposit();
      expect(budget.balance).toBe(retries);
      expect(withdrawAll(budget)).toBe(retries);
      expect(budget.balance).toBe(0);
    },
  );

  test('the defaults are those of Finagle and Linkerd', () => {
    const budget = retryBudget({ clock: manualClock() });
    for (let i = 0; i < 50; i++) budget.deposit();
    expect(budget.balance).toBe(110);
  });

  test('deposits and withdrawals expire after the window', () => {
    const clock = manualClock();
    const budget = retryBudget({ ratio: 0.5, floorPerSecond: 0.1, windowMs: 10_000, clock });
    for (let i = 0; i < 10; i++) budget.deposit();
    expect(withdrawAll(budget)).toBe(6);
    clock.advance(9_999);
    expect(budget.balance).toBe(0);
    clock.advance(1);
    expect(budget.balance).toBe(1); // the floor, anew
    clock.advance(1e9);
    expect(budget.balance).toBe(1);
  });

  test('withdrawals outlive the deposits they were made on', () => {
    const clock = manualClock();
    const budget = retryBudget({ ratio: 1, floorPerSecond: 0, clock });
    budget.deposit();
    clock.advance(9_000);
    expect(budget.tryWithdraw()).toBe(true);
    clock.advance(1_000); // the deposit has left, the withdrawal has not
    budget.deposit();
    expect(budget.tryWithdraw()).toBe(false);
    clock.advance(9_000);
    expect(budget.tryWithdraw()).toBe(true);
  });

  test('a clock that steps back stands still', () => {
    const clock = manualClock(50_000);
    const budget = retryBudget({ floorPerSecond: 1, clock });
    expect(withdrawAll(budget)).toBe(10);
    clock.jump(0);
    expect(budget.tryWithdraw()).toBe(false);
    clock.jump(50_000);
    expect(budget.tryWithdraw()).toBe(false);
    clock.jump(60_000);
    expect(budget.balance).toBe(10);
  });

  test('no amplification: retries ≤ requests × ratio + floor, in every window', () => {
    const step = fc.record({ gapMs: fc.nat(1500), requests: fc.nat(20), wanted: fc.nat(20) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), fc.constantFrom(0, 0.1, 0.2, 1), (steps, ratio) => {
        const clock = manualClock();
        const budget = retryBudget({ ratio, floorPerSecond: 0.5, windowMs: 10_000, clock });
        const log: { bucket: number; requests: number; retries: number }[] = [];
        for (const { gapMs, requests, wanted } of steps) {
          clock.advance(gapMs);
          for (let i = 0; i < requests; i++) budget.deposit();
          let retries = 0;
          while (retries < wanted && budget.tryWithdraw()) retries++;
          log.push({ bucket: Math.floor(clock.now() / 1000), requests, retries });
          if (retries === 0) continue;
          const live = log.filter(({ bucket }) => bucket > log.at(-1)!.bucket - 10);
          const sum = (key: 'requests' | 'retries'): number => live.reduce((n, entry) => n + entry[key], 0);
          expect(sum('retries')).toBeLessThanOrEqual(sum('requests') * ratio + 5 + 1e-9);
        }
      }),
    );
  });

  test.each([
    ['ratio', { ratio: -0.1 }],
    ['ratio', { ratio: Number.NaN }],
    ['floorPerSecond', { floorPerSecond: -1 }],
    ['floorPerSecond', { floorPerSecond: Number.POSITIVE_INFINITY }],
    ['windowMs', { windowMs: 0 }],
  ])('a bad %s is named: %o', (option, options) => {
    expect(() => retryBudget(options)).toThrow(expect.objectContaining({ code: 'PACELINE_CONFIG', option }));
  });
});
