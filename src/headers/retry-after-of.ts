import { capWait, type HeaderSource, headerOf, LONGEST_WAIT_MS, serverNowMs } from './read.ts';
import { parseRetryAfter } from './retry-after.ts';

/** The same in milliseconds: OpenAI and Azure OpenAI, other Azure services, AWS. */
const IN_MS = ['retry-after-ms', 'x-ms-retry-after-ms', 'x-amz-retry-after'] as const;

/** From here on a number is no wait (31 years) but milliseconds since the Unix epoch. */
const EPOCH_MS = 1e12;

/** More of one name are not looked at. */
const MOST_MEMBERS = 8;

/**
 * How long a response asks to wait, in milliseconds from now, in [0, `capMs`]; undefined when it asks for nothing that could be
 * understood. Read are `Retry-After` in every form that {@link parseRetryAfter} knows, and the millisecond variants `retry-after-ms`,
 * `x-ms-retry-after-ms` and `x-amz-retry-after`. Where several are given, the longest counts: too late is a lesser fault
 * than too early. Dates are measured from the response's own `Date`, so that no clock has to be right. Never throws.
 *
 * @param nowMs Milliseconds since the Unix epoch (`clock.wallNow()`); only counts for dates without a `Date`.
 * @param capMs The longest wait to believe, in milliseconds; a year when left out.
 *
 * @example
 * retryAfterOf(response.headers, Date.now(), 3_600_000); // retry-after: 30 → 30000
 */
export function retryAfterOf(
  headers: HeaderSource,
  nowMs: number,
  capMs: number = LONGEST_WAIT_MS,
): number | undefined {
  const plain = headerOf(headers, 'retry-after');
  let longest = plain === undefined ? undefined : parseRetryAfter(plain, serverNowMs(headers, nowMs));
  for (const name of IN_MS) {
    const value = headerOf(headers, name);
    if (value === undefined) continue;
    const ms = parseMs(value, serverNowMs(headers, nowMs));
    if (ms !== undefined) longest = Math.max(longest ?? 0, ms);
  }
  return longest === undefined ? undefined : capWait(longest, capMs);
}

/** The name says milliseconds; what has letters says its unit itself. */
function parseMs(value: string, serverNow: number): number | undefined {
  if (/[a-z]/i.test(value)) return parseRetryAfter(value, serverNow);
  let longest: number | undefined;
  for (const part of value.split(',', MOST_MEMBERS)) {
    const text = part.trim();
    if (!/^\d{1,32}(?:\.\d{1,32})?$/.test(text)) return undefined;
    const number = Number(text);
    const ms = number >= EPOCH_MS ? number - serverNow : number;
    if (Number.isNaN(ms)) return undefined;
    longest = Math.max(longest ?? 0, Math.ceil(ms));
  }
  return longest;
}
