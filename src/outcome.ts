import { BODY_LOOK, CHALLENGE_HEADERS, isChallengeUrl, strongInBody, weakInBody, wordsLimit } from './block-signals.ts';
import { parseRateLimit } from './headers/rate-limit.ts';
import { headerOf } from './headers/read.ts';
import type { Outcome } from './store/store.ts';
import { invalid } from './validate.ts';

/** What came back from a target, as far as a verdict needs it. */
export interface ResponseFacts {
  /** What the response is for: after redirects, the last address. */
  readonly url: string;
  /** What was asked for first, where that was another address. */
  readonly requestedUrl?: string | undefined;
  readonly method: string;
  readonly status: number;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** The body's beginning, decoded, where it was looked at ({@link needsBody}); what is past the first 8,192 characters is not. */
  readonly body?: string | undefined;
  /** The body goes on after that, or may; without it, one of fewer characters is taken for the whole. @default false */
  readonly bodyCut?: boolean | undefined;
}

/** The caller's own verdict on a response; `undefined` leaves it to the built-in one. */
export type Classify = (exchange: ResponseFacts) => Outcome | undefined;

/** All there are. */
export const OUTCOMES: ReadonlySet<unknown> = new Set<Outcome>([
  'ok',
  'rate-limited',
  'blocked',
  'challenged',
  'target-error',
  'gateway-error',
  'network-error',
  'ignored',
]);

/** With these a weak word in the body counts. Not 401, 404 or 407, nor the target's own troubles: those have reasons of their own. */
const REFUSALS: ReadonlySet<number> = new Set([400, 403, 405, 406, 418, 429, 503]);

/** Here the body is read unasked. 401: some guards (DataDome) send their page with it. */
const LOOKED_AT: ReadonlySet<number> = new Set([...REFUSALS, 401]);

/** 520 to 527 and 530 are Cloudflare's words for an origin in trouble. */
const TROUBLES: ReadonlySet<number> = new Set([500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 530]);

/** A page under this is short, in bytes. */
const SHORT_PAGE = 10_240;

/**
 * Names what a response means for the pacing. Pure; never throws, whatever the server sent.
 *
 * In this order: what says it alone (`cf-mitigated`, `x-amzn-waf-action`, `x-vercel-mitigated`, the address of a challenge, also as the aim of a
 * redirect) is `challenged`. A 403, 429 or 503 with quota headers (nothing remaining, or `Retry-After` beside them) is
 * `rate-limited`. Then what the body says, where there is one: strong signals for themselves, weak ones only with an error status or on a
 * page under 10 KB. Then the status: 429 `rate-limited`, 403 `blocked`, 500, 502, 503, 504 and 52x `target-error`. Everything else is `ok` as far as
 * pacing goes, 401, 404 and 407 included. That a guard is present is no block.
 *
 * @example
 * classifyOutcome({ url, method: 'GET', status: 429, headers: {} }); // 'rate-limited'
 */
export function classifyOutcome(exchange: ResponseFacts): Outcome {
  return byHeaders(exchange) ?? byBody(exchange) ?? byStatus(exchange.status);
}

/**
 * Whether the beginning of the body (8 KB, decoded) could change what {@link classifyOutcome} says: on a refusal that its headers do not
 * explain, and on a 200 or 202 with HTML where the caller asked for pages to be looked at. Pure; never throws.
 *
 * @param asked Pages that look like success are to be looked at too.
 *
 * @example
 * needsBody({ url, method: 'GET', status: 403, headers: { 'content-type': 'text/html' } }); // true
 */
export function needsBody(exchange: ResponseFacts, asked = false): boolean {
  const { status, headers, method } = exchange;
  const page = status === 200 || status === 202;
  if (page ? !asked : !LOOKED_AT.has(status)) return false;
  if (method.toUpperCase() === 'HEAD' || headerOf(headers, 'content-length')?.trim() === '0') return false;
  const type = headerOf(headers, 'content-type');
  if (page ? !isHtml(type) : type !== undefined && !isText(type)) return false;
  return byHeaders(exchange) === undefined;
}

function byHeaders(exchange: ResponseFacts): Outcome | undefined {
  const { status, headers, url, requestedUrl } = exchange;
  for (const [name, values] of CHALLENGE_HEADERS) {
    const value = headerOf(headers, name);
    if (value !== undefined && values.includes(value.trim().toLowerCase())) return 'challenged';
  }
  if (isChallengeUrl(url, requestedUrl)) return 'challenged';
  if (status >= 300 && status < 400) {
    const location = headerOf(headers, 'location');
    return location !== undefined && isChallengeUrl(location, url) ? 'challenged' : undefined;
  }
  // Zyte's gateway read the ban off the target's answer, after tries of its own.
  if (headerOf(headers, 'x-crawlera-error') === 'banned') return 'blocked';
  if (status !== 429 && status !== 403 && status !== 503) return undefined;
  return isQuota(exchange) ? 'rate-limited' : undefined;
}

/** A refusal that its headers explain: nothing is left, or the client is told when to come back (a 429 needs nothing beside it). */
function isQuota({ status, headers }: ResponseFacts): boolean {
  const retryAfter = headerOf(headers, 'retry-after') !== undefined;
  if (status === 429 && retryAfter) return true;
  const quotas = parseRateLimit(headers, 0);
  if (quotas.length === 0) return false;
  return retryAfter || quotas.some(({ remaining }) => remaining !== undefined && remaining < 1);
}

function byBody(exchange: ResponseFacts): Outcome | undefined {
  const { status } = exchange;
  if (exchange.body === undefined || exchange.body === '') return undefined;
  const body = exchange.body.slice(0, BODY_LOOK);
  const success = status >= 200 && status < 300;
  if (!success && !LOOKED_AT.has(status)) return undefined;
  const short = isShort(exchange);
  const strong = strongInBody(body, success && !short);
  if (strong !== undefined) return strong;
  if (status === 403 && wordsLimit(body)) return 'rate-limited';
  // 429 names its own cause; a weak word does not outweigh it.
  if (status !== 429 && (success ? short : REFUSALS.has(status))) return weakInBody(body);
  return undefined;
}

/** A body that was cut is long, unless its length in plain bytes is known to be short. */
function isShort({ headers, body = '', bodyCut = false }: ResponseFacts): boolean {
  if (!bodyCut && body.length < BODY_LOOK) return true;
  const length = headerOf(headers, 'content-length')?.trim();
  if (length === undefined || !/^\d{1,15}$/.test(length) || headerOf(headers, 'content-encoding') !== undefined) {
    return false;
  }
  return Number(length) < SHORT_PAGE;
}

function byStatus(status: number): Outcome {
  if (status === 429) return 'rate-limited';
  if (status === 403) return 'blocked';
  return TROUBLES.has(status) ? 'target-error' : 'ok';
}

function isHtml(type: string | undefined): boolean {
  return type !== undefined && /^\s*(?:text\/html|application\/xhtml\+xml)\s*(?:;|$)/i.test(type);
}

function isText(type: string): boolean {
  return /^\s*(?:text\/|application\/[^;]{0,64}(?:json|xml)\b)/i.test(type);
}

/** The caller's own verdict where he has one, else the built-in. A bug in his surfaces on its own: it must not lose the permit. */
export function outcomeOf(facts: ResponseFacts, classify: Classify | undefined): Outcome {
  if (classify !== undefined) {
    try {
      const own = classify(facts);
      if (OUTCOMES.has(own)) return own as Outcome;
      if (own !== undefined) throw invalid('classify', `undefined or one of ${[...OUTCOMES].join(', ')}`, own);
    } catch (error) {
      // The caller's bug must not lose the permit: it surfaces on its own.
      queueMicrotask(() => {
        throw error;
      });
    }
  }
  return classifyOutcome(facts);
}
