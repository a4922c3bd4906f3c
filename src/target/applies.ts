import { parseUrl } from './origin.ts';
import type { Target } from './types.ts';

/** By target: which of its rates count, by the bits of a number; the same array for the same bits, so that it can be compared. */
const known = new WeakMap<Target, Map<number, readonly boolean[]>>();

/** Which of a target's rates count for a URL, by their order; undefined for all of them. */
export function ratesThatApply(target: Target, url: string): readonly boolean[] | undefined {
  if (target.rates.length === 0 || !target.rates.some(({ path }) => path !== undefined)) return undefined;
  const { pathname } = parseUrl(url);
  const applies = target.rates.map(({ path }) => path === undefined || isUnder(pathname, path));
  const bits = applies.reduce((sum, one) => sum * 2 + Number(one), 0);
  let masks = known.get(target);
  if (masks === undefined) {
    masks = new Map();
    known.set(target, masks);
  }
  const before = masks.get(bits);
  if (before !== undefined) return before;
  masks.set(bits, applies);
  return applies;
}

/** Whether a path is `prefix`, or below it. */
export function isUnder(pathname: string, prefix: string): boolean {
  return pathname.startsWith(prefix) && (pathname.length === prefix.length || pathname[prefix.length] === '/');
}
