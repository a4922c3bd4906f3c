import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { retryAfterOf } from '../../src/headers/retry-after-of.ts';

const NOW = Date.UTC(2025, 0, 1, 12, 0, 0);
const YEAR = 365 * 86_400_000;
/** A server 100 s ahead of us. */
const AHEAD = 'Wed, 01 Jan 2025 12:01:40 GMT';

describe('retryAfterOf', () => {
  it.each<[string, Record<string, string | string[]>, number | undefined]>([
    // Retry-After, in every form
    ['delta seconds', { 'retry-after': '30' }, 30_000],
    ['an HTTP-date', { 'retry-after': 'Wed, 01 Jan 2025 12:00:45 GMT' }, 45_000],
    ['a duration', { 'retry-after': '30s' }, 30_000],
    ['a Go duration', { 'retry-after': '1m0s' }, 60_000],
    ['a fraction', { 'retry-after': '1.5' }, 1500],
    ['ISO 8601', { 'retry-after': '2025-01-01T12:00:30Z' }, 30_000],
    ['a date and a number in one', { 'retry-after': 'Wed, 01 Jan 2025 12:00:30 GMT, 45' }, 45_000],
    ['epoch seconds', { 'retry-after': String(NOW / 1000 + 90) }, 90_000],
    ['two fields of the name', { 'retry-after': ['30', '60'] }, 60_000],
    // the millisecond variants
    ['retry-after-ms', { 'retry-after-ms': '350' }, 350],
    ['x-ms-retry-after-ms', { 'x-ms-retry-after-ms': '1200' }, 1200],
    ['x-amz-retry-after', { 'x-amz-retry-after': '75.5' }, 76],
    ['milliseconds since the epoch', { 'retry-after-ms': String(NOW + 90) }, 90],
    ['milliseconds with a unit of their own', { 'retry-after-ms': '2s' }, 2000],
    ['two of them', { 'retry-after-ms': ['350', '400'] }, 400],
    ['both kinds: the longer', { 'retry-after': '1', 'retry-after-ms': '350' }, 1000],
    ['both kinds: the longer, the other way', { 'retry-after': '0', 'retry-after-ms': '350' }, 350],
    // skew
    [
      'a date, against the clock it was written by',
      { date: AHEAD, 'retry-after': 'Wed, 01 Jan 2025 12:02:10 GMT' },
      30_000,
    ],
    ['an epoch, against the clock it was written by', { date: AHEAD, 'retry-after': String(NOW / 1000 + 130) }, 30_000],
    ['seconds need no clock', { date: AHEAD, 'retry-after': '30' }, 30_000],
    ['a Date that is none', { date: 'yesterday', 'retry-after': 'Wed, 01 Jan 2025 12:00:45 GMT' }, 45_000],
    // nothing
    ['none', {}, undefined],
    ['negative', { 'retry-after': '-5', 'retry-after-ms': '-1' }, undefined],
    ['words', { 'retry-after': 'soon', 'retry-after-ms': 'later' }, undefined],
    ['empty', { 'retry-after': '', 'retry-after-ms': '' }, undefined],
    ['a novel', { 'retry-after-ms': '1'.repeat(5000) }, undefined],
  ])('%s', (_what, headers, ms) => {
    expect(retryAfterOf(headers, NOW)).toBe(ms);
    if (!Array.isArray(headers['retry-after'])) {
      const entries = Object.entries(headers).map(([name, value]): [string, string] => [name, String(value)]);
      expect(retryAfterOf(new Headers(entries), NOW)).toBe(ms);
    }
  });

  it('is capped, by a year when nothing else is said', () => {
    expect(retryAfterOf({ 'retry-after': '7200' }, NOW, 3_600_000)).toBe(3_600_000);
    expect(retryAfterOf({ 'retry-after-ms': '9'.repeat(11) }, NOW)).toBe(YEAR);
    for (const cap of [Number.NaN, -1, Infinity])
      expect(retryAfterOf({ 'retry-after': '9'.repeat(9) }, NOW, cap)).toBe(YEAR);
  });

  it('is undefined or a number in [0, cap], whatever a server sends', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string(),
      fc.integer().map(String),
      fc.double().map(String),
      fc.date({ noInvalidDate: true }).map((date) => date.toUTCString()),
      fc.date({ noInvalidDate: true }).map((date) => date.toISOString()),
      fc.constantFrom('1,'.repeat(2000), '9'.repeat(4096), '1e5', '0x10', `${'1'.repeat(300)}.${'1'.repeat(300)}`),
    );
    const names = ['retry-after', 'retry-after-ms', 'x-ms-retry-after-ms', 'x-amz-retry-after', 'date'];
    const headersOf = fc.dictionary(fc.constantFrom(...names), fc.oneof(text, fc.array(text, { maxLength: 3 })));
    fc.assert(
      fc.property(
        headersOf,
        fc.oneof(fc.integer(), fc.double()),
        fc.integer({ min: 0, max: YEAR }),
        (headers, nowMs, capMs) => {
          const ms = retryAfterOf(headers, nowMs, capMs);
          if (ms === undefined) return;
          expect(ms).toBeGreaterThanOrEqual(0);
          expect(ms).toBeLessThanOrEqual(capMs);
        },
      ),
      { numRuns: 3000 },
    );
  });
});
