import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseRetryAfter } from '../../src/headers/retry-after.ts';
import { parseDate, parseDuration } from '../../src/headers/time.ts';

const NOW = Date.UTC(2025, 0, 1, 12, 0, 0);
const YEAR = 365 * 86_400_000;

const table: [string | null | undefined, number | undefined][] = [
  // seconds
  ['120', 120_000],
  ['0', 0],
  ['1.5', 1500],
  ['1.1', 1100],
  ['0.0001', 1],
  [' 30 ', 30_000],
  ['007', 7000],
  ['86400', 86_400_000],
  ['99999999', YEAR],
  // an epoch
  [String(NOW / 1000 + 90), 90_000],
  [String(NOW / 1000 - 90), 0],
  [String(NOW + 90), 90],
  ['9'.repeat(200), YEAR],
  // units
  ['30s', 30_000],
  ['1m0s', 60_000],
  ['6m0s', 360_000],
  ['1h2m3.5s', 3_723_500],
  ['12ms', 12],
  ['1s500ms', 1500],
  ['2h', 7_200_000],
  ['PT30S', 30_000],
  ['pt1m30.5s', 90_500],
  ['P1DT2H', 93_600_000],
  ['P2W', 14 * 86_400_000],
  ['P9999999W', YEAR],
  // RFC 9110
  ['Wed, 01 Jan 2025 12:00:45 GMT', 45_000],
  ['wed, 01 jan 2025 12:00:45 gmt', 45_000],
  ['Wednesday, 01-Jan-25 12:00:45 GMT', 45_000],
  ['Wed Jan  1 12:00:45 2025', 45_000],
  ['Fri Jan 10 12:00:00 2025', 9 * 86_400_000],
  ['Wed, 01 Jan 2025 12:00:60 GMT', 60_000],
  ['Sun, 06 Nov 1994 08:49:37 GMT', 0],
  ['Sunday, 06-Nov-94 08:49:37 GMT', 0],
  ['Wed, 01 Jan 2125 00:00:00 GMT', YEAR],
  // ISO 8601
  ['2025-01-01T12:00:30Z', 30_000],
  ['2025-01-01t12:00:30.250z', 30_250],
  ['2025-01-01 12:00:30+00:00', 30_000],
  ['2025-01-01T13:01:00+01:00', 60_000],
  ['2025-01-01T06:31:00-0530', 60_000],
  ['2025-01-01T12:05Z', 300_000],
  ['2024-01-01T00:00:00Z', 0],
  // lists: the longest
  ['Wed, 01 Jan 2025 12:00:30 GMT, 45', 45_000],
  ['Wed, 01 Jan 2025 12:01:30 GMT, 45', 90_000],
  ['45, Wed, 01 Jan 2025 12:01:30 GMT', 90_000],
  ['Wednesday, 01-Jan-25 12:00:45 GMT,Wed, 01 Jan 2025 12:00:50 GMT', 50_000],
  ['30, 60', 60_000],
  [', 60,', 60_000],
  // nothing
  [null, undefined],
  [undefined, undefined],
  ['', undefined],
  ['   ', undefined],
  [',', undefined],
  ['soon, 60', undefined],
  ['-5, 3', undefined],
  ['60, Wed', undefined],
  ['Wed, , 60', undefined],
  ['Wed, Wed, 01 Jan 2025 12:00:45 GMT', undefined],
  ['soon', undefined],
  ['-5', undefined],
  ['-0', undefined],
  ['+5', undefined],
  ['1e3', undefined],
  ['0x10', undefined],
  ['.5', undefined],
  ['5.', undefined],
  ['1 2', undefined],
  ['NaN', undefined],
  ['Infinity', undefined],
  ['s', undefined],
  ['1s1m', undefined],
  ['1sm', undefined],
  ['-30s', undefined],
  ['P', undefined],
  ['PT', undefined],
  ['P1DT', undefined],
  ['P1Y', undefined],
  ['P1M', undefined],
  ['-PT30S', undefined],
  ['Wed, 31 Feb 2025 12:00:45 GMT', undefined],
  ['Wed, 01 Jan 2025 24:00:00 GMT', undefined],
  ['Wed, 01 Jan 2025 12:60:00 GMT', undefined],
  ['Wed, 01 Jan 2025 12:00:45 PST', undefined],
  ['Wed, 01 Jan 2025 12:00:45', undefined],
  ['Wed, 1 Jan 2025 12:00:45 GMT', undefined],
  ['01 Jan 2025 12:00:45 GMT', undefined],
  ['2025-01-01T12:00:30', undefined], // of what place?
  ['2025-01-01', undefined],
  ['2025', 2_025_000], // seconds, and no year
  ['2025-13-01T12:00:30Z', undefined],
  ['2025-02-29T12:00:30Z', undefined],
  ['2025-01-01T12:00:30+99:00', undefined],
  ['January 1, 2026', undefined],
  ['Wed,', undefined],
  [`${' '.repeat(1000)}5`, undefined],
  ['1'.repeat(1_000_000), undefined],
];

describe('parseRetryAfter', () => {
  test.each(table)('%j → %j', (value, ms) => {
    expect(parseRetryAfter(value, NOW)).toBe(ms);
  });

  test('never throws, whatever comes: undefined, or whole milliseconds from 0 to a year', () => {
    const piece = fc.constantFrom(
      '1',
      '0',
      '.',
      '-',
      ',',
      ' ',
      's',
      'm',
      'h',
      'ms',
      'P',
      'T',
      'Wed, ',
      '01 Jan 2025 ',
      '12:00:45',
      ' GMT',
      'Z',
      '+',
      ':',
    );
    const value = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(piece, { maxLength: 40 }).map((p) => p.join('')),
      fc.double().map(String),
      fc.date({ noInvalidDate: false }).map(String),
      fc.date({ noInvalidDate: true }).map((d) => d.toISOString()),
      fc.constantFrom(...table.map(([v]) => v)),
    );
    fc.assert(
      fc.property(value, fc.oneof(fc.constant(NOW), fc.double()), (v, now) => {
        const ms = parseRetryAfter(v, now);
        if (ms === undefined) return;
        expect(Number.isSafeInteger(ms) && ms >= 0 && ms <= YEAR && !Object.is(ms, -0)).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });

  test('without a time only dates mean nothing', () => {
    expect(parseRetryAfter('5', Number.NaN)).toBe(5000);
    expect(parseRetryAfter('Wed, 01 Jan 2025 12:00:45 GMT', Number.NaN)).toBeUndefined();
    expect(parseRetryAfter('Wednesday, 01-Jan-25 12:00:45 GMT', Number.NaN)).toBeUndefined();
    expect(parseRetryAfter('Wed, 01 Jan 2025 12:00:45 GMT', Number.POSITIVE_INFINITY)).toBe(0);
  });

  test('what is not a string is nothing', () => {
    for (const value of [5, {}, [], true]) expect(parseRetryAfter(value as unknown as string, NOW)).toBeUndefined();
  });

  test('a date that toUTCString wrote comes back', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: YEAR / 1000 }), (seconds) => {
        const date = new Date(NOW + seconds * 1000);
        expect(parseRetryAfter(date.toUTCString(), NOW)).toBe(seconds * 1000);
        expect(parseRetryAfter(date.toISOString(), NOW)).toBe(seconds * 1000);
      }),
    );
  });

  test('hostile input ends: a pattern that backtracked exponentially would not', () => {
    for (const piece of ['1', '1h', '1m', '1.', '1s', 'Wed,', ' ', 'P1', ',', 'T1', '1D']) {
      for (const [head, tail] of [
        ['', ''],
        ['P', '!'],
        ['1', 'x'],
        ['PT', 'h!'],
      ]) {
        const value = `${head}${piece.repeat(250 / piece.length)}${tail}`;
        for (const parse of [parseRetryAfter, parseDate]) parse(value, NOW);
        parseDuration(value);
      }
    }
  });
});

test('two-digit years lie at most 50 years ahead', () => {
  const year = (text: string): number => new Date(parseDate(text, NOW)!).getUTCFullYear();
  expect(year('Tuesday, 01-Jan-75 00:00:00 GMT')).toBe(2075);
  expect(year('Thursday, 01-Jan-76 00:00:00 GMT')).toBe(1976);
  expect(year('Monday, 01-Jan-00 00:00:00 GMT')).toBe(2000);
});

test.each([
  ['1m', 60_000],
  ['1ms', 1],
  ['1m1ms', 60_001],
  ['5', undefined],
  ['', undefined],
])('parseDuration(%j)', (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});
