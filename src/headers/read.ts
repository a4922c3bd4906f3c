import { parseDate } from './time.ts';

/** Header fields of a response: `Headers` or anything with its `get`, or a plain record with lower-case names, as undici and `node:http` give it. */
export type HeaderSource =
  | { get(name: string): string | null | undefined }
  | Readonly<Record<string, string | readonly string[] | undefined>>;

/** No field that is read here is meant to be longer, in characters. It bounds the work that a server can cause. */
const LONGEST_FIELD = 4096;

/** No form of a date is longer. */
const LONGEST_DATE = 64;

/**
 * The value of a header field, several of one name joined as RFC 9110 (5.3) says; undefined when there is none, or one of
 * more than 4,096 characters. `name` in lower case.
 *
 * @example
 * headerOf({ 'retry-after': ['30', '60'] }, 'retry-after'); // '30, 60'
 */
export function headerOf(headers: HeaderSource, name: string): string | undefined {
  let value: unknown;
  if (typeof headers.get === 'function') value = headers.get(name);
  else value = (headers as Readonly<Record<string, unknown>>)[name];
  if (Array.isArray(value)) value = value.filter((part) => typeof part === 'string').join(', ');
  return typeof value === 'string' && value.length <= LONGEST_FIELD ? value : undefined;
}

/**
 * The time on the sender's clock, in milliseconds since the Unix epoch: its `Date` where it sent one, else `nowMs`.
 * What it says in absolute times is measured from there, so that neither clock has to be right. `Date` is cut to the second:
 * a wait comes out up to a second too long, never too short.
 */
export function serverNowMs(headers: HeaderSource, nowMs: number): number {
  const date = headerOf(headers, 'date');
  if (date === undefined || date.length > LONGEST_DATE) return nowMs;
  return parseDate(date.trim(), nowMs) ?? nowMs;
}

/** Nobody means longer than a year: the cap on every wait that is read from a header, in milliseconds. */
export const LONGEST_WAIT_MS: number = 365 * 24 * 60 * 60 * 1000;

/** A wait in [0, capMs]; a cap that is no cap is the longest wait. */
export function capWait(ms: number, capMs: number): number {
  const cap = capMs >= 0 ? Math.min(capMs, LONGEST_WAIT_MS) : LONGEST_WAIT_MS;
  return Math.min(Math.max(ms, 0), cap);
}
