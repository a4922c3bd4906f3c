import { parseDate, parseDuration } from './time.ts';

/** A longer value is no Retry-After. It bounds the work that a server can cause. */
const LONGEST_VALUE = 256;

/** Nobody means longer than a year: the cap on what comes out, in milliseconds. */
const LONGEST_MS = 365 * 24 * 60 * 60 * 1000;

/** From here on a bare number cannot be seconds from now (54 years); it is seconds since the Unix epoch… */
const EPOCH_SECONDS = 1.7e9;
/** …and from here on milliseconds. */
const EPOCH_MS = 1e12;

/** In lists, the comma after one of these belongs to a date. */
const DAY_NAME = /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day)$/i;

/**
 * How long a Retry-After header asks to wait: whole milliseconds from `nowMs` on (Unix epoch, `clock.wallNow()`), rounded
 * up, in [0, one year]. Undefined when it says nothing usable. Never throws, whatever the server sent.
 *
 * Understood are the two forms of RFC 9110 (10.2.3) and those seen besides:
 * - `120`, `1.5`: seconds. From 1.7e9 on seconds since the epoch, from 1e12 on milliseconds since the epoch.
 * - `Sun, 06 Nov 1994 08:49:37 GMT` and the two obsolete forms of HTTP-date; `2025-01-01T00:00:00Z`, with a zone. A date in the past is 0.
 * - `30s`, `1m0s`, `12ms`, `PT30S`: durations with units.
 * - A list of these, as two headers of the same name become one (`Sun, 06 Nov 1994 08:49:37 GMT, 45`): the longest. Too late
 *   is a lesser fault than too early. One member that is none of these spoils it: `January 1, 2026` is no 2026 seconds.
 *
 * Negative numbers, dates without a zone and everything else are undefined.
 *
 * @example
 * parseRetryAfter(response.headers.get('retry-after'), Date.now()); // '30' → 30000
 */
export function parseRetryAfter(value: string | null | undefined, nowMs: number): number | undefined {
  if (typeof value !== 'string' || value.length > LONGEST_VALUE) return undefined;
  const text = value.trim();
  if (!text.includes(',')) return parseMember(text, nowMs);

  let longest: number | undefined;
  let dayName = '';
  for (const part of text.split(',')) {
    const member = part.trim();
    if (DAY_NAME.test(member)) {
      if (dayName !== '') return undefined;
      dayName = `${member}, `;
      continue;
    }
    if (member === '' && dayName === '') continue; // RFC 9110, 5.6.1.2: empty members do not count
    const ms = parseMember(dayName + member, nowMs);
    dayName = '';
    if (ms === undefined) return undefined;
    longest = Math.max(longest ?? 0, ms);
  }
  return dayName === '' ? longest : undefined;
}

function parseMember(text: string, nowMs: number): number | undefined {
  let ms: number | undefined;
  if (/^\d+(?:\.\d+)?$/.test(text)) {
    const number = Number(text);
    if (number >= EPOCH_MS) ms = number - nowMs;
    else ms = number >= EPOCH_SECONDS ? number * 1000 - nowMs : number * 1000;
  } else {
    ms = parseDuration(text);
    const date = ms === undefined ? parseDate(text, nowMs) : undefined;
    if (date !== undefined) ms = date - nowMs;
  }
  if (ms === undefined || Number.isNaN(ms)) return undefined;
  // 1.1 × 1000 is 1100.0000000000002, which must not become 1101.
  return Math.ceil(Math.min(Math.max(ms - 1e-6, 0), LONGEST_MS));
}
