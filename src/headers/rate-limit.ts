import { ietfRateLimits, policiesIn, type QuotaPolicy, quotaPolicies, windowOf } from './ietf-rate-limit.ts';
import type { RateLimitInfo } from './rate-limit-info.ts';
import { capWait, type HeaderSource, headerOf, LONGEST_WAIT_MS, serverNowMs } from './read.ts';
import { parseRetryAfter } from './retry-after.ts';
import { parseDate } from './time.ts';

/** Headers that together describe one quota. */
interface Family {
  readonly source: string;
  readonly limit: string;
  readonly remaining: string;
  readonly reset: string;
  /** Seconds from now by its very name: it comes before `reset`, which may be of another clock. */
  readonly resetAfter?: string;
  /** Units spent: with `remaining` it gives a limit that has no header. */
  readonly used?: string;
  /** Headers that name the quota, the first that is there. */
  readonly names?: readonly string[];
  readonly scopeIn?: string;
  readonly name?: string;
  readonly unit?: string;
  readonly scope?: 'account';
}

const suffixed = (source: string): Family => ({
  source,
  limit: `${source}-limit`,
  remaining: `${source}-remaining`,
  reset: `${source}-reset`,
});

/** The table of families; each with whom it was seen at. */
const FAMILIES: readonly Family[] = [
  // The IETF's drafts up to 06 (seconds from now); GitLab (seconds since the epoch).
  { ...suffixed('ratelimit'), names: ['ratelimit-name'] },
  // GitHub (epoch), Discord (epoch, decimals), Reddit (from now; a float, and no limit), Atlassian (ISO 8601, to the minute).
  {
    ...suffixed('x-ratelimit'),
    resetAfter: 'x-ratelimit-reset-after',
    used: 'x-ratelimit-used',
    names: ['x-ratelimit-bucket', 'x-ratelimit-resource'],
    scopeIn: 'x-ratelimit-scope',
  },
  // Okta, X (epoch).
  suffixed('x-rate-limit'),
  // OpenAI (Go durations), Azure OpenAI (seconds from now, and -1 for what it does not know).
  ...['requests', 'tokens'].map((counted) => ({
    source: `x-ratelimit-${counted}`,
    limit: `x-ratelimit-limit-${counted}`,
    remaining: `x-ratelimit-remaining-${counted}`,
    reset: `x-ratelimit-reset-${counted}`,
    ...counting(counted),
  })),
  // Anthropic (RFC 3339).
  ...['requests', 'tokens', 'input-tokens', 'output-tokens'].map((counted) => ({
    ...suffixed(`anthropic-ratelimit-${counted}`),
    ...counting(counted),
  })),
];

/** `used/limit` of a leaky bucket; no reset. */
const SHOPIFY = 'x-shopify-shop-api-call-limit';

/** Atlassian's `yyyy-MM-ddTHH:mmZ`. */
const MINUTE_FORM = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}Z$/i;

const MINUTE_MS = 60_000;
const LONGEST_NAME = 128;

/**
 * The quotas that a response reports, one entry each; empty when it reports none. Never throws, whatever the server sent.
 *
 * Known are `RateLimit` and `RateLimit-Policy` (the IETF's draft, both forms), the older `RateLimit-*`, `X-RateLimit-*` as GitHub,
 * Discord, Reddit and Atlassian send them, `X-Rate-Limit-*` (Okta, X), OpenAI, Azure OpenAI, Anthropic and Shopify. The unit of a reset is told
 * by the header's name, then by its value as in {@link parseRetryAfter}: letters are a duration or a date; from 1e12 on
 * milliseconds since the epoch, from 1.7e9 on seconds since the epoch; else seconds from now. Negative numbers say nothing. Absolute times are
 * measured from the response's own `Date`. A reset to the minute is over when that minute is.
 * `Retry-After` ({@link retryAfterOf}) takes precedence over all of it.
 *
 * @param nowMs Milliseconds since the Unix epoch (`clock.wallNow()`); only counts for absolute times without a `Date`.
 * @param capMs The longest `resetMs` to believe, in milliseconds; a year when left out.
 *
 * @example
 * parseRateLimit(response.headers, Date.now());
 * // ratelimit: "default";r=50;t=30 → [{ name: 'default', remaining: 50, resetMs: 30000, source: 'ratelimit' }]
 */
export function parseRateLimit(headers: HeaderSource, nowMs: number, capMs: number = LONGEST_WAIT_MS): RateLimitInfo[] {
  const policies = quotaPolicies(headers);
  const found = ietfRateLimits(headers, policies, capMs);
  // Who sends the current draft and an older one says the same thing twice.
  const start = found.some((quota) => quota.remaining !== undefined) ? 1 : 0;
  for (let i = start; i < FAMILIES.length; i++) {
    const quota = quotaOf(FAMILIES[i], headers, policies, nowMs, capMs);
    if (quota !== undefined) found.push(quota);
  }
  const calls = shopifyCalls(headers);
  if (calls !== undefined) found.push(calls);
  return found;
}

function quotaOf(
  family: Family,
  headers: HeaderSource,
  policies: readonly QuotaPolicy[],
  nowMs: number,
  capMs: number,
): RateLimitInfo | undefined {
  const limitField = headerOf(headers, family.limit);
  const remainingField = headerOf(headers, family.remaining);
  const after = family.resetAfter && headerOf(headers, family.resetAfter);
  const reset = after ?? headerOf(headers, family.reset);
  if (limitField === undefined && remainingField === undefined && reset === undefined) return undefined;

  const lefts = countsIn(remainingField);
  // Of several (two layers that both count) the least is what holds.
  const remaining = lefts && Math.min(...lefts);
  let limit = countsIn(limitField)?.[0];
  if (limit === undefined && remaining !== undefined && family.used !== undefined) {
    const used = countsIn(headerOf(headers, family.used))?.[0];
    if (used !== undefined) limit = used + remaining;
  }
  const resetMs = reset === undefined ? undefined : resetIn(reset, serverNowMs(headers, nowMs), capMs);
  if (!limit && remaining === undefined && resetMs === undefined) return undefined;

  const named = family.names?.map((name) => headerOf(headers, name)).find((text) => text !== undefined && text !== '');
  const name = family.name ?? named?.slice(0, LONGEST_NAME);
  const scope = family.scope ?? (family.scopeIn && scopeIn(headerOf(headers, family.scopeIn)));
  const own = family.source === 'ratelimit' && limitField !== undefined ? policiesIn(limitField) : [];
  return {
    ...(name === undefined ? undefined : { name }),
    ...(limit ? { limit } : undefined),
    ...(remaining === undefined ? undefined : { remaining }),
    ...(resetMs === undefined ? undefined : { resetMs }),
    ...(family.source === 'ratelimit' ? windowOf(limit, [...policies, ...own]) : undefined),
    ...(family.unit === undefined ? undefined : { unit: family.unit }),
    ...(scope ? { scope } : undefined),
    source: family.source,
  };
}

function shopifyCalls(headers: HeaderSource): RateLimitInfo | undefined {
  const match = /^\s*(\d{1,9})\/(\d{1,9})\s*$/.exec(headerOf(headers, SHOPIFY) ?? '');
  if (match === null || Number(match[2]) === 0) return undefined;
  const limit = Number(match[2]);
  return { limit, remaining: Math.max(0, limit - Number(match[1])), scope: 'account', source: SHOPIFY };
}

function resetIn(text: string, serverNow: number, capMs: number): number | undefined {
  const date = MINUTE_FORM.test(text.trim()) ? parseDate(text.trim(), serverNow) : undefined;
  // The seconds are cut off, so the limit may last until the end of that minute: too late is a lesser fault than too early.
  const ms = date === undefined ? parseRetryAfter(text, serverNow) : date + MINUTE_MS - serverNow;
  return ms === undefined || Number.isNaN(ms) ? undefined : capWait(ms, capMs);
}

/** Numbers ≥ 0 of a field, parameters (`100;w=60`) left out; undefined when one of them is something else. */
function countsIn(field: string | undefined): number[] | undefined {
  if (field === undefined) return undefined;
  const counts: number[] = [];
  for (const part of field.split(',', 8)) {
    const text = part.split(';', 1)[0].trim();
    if (!/^\d{1,15}(?:\.\d{1,15})?$/.test(text)) return undefined;
    counts.push(Number(text));
  }
  return counts;
}

/** Discord's `user`, `global` and `shared` (the resource's own) all follow the caller to any other egress. */
function scopeIn(field: string | undefined): 'egress' | 'account' | undefined {
  const text = field?.trim().toLowerCase();
  if (text === 'ip') return 'egress';
  return text === 'user' || text === 'global' || text === 'shared' ? 'account' : undefined;
}

function counting(counted: string): { name: string; unit?: string; scope: 'account' } {
  return { name: counted, ...(counted === 'requests' ? undefined : { unit: 'tokens' }), scope: 'account' };
}
