import type { PoolType, Spacing, Tier } from './types.ts';

const MINUTE_MS = 60_000;

function perMinute(limit: number, poolType: PoolType, spacing: Spacing): Tier {
  return Object.freeze({ budget: Object.freeze({ limit, windowMs: MINUTE_MS, spacing }), poolType });
}

/**
 * The built-in tiers, requests per minute and egress IP:
 * `open` 150, datacenter · `mid` 20, residential, evenly spaced · `protected` 8, residential · `high-security` 2, residential.
 */
export const builtinTiers: Readonly<Record<'open' | 'mid' | 'protected' | 'high-security', Tier>> = Object.freeze({
  open: perMinute(150, 'datacenter', 'burst'),
  mid: perMinute(20, 'residential', 'even'),
  protected: perMinute(8, 'residential', 'burst'),
  'high-security': perMinute(2, 'residential', 'burst'),
});

/** The tier of targets that nobody said anything about. */
export const DEFAULT_TIER = 'mid';

/** What stands for {@link DEFAULT_TIER} where nobody chose it: of an unknown target less is known than that it is mid. */
export const unknownTier: Tier = perMinute(15, 'residential', 'even');
