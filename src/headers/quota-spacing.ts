import type { RateLimitInfo } from './rate-limit-info.ts';

export interface QuotaSpacingOptions {
  /**
   * The share of the limit under which what is left is spread out, in [0, 1].
   *
   * @default 0.1
   */
  readonly below?: number;
}

/** How to go easy on a quota that is nearly used up. */
export interface QuotaSpacing {
  /** Least time between two requests, in milliseconds; the whole time to the reset when nothing is left. */
  readonly spacingMs: number;
  /** When the quota is full again and this ends, on the clock of `nowMs`. */
  readonly untilMs: number;
  /** Nothing is left: no request before `untilMs`. */
  readonly exhausted: boolean;
}

/**
 * What a quota's report asks of the pacing; undefined for nothing. Under a tenth of the limit, the requests that are left are spread
 * evenly until the reset; with none left it is a wait for the reset. Where no reset is told, the window is the longest it can be.
 *
 * A quota of something else than requests (tokens, bytes) cannot be spread over requests: it only counts once it is used up.
 * One of concurrent requests has no reset, and never counts.
 *
 * @param nowMs The time that `untilMs` is to be on, in milliseconds; of any clock (`clock.now()`).
 *
 * @example
 * quotaSpacing({ limit: 100, remaining: 5, resetMs: 10_000, source: 'ratelimit' }, 0); // { spacingMs: 2000, untilMs: 10000, exhausted: false }
 */
export function quotaSpacing(
  info: RateLimitInfo,
  nowMs: number,
  options: QuotaSpacingOptions = {},
): QuotaSpacing | undefined {
  const { below = 0.1 } = options;
  const { limit, remaining, unit } = info;
  const restMs = info.resetMs ?? info.windowMs;
  if (remaining === undefined || !restMs || unit === 'concurrent-requests') return undefined;
  const left = Math.floor(remaining);
  if (left < 1) return { spacingMs: restMs, untilMs: nowMs + restMs, exhausted: true };
  if (unit !== undefined || limit === undefined || remaining >= limit * below) return undefined;
  return { spacingMs: restMs / left, untilMs: nowMs + restMs, exhausted: false };
}
