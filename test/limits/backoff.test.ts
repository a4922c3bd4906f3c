import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Backoff, decorrelatedJitter, equalJitter, fullJitter } from '../../src/limits/backoff.ts';

const jitters: [string, typeof fullJitter][] = [
  ['fullJitter', fullJitter],
  ['equalJitter', equalJitter],
  ['decorrelatedJitter', decorrelatedJitter],
];
const NEARLY_1 = 1 - 2 ** -53;

test.each([
  // [jitter, random, attempt, previous, expected], base 100, cap 2000
  [fullJitter, 0, 0, undefined, 0],
  [fullJitter, 0.5, 0, undefined, 50],
  [fullJitter, 0.5, 3, undefined, 400],
  [fullJitter, 0.5, 30, undefined, 1000],
  [equalJitter, 0, 0, undefined, 50],
  [equalJitter, 0.5, 0, undefined, 75],
  [equalJitter, 0, 3, undefined, 400],
  [equalJitter, 0, 5000, undefined, 1000],
  [decorrelatedJitter, 0, 0, undefined, 100],
  [decorrelatedJitter, 0.5, 0, undefined, 200],
  [decorrelatedJitter, 0.5, 1, 200, 350],
  [decorrelatedJitter, 0.5, 1, 5, 200], // under base: as from base
  [decorrelatedJitter, 0.9, 9, 2000, 2000],
  [decorrelatedJitter, 0.5, 1, Number.NaN, 200],
  [decorrelatedJitter, 0.5, 1, Number.POSITIVE_INFINITY, 2000],
  [fullJitter, 0.5, -3, undefined, 50],
  [fullJitter, 0.5, Number.NaN, undefined, 50],
  [fullJitter, 0.5, Number.POSITIVE_INFINITY, undefined, 1000],
])('%o with random %d, attempt %d, previous %s', (jitter, random, attempt, previous, expected) => {
  expect(jitter({ baseMs: 100, capMs: 2000, random: () => random })(attempt, previous)).toBeCloseTo(expected, 9);
});

test('the defaults are 1 s and 60 s', () => {
  expect(fullJitter({ random: () => 0.5 })(0)).toBe(500);
  expect(fullJitter({ random: () => 0.5 })(99)).toBe(30_000);
});

describe.each(jitters)('%s', (name, jitter) => {
  test('is always finite and in its range', () => {
    const ms = fc.oneof(
      fc.constant(0),
      fc.double({ min: 0, max: 1e9, noNaN: true }),
      fc.constant(Number.MAX_VALUE / 4),
    );
    const random = fc.oneof(fc.constant(0), fc.constant(NEARLY_1), fc.double({ min: 0, max: NEARLY_1, noNaN: true }));
    fc.assert(
      fc.property(
        ms,
        ms,
        random,
        fc.oneof(fc.nat(), fc.double()),
        fc.option(fc.double(), { nil: undefined }),
        (baseMs, capMs, r, attempt, previous) => {
          const delay: Backoff = jitter({ baseMs, capMs, random: () => r });
          const delayMs = delay(attempt, previous);
          expect(delayMs).toBeGreaterThanOrEqual(0);
          expect(delayMs).toBeLessThanOrEqual(capMs);
          if (name === 'decorrelatedJitter') expect(delayMs).toBeGreaterThanOrEqual(Math.min(baseMs, capMs));
          if (name === 'equalJitter') expect(delayMs).toBeGreaterThanOrEqual(Math.min(baseMs, capMs) / 2);
        },
      ),
    );
  });

  test.each([
    ['baseMs', { baseMs: -1 }],
    ['baseMs', { baseMs: Number.NaN }],
    ['baseMs', { baseMs: '1' as unknown as number }],
    ['capMs', { capMs: Number.POSITIVE_INFINITY }],
    ['capMs', { capMs: -1 }],
  ])('a bad %s is named: %o', (option, options) => {
    expect(() => jitter(options)).toThrow(expect.objectContaining({ code: 'PACELINE_CONFIG', option }));
  });
});
