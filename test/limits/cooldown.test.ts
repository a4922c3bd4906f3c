import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cooldowns, noteLimited, wideningState } from '../../src/limits/cooldown.ts';
import { manualClock } from '../support/manual-clock.ts';

describe('cooldowns', () => {
  test('a refused egress rests for as long as it was told, the others do not', () => {
    const clock = manualClock(5);
    const pauses = cooldowns({ clock });
    expect(pauses.limited('a', 10_000)).toBe(false);
    expect(pauses.limited('b')).toBe(false);
    expect([pauses.waitMs('a'), pauses.waitMs('b'), pauses.waitMs('c'), pauses.waitMs()]).toEqual([
      10_000, 60_000, 0, 0,
    ]);
    clock.advance(9999.5);
    expect(pauses.waitMs('a')).toBe(1);
    clock.advance(0.5);
    expect(pauses.waitMs('a')).toBe(0);
  });

  test('a shorter pause never cuts a longer one short', () => {
    const pauses = cooldowns({ clock: manualClock() });
    pauses.limited('a', 10_000);
    pauses.limited('a', 10);
    expect(pauses.waitMs('a')).toBe(10_000);
  });

  test.each([
    // [who was refused, when, widened?]
    [
      'three within a window',
      [
        ['a', 0],
        ['b', 100],
        ['c', 59_999],
      ],
      true,
    ],
    [
      'two',
      [
        ['a', 0],
        ['b', 100],
      ],
      false,
    ],
    [
      'one, three times',
      [
        ['a', 0],
        ['a', 1],
        ['a', 2],
      ],
      false,
    ],
    [
      'three over a window',
      [
        ['a', 0],
        ['b', 100],
        ['c', 60_000],
      ],
      false,
    ],
    [
      'two, one of them again, then a third',
      [
        ['a', 0],
        ['b', 50_000],
        ['a', 70_000],
        ['c', 80_000],
      ],
      true,
    ],
    [
      'two, then two much later',
      [
        ['a', 0],
        ['b', 1],
        ['c', 90_000],
        ['d', 90_001],
      ],
      false,
    ],
    [
      'two, then three later',
      [
        ['a', 0],
        ['b', 1],
        ['c', 90_000],
        ['d', 90_001],
        ['a', 90_002],
      ],
      true,
    ],
  ] as [string, [string, number][], boolean][])('%s: widened %s', (_name, refusals, widened) => {
    const clock = manualClock();
    const pauses = cooldowns({ clock });
    let last = false;
    for (const [egress, at] of refusals) {
      clock.jump(at);
      last = pauses.limited(egress, 5000);
    }
    expect(last).toBe(widened);
    expect(pauses.waitMs('new')).toBe(widened ? 5000 : 0);
  });

  test('once widened everybody waits for the latest of those told, and later refusals extend it', () => {
    const clock = manualClock();
    const pauses = cooldowns({ clock });
    pauses.limited('a', 120_000);
    clock.advance(1000);
    pauses.limited('b', 10);
    expect(pauses.limited('c', 500)).toBe(true);
    expect(pauses.waitMs()).toBe(119_000);
    expect(pauses.limited('d', 1000)).toBe(false); // no longer than what is known
    expect(pauses.limited('d', 200_000)).toBe(true);
    expect(pauses.waitMs('e')).toBe(200_000);
  });

  test('what an egress was told that is not one of the three does not count', () => {
    const clock = manualClock();
    const pauses = cooldowns({ clock });
    pauses.limited('a', 1_000_000);
    clock.advance(60_000);
    for (const egress of ['b', 'c', 'd']) pauses.limited(egress, 1000);
    expect([pauses.waitMs(), pauses.waitMs('a')]).toEqual([1000, 940_000]);
  });

  test('in the scope of an account the first refusal is everybody’s', () => {
    const clock = manualClock();
    const pauses = cooldowns({ scope: 'account', clock });
    expect(pauses.limited('a', 3000)).toBe(true);
    expect(pauses.waitMs('b')).toBe(3000);
    expect(pauses.limited('b', 1000)).toBe(false);
    expect(pauses.waitMs()).toBe(3000);
  });

  test.each([1, 2, 5])('the number of egresses that widen is an option: %i', (egresses) => {
    const pauses = cooldowns({ egresses, clock: manualClock() });
    for (let i = 1; i < egresses; i++) expect(pauses.limited(`e${i}`, 100)).toBe(false);
    expect(pauses.limited('last', 100)).toBe(true);
  });

  test('no pause is longer than maxMs', () => {
    const pauses = cooldowns({ maxMs: 1000, clock: manualClock() });
    pauses.limited('a', 1e12);
    expect(pauses.waitMs('a')).toBe(1000);
  });

  test('no egress, and none after widening, is free before its time (P2), and none later than the worst case', () => {
    const refusal = fc.record({ egress: fc.nat(6), gapMs: fc.nat(40_000), forMs: fc.nat(100_000) });
    fc.assert(
      fc.property(fc.array(refusal, { maxLength: 60 }), (refusals) => {
        const clock = manualClock();
        const pauses = cooldowns({ clock });
        const told: { egress: number; at: number; until: number }[] = [];
        let wideUntil = 0;
        for (const { egress, gapMs, forMs } of refusals) {
          clock.advance(gapMs);
          const now = clock.now();
          told.push({ egress, at: now, until: now + forMs });
          pauses.limited(String(egress), forMs);
          const recent = told.filter(({ at }) => at > now - 60_000);
          if (new Set(recent.map((t) => t.egress)).size >= 3) wideUntil = Math.max(wideUntil, now + forMs);
          for (let other = 0; other < 8; other++) {
            const own = Math.max(now, ...told.filter((t) => t.egress === other).map((t) => t.until));
            const waitMs = pauses.waitMs(String(other));
            expect(waitMs).toBeGreaterThanOrEqual(Math.max(own, wideUntil) - now);
            expect(waitMs).toBeLessThanOrEqual(Math.max(now, ...told.map((t) => t.until)) - now);
          }
        }
      }),
    );
  });

  test.each([
    ['windowMs', { windowMs: 0 }],
    ['egresses', { egresses: 0 }],
    ['maxMs', { maxMs: Number.POSITIVE_INFINITY }],
    ['scope', { scope: 'pool' as 'ip' }],
  ])('a bad %s is named: %o', (option, options) => {
    expect(() => cooldowns(options)).toThrow(expect.objectContaining({ code: 'PACELINE_CONFIG', option }));
  });

  test.each([-1, Number.NaN, Number.POSITIVE_INFINITY])('a bad forMs is named: %s', (forMs) => {
    expect(() => cooldowns().limited('a', forMs)).toThrow(expect.objectContaining({ option: 'forMs' }));
  });
});

test('the core works on entries of a table, 0 included', () => {
  const state = wideningState<number>(3);
  const policy = { egresses: 3, windowMs: 1000, scope: 'ip' } as const;
  expect([2, 0, 0, 2, 1].map((entry) => noteLimited(state, policy, entry, 500, 0))).toEqual([
    ...[false, false, false, false, true],
  ]);
  expect(state.targetUntil).toBe(500);
  expect(state.keys).toHaveLength(3);
});
