import type { Dispatcher } from 'undici';
import type { Call } from '../call.ts';
import type { ResolvedDedupe } from './options.ts';

export type PlainHeaders = Record<string, string | string[]>;

/** The answer belongs to whoever sent these, or the caller keeps a cache of its own. */
const OWN_HEADERS = [
  ...['authorization', 'cookie', 'proxy-authorization', 'range'],
  ...['if-match', 'if-none-match', 'if-modified-since', 'if-unmodified-since', 'if-range'],
];

/** Headers by lower-case name, whatever shape they came in; `undefined` when undici has to say what is wrong with them. */
export function plainHeaders(headers: Dispatcher.DispatchOptions['headers'] | null): PlainHeaders | undefined {
  const plain: PlainHeaders = Object.create(null);
  if (headers === undefined || headers === null) return plain;
  for (const [name, value] of pairsOf(headers)) {
    const values = Array.isArray(value) ? value : [value];
    if (typeof name !== 'string' || !values.every((one) => typeof one === 'string')) return undefined;
    const key = name.toLowerCase();
    const before = plain[key];
    plain[key] = before === undefined ? value : ([] as string[]).concat(before, value);
  }
  return plain;
}

function pairsOf(headers: NonNullable<Dispatcher.DispatchOptions['headers']>): Iterable<[string, string | string[]]> {
  if (typeof headers !== 'object') return [[undefined as never, '']];
  if (Array.isArray(headers)) {
    if (Array.isArray(headers[0])) return headers as never;
    // Names and values in turn.
    return headers.flatMap((name, i) => (i % 2 === 0 ? [[name, headers[i + 1]] as [string, string]] : []));
  }
  return Symbol.iterator in headers ? (headers as never) : (Object.entries(headers) as never);
}

export function isOwn(headers: PlainHeaders): boolean {
  return OWN_HEADERS.some((name) => name in headers);
}

/** The caller wants an answer of its own: fetch's `cache: 'no-store'`, 'reload' and 'no-cache' say it with these. */
function wantsFresh(headers: PlainHeaders): boolean {
  const asked = `${headers['cache-control'] ?? ''},${headers.pragma ?? ''}`;
  return /no-cache|no-store|max-age=0/i.test(asked);
}

/** What two requests must have in common to be sent as one; `undefined` for a request that is sent on its own. */
export function joinKey(
  dedupe: ResolvedDedupe,
  { pace, pin, refusedBy }: Call,
  options: Dispatcher.DispatchOptions,
  headers: PlainHeaders,
): string | undefined {
  const { method, origin, path, query, headersTimeout, bodyTimeout } = options;
  if (!dedupe.methods.includes(method as never)) return undefined;
  // What one of them finds too long a wait must not fail the others.
  if (pace.maxWaitMs !== undefined || wantsFresh(headers)) return undefined;
  const said: [string, string | string[]][] = [];
  for (const name of Object.keys(headers).sort()) {
    if (dedupe.skipped.has(name)) return undefined;
    if (!dedupe.excluded.has(name)) said.push([name, headers[name]]);
  }
  // A hop of a redirect stays where its first one left from: only those that came the same way are equal.
  const paced = [
    pace.tier,
    pace.priority ?? 0,
    pace.cost ?? 1,
    pace.inspectBody,
    refusedBy?.name,
    pin?.id,
    headersTimeout,
    bodyTimeout,
  ];
  return JSON.stringify([method, String(origin), path, query, said, paced]);
}
