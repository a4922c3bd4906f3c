import type { BareItem, Item } from 'structured-headers';
import type { RateLimitInfo } from './rate-limit-info.ts';
import { capWait, type HeaderSource, headerOf } from './read.ts';
import { numberIn, structuredDictionary, structuredList, textOf } from './structured.ts';

/** A quota as the server announces it, whatever is left of it. */
export interface QuotaPolicy {
  readonly name?: string;
  readonly limit: number;
  readonly windowMs?: number;
  readonly unit?: string;
}

/** More quotas than anyone has; the rest is not looked at. */
const MOST_QUOTAS = 16;

const LONGEST_NAME = 128;

/**
 * `RateLimit` and `RateLimit-Policy` of the IETF's draft (httpapi-ratelimit-headers), in both forms that are about:
 * the list since revision 08, `"default";r=50;t=30` with `"default";q=100;w=60`, and the dictionary of 07,
 * `limit=100, remaining=50, reset=30` with `100;w=60`. Seconds from now, by definition. A malformed field says nothing.
 */
export function ietfRateLimits(
  headers: HeaderSource,
  policies: readonly QuotaPolicy[],
  capMs: number,
): RateLimitInfo[] {
  const field = headerOf(headers, 'ratelimit');
  if (field === undefined) return policies.filter((policy) => policy.name !== undefined).map(announced);
  const list = structuredList(field);
  if (list === undefined) return dictionaryForm(field, policies, capMs);
  const found: RateLimitInfo[] = [];
  for (const member of list.slice(0, MOST_QUOTAS)) {
    if (!isItem(member)) continue;
    const [bare, parameters] = member;
    const name = textOf(bare)?.slice(0, LONGEST_NAME);
    const remaining = numberIn(parameters, 'r');
    if (name === undefined || remaining === undefined) continue;
    const seconds = numberIn(parameters, 't');
    found.push({
      name,
      remaining,
      ...(seconds === undefined ? undefined : { resetMs: capWait(seconds * 1000, capMs) }),
      ...detailsOf(policies.find((policy) => policy.name === name)),
      source: 'ratelimit',
    });
  }
  const named = new Set(found.map((quota) => quota.name));
  const unused = policies.filter((policy) => policy.name !== undefined && !named.has(policy.name));
  return [...found, ...unused.map(announced)];
}

function dictionaryForm(field: string, policies: readonly QuotaPolicy[], capMs: number): RateLimitInfo[] {
  const dictionary = structuredDictionary(field);
  if (dictionary === undefined) return [];
  const read = (key: string): number | undefined => {
    const value = dictionary.get(key)?.[0];
    return typeof value === 'number' && value >= 0 ? value : undefined;
  };
  const limit = read('limit');
  const remaining = read('remaining');
  const seconds = read('reset');
  if (limit === undefined && remaining === undefined && seconds === undefined) return [];
  return [
    {
      ...(limit ? { limit } : undefined),
      ...(remaining === undefined ? undefined : { remaining }),
      ...(seconds === undefined ? undefined : { resetMs: capWait(seconds * 1000, capMs) }),
      ...windowOf(limit, policies),
      source: 'ratelimit',
    },
  ];
}

/** The policies of `RateLimit-Policy`: `"burst";q=100;w=60`, or `100;w=60` before revision 08. */
export function quotaPolicies(headers: HeaderSource): QuotaPolicy[] {
  const field = headerOf(headers, 'ratelimit-policy');
  return field === undefined ? [] : policiesIn(field);
}

/** The same list was part of `RateLimit-Limit` once: `100, 100;w=60, 1000;w=3600`. */
export function policiesIn(field: string): QuotaPolicy[] {
  const policies: QuotaPolicy[] = [];
  for (const member of structuredList(field)?.slice(0, MOST_QUOTAS) ?? []) {
    if (!isItem(member)) continue;
    const [bare, parameters] = member;
    const name = textOf(bare)?.slice(0, LONGEST_NAME);
    const limit = typeof bare === 'number' ? bare : numberIn(parameters, 'q');
    if (limit === undefined || limit <= 0) continue;
    const seconds = numberIn(parameters, 'w');
    const unit = textOf(parameters.get('qu'))?.slice(0, LONGEST_NAME);
    policies.push({
      ...(name === undefined ? undefined : { name }),
      limit,
      ...(seconds ? { windowMs: seconds * 1000 } : undefined),
      ...(unit === undefined || unit === 'requests' ? undefined : { unit }),
    });
  }
  return policies;
}

/** The window of the unnamed policy with this limit; where only one window is known, that. */
export function windowOf(limit: number | undefined, policies: readonly QuotaPolicy[]): { windowMs?: number } {
  const timed = policies.filter((policy) => policy.windowMs !== undefined);
  const own = timed.find((policy) => policy.limit === limit) ?? (timed.length === 1 ? timed[0] : undefined);
  return own === undefined ? {} : { windowMs: own.windowMs };
}

function announced(policy: QuotaPolicy): RateLimitInfo {
  return { name: policy.name, ...detailsOf(policy), source: 'ratelimit-policy' };
}

function detailsOf(policy: QuotaPolicy | undefined): Pick<RateLimitInfo, 'limit' | 'windowMs' | 'unit'> {
  if (policy === undefined) return {};
  const { limit, windowMs, unit } = policy;
  return {
    limit,
    ...(windowMs === undefined ? undefined : { windowMs }),
    ...(unit === undefined ? undefined : { unit }),
  };
}

/** An inner list has an array where an item has its value. */
function isItem(member: unknown): member is Item {
  return !Array.isArray((member as [BareItem])[0]);
}
