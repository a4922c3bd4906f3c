import { count, invalid, knownOnly, nonNegative, positive, within } from './validate.ts';

/** How failed attempts are tried again. */
export interface RetryOptions {
  /** Attempts in all, the first included; an integer ≥ 1. @default 5 */
  readonly attempts?: number;
  /** Base of the full-jitter backoff, in milliseconds, ≥ 0. @default 1000 */
  readonly baseMs?: number;
  /** The longest backoff, in milliseconds. @default 60_000 */
  readonly capMs?: number;
  /**
   * Methods that may be sent twice. Others are tried again only when the target never saw them.
   * @default ['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE', 'QUERY']
   */
  readonly methods?: readonly string[];
  /** Extra sends allowed over all requests of this manager, as a share of them, 0 to 10; besides `floorPerSecond`. @default 0.2 */
  readonly ratio?: number;
  /** Extra sends a second allowed whatever the traffic, ≥ 0; saved up for ten seconds, so ten times as many at once. @default 10 */
  readonly floorPerSecond?: number;
  /** A Retry-After beyond this is not waited for: the response is handed over instead. Milliseconds. @default 300_000 */
  readonly maxRetryAfterMs?: number;
  /** No target is left alone for longer, whatever its Retry-After or its quota's reset says. Milliseconds. @default 86_400_000, a day */
  readonly retryAfterCapMs?: number;
}

/** Time limits, in milliseconds. */
export interface TimeoutOptions {
  /** To an open tunnel, the gateway's answer and the TLS handshake with the target included. @default 10_000 */
  readonly connectMs?: number;
  /** From the request to the response's headers; undici looks about twice a second. @default 30_000 */
  readonly headersMs?: number;
  /** Between two pieces of the body; undici looks about twice a second. @default 30_000 */
  readonly bodyMs?: number;
  /** For everything: waiting, all attempts and the body. @default none */
  readonly totalMs?: number;
  /** In the queue, an attempt. @default none */
  readonly queueMs?: number;
}

export type ResolvedRetry = Required<Omit<RetryOptions, 'methods'>> & { readonly methods: ReadonlySet<string> };

export interface ResolvedTimeouts {
  readonly connectMs: number;
  readonly headersMs: number;
  readonly bodyMs: number;
  readonly totalMs: number | undefined;
  readonly queueMs: number | undefined;
}

const KNOWN_RETRY = [
  'attempts',
  'baseMs',
  'capMs',
  'methods',
  'ratio',
  'floorPerSecond',
  'maxRetryAfterMs',
  'retryAfterCapMs',
];
const KNOWN_TIMEOUTS = ['connectMs', 'headersMs', 'bodyMs', 'totalMs', 'queueMs'];
const RETRY_METHODS = ['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE', 'QUERY'];
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** @throws {ConfigError} on a bad value. */
export function resolveRetry(retry: RetryOptions = {}): ResolvedRetry {
  knownOnly('retry', retry, KNOWN_RETRY);
  const baseMs = nonNegative('retry.baseMs', retry.baseMs ?? 1000, 'milliseconds');
  const capMs = nonNegative('retry.capMs', retry.capMs ?? 60_000, 'milliseconds');
  if (capMs < baseMs) throw invalid('retry.capMs', `milliseconds ≥ retry.baseMs (${baseMs})`, capMs);
  const methods = retry.methods ?? RETRY_METHODS;
  if (!Array.isArray(methods) || !methods.every((method) => typeof method === 'string' && TOKEN.test(method))) {
    throw invalid('retry.methods', 'an array of HTTP methods', methods);
  }
  return {
    attempts: count('retry.attempts', retry.attempts ?? 5),
    baseMs,
    capMs,
    methods: new Set(methods.map((method) => method.toUpperCase())),
    ratio: within('retry.ratio', retry.ratio ?? 0.2, 0, 10),
    floorPerSecond: nonNegative('retry.floorPerSecond', retry.floorPerSecond ?? 10),
    maxRetryAfterMs: nonNegative('retry.maxRetryAfterMs', retry.maxRetryAfterMs ?? 300_000, 'milliseconds'),
    retryAfterCapMs: positive('retry.retryAfterCapMs', retry.retryAfterCapMs ?? 86_400_000, 'milliseconds'),
  };
}

/** @throws {ConfigError} on a bad value. */
export function resolveTimeouts(timeouts: TimeoutOptions = {}): ResolvedTimeouts {
  knownOnly('timeouts', timeouts, KNOWN_TIMEOUTS);
  const ms = (name: keyof TimeoutOptions, standard: number): number =>
    Math.ceil(positive(`timeouts.${name}`, timeouts[name] ?? standard, 'milliseconds'));
  return {
    connectMs: ms('connectMs', 10_000),
    headersMs: ms('headersMs', 30_000),
    bodyMs: ms('bodyMs', 30_000),
    totalMs: timeouts.totalMs === undefined ? undefined : ms('totalMs', 0),
    queueMs: timeouts.queueMs === undefined ? undefined : ms('queueMs', 0),
  };
}

/** Default headers, names in lower case. @throws {ConfigError} on a bad one. */
export function resolveHeaders(headers: Readonly<Record<string, string>> = {}): [string, string][] {
  // Headers, a Map or a list of pairs have no keys: their content would be lost without a word.
  if (typeof headers !== 'object' || headers === null || Symbol.iterator in headers) {
    throw invalid('headers', 'an object of names and values', headers);
  }
  return Object.entries(headers).map(([name, value]) => {
    if (!TOKEN.test(name)) throw invalid('headers', 'valid header names', name);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the very thing to be kept out
    if (typeof value !== 'string' || /[\u0000-\u0008\u000a-\u001f\u007f]|[^\u0000-\u00ff]/.test(value)) {
      throw invalid(
        `headers.${name}`,
        'a string of Latin-1 without control characters',
        typeof value === 'string' ? '…' : value,
      );
    }
    return [name.toLowerCase(), value];
  });
}
