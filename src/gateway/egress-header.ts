import { isIP } from 'node:net';
import { egressKey, isIPv4 } from '../egress-key.ts';

/** A longer value is none of these, in characters. It bounds the work that a gateway can cause. */
const LONGEST_VALUE = 256;

/** What is written where nothing is known, unspecified addresses included. An exit called `unknown` would be everybody's. */
const NOBODY = /^(?:[-?]|unknown|none|null|nil|undefined|n\/a|(?:0\.0\.0\.0|::|\[::\])(?::\d{1,5})?)$/i;

/** `IP=1.2.3.4`, `ip:1.2.3.4`, `http://1.2.3.4`. */
const NAME = /^[A-Za-z][\w.-]{0,63}(?:=|:(?:\/\/)?)/;

/**
 * The key of the exit that a gateway names in a header of its CONNECT answer; undefined when it names none. Pure; never throws.
 *
 * - One address, whatever is around it: `1.2.3.4`, `1.2.3.4:8080`, `"1.2.3.4"`, `IP=1.2.3.4`, `[2001:db8::1]:443`, `1.2.3.4; country=US`, and the
 *   same one several times → its {@link egressKey}.
 * - Several different ones (`1.2.3.4, 5.6.7.8`, or the header twice) → undefined. Which of them the target sees nobody says: header fields grow at
 *   their end on the way back, so that the exit would be the first; those who copy `X-Forwarded-For` have it last. A wrong guess would have one exit under
 *   many names, or many under one, and call it known.
 * - No address: an opaque id, as some providers send, stays as it is. It is one word of printable ASCII; `unknown` and the like are none.
 *
 * @param value The field's value, or its values; more than 256 characters in all are not looked at.
 *
 * @example
 * egressOfHeader('IP="192.0.2.1:8080"'); // '192.0.2.1'
 */
export function egressOfHeader(value: string | readonly string[] | undefined): string | undefined {
  if (value === undefined) return undefined;
  const text = typeof value === 'string' ? value : joined(value);
  if (text.length > LONGEST_VALUE) return undefined;
  if (isIPv4(text) && text !== '0.0.0.0') return text;
  const words = text.split(/[\s,;|]+/);
  const addresses = new Set<string>();
  for (const word of words) {
    const key = addressIn(word);
    if (key !== undefined) addresses.add(key);
  }
  if (addresses.size > 0) return only(addresses);
  const ids = text.split(',').map((part) => bare(part.trim()));
  const id = only(new Set(ids.filter((one) => one !== '' && !isNobody(one))), isId);
  // An address may have a zone with signs in it that set addresses apart.
  return id === undefined || egressKey(id) === id ? id : keyOf(id);
}

/** Several fields of one name, as one (RFC 9110, 5.3). */
function joined(values: readonly string[]): string {
  return values.filter((part) => typeof part === 'string').join(', ');
}

function only(found: ReadonlySet<string>, check: (one: string) => boolean = () => true): string | undefined {
  const [one] = found;
  return found.size === 1 && check(one) ? one : undefined;
}

/** Key of the address that a word is, decoration apart. */
function addressIn(word: string): string | undefined {
  const text = bare(word);
  return keyOf(text) ?? keyOf(bare(text.replace(NAME, '')));
}

function keyOf(text: string): string | undefined {
  // An address written as the range of its own, or as a URL; an IPv4 one in the brackets of IPv6.
  const address = text.replace(/\/(?:32|64|128)?$/, '').replace(/^\[([\d.]+)\]/, '$1');
  if (NOBODY.test(address)) return undefined;
  const key = egressKey(address);
  return isIPv4(key) || (key.endsWith('/64') && isIP(key.slice(0, -3)) === 6) ? key : undefined;
}

/** Without quotes, parentheses or angle brackets around it. Square ones belong to IPv6, and egressKey knows them. */
function bare(text: string): string {
  return text.replace(/^["'`(<]+/, '').replace(/["'`)>]+$/, '');
}

function isNobody(text: string): boolean {
  return NOBODY.test(text) || NOBODY.test(bare(text.replace(NAME, '')));
}

function isId(text: string): boolean {
  return /^[\x21-\x7e]+$/.test(text);
}
