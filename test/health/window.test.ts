import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isUnhealthy, MAX_WINDOW, recordOutcome, sampleCount, successShare } from '../../src/health/window.ts';

const after = (outcomes: readonly boolean[], window?: number): number =>
  outcomes.reduce((word, ok) => recordOutcome(word, ok, window), 0);
const times = (n: number, ok: boolean): boolean[] => Array<boolean>(n).fill(ok);

test('agrees with a list of the last outcomes, for every window', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: MAX_WINDOW }),
      fc.array(fc.boolean(), { maxLength: 80 }),
      (window, outcomes) => {
        const word = after(outcomes, window);
        const last = outcomes.slice(-window);
        expect(sampleCount(word)).toBe(last.length);
        expect(successShare(word)).toBe(last.length === 0 ? 1 : last.filter(Boolean).length / last.length);
        expect(Number.isSafeInteger(word) && word >= 0 && word < 2 ** 31).toBe(true);
      },
    ),
  );
});

test.each([
  // [outcomes, unhealthy by the defaults: under 40 % of the last 20, at least 10]
  [[], false],
  [times(9, false), false],
  [times(10, false), true],
  [[...times(6, false), ...times(4, true)], false],
  [[...times(7, false), ...times(3, true)], true],
  [[...times(12, false), ...times(8, true)], false],
  [[...times(13, false), ...times(7, true)], true],
  [[...times(500, false), ...times(8, true)], false],
  [[...times(500, true), ...times(12, false)], false],
  [[...times(500, true), ...times(13, false)], true],
])('case %#', (outcomes, unhealthy) => {
  expect(isUnhealthy(after(outcomes), 10, 0.4)).toBe(unhealthy);
});

test('a word survives a Uint32Array and an Int32Array', () => {
  const word = after(times(30, true), MAX_WINDOW);
  expect(new Uint32Array([word])[0]).toBe(word);
  expect(new Int32Array([word])[0]).toBe(word);
});
