/** The kinds of ways out. `direct` is the machine's own address; `static` an address rented for long (ISP). */
export type PoolType = 'direct' | 'datacenter' | 'residential' | 'mobile' | 'static';

/**
 * How a budget is spent: `even`ly, one request every windowMs ÷ limit, as suits targets that run a leaky bucket (nginx
 * `limit_req`), or as a `burst`, as requests come.
 */
export type Spacing = 'even' | 'burst';

/** What one egress may send to a target: at most `limit` requests in any half-open window of `windowMs`. */
export interface Budget {
  /** An integer ≥ 1. */
  readonly limit: number;
  /** Milliseconds, > 0. */
  readonly windowMs: number;
  readonly spacing: Spacing;
}

/** A {@link Budget} as an option. */
export interface BudgetOptions {
  /** An integer ≥ 1. */
  readonly limit: number;
  /** Milliseconds, > 0. */
  readonly windowMs: number;
  /** @default that of the tier */
  readonly spacing?: Spacing;
}

/** What all egresses together may send to a target. */
export interface Rate {
  /** An integer ≥ 1. */
  readonly limit: number;
  /** Milliseconds, > 0. */
  readonly windowMs: number;
  /**
   * How many may go at once, an integer from 1 to `limit`. No window may ever hold more than `limit`, so a burst of b leaves
   * a steady `limit` − b + 1 a window. @default 1: evenly, at the full rate
   */
  readonly burst?: number;
  /**
   * Only requests under this path count, like `/search`; it ends at a `/`. All rates that count for a request are taken together, or none.
   * @default every path of the rule
   */
  readonly path?: string;
}

/** Whose budget it is: each egress IP's own, or the account's that all of them use. */
export type Scope = 'ip' | 'account';

/** A named policy. */
export interface Tier {
  readonly budget: Budget;
  /** The kind of pool to prefer where the rule names none. */
  readonly poolType: PoolType;
}

/** A {@link Tier} as an option: an addition, or an override of the tier of that name. */
export interface TierOptions {
  /** @default that of the tier it overrides; else required. Spacing: @default that of the tier it overrides, else 'burst' */
  readonly budget?: BudgetOptions;
  /** @default that of the tier it overrides, else 'residential' */
  readonly poolType?: PoolType;
}

/** What the caller says of some of his targets. */
export interface TargetRule {
  /**
   * A domain, which stands for its subdomains too, or `*.` and a domain for only them; then perhaps `:port`; then perhaps
   * a path prefix, which ends at a `/`: `api.github.com/search` is `/search` and `/search/x`, not `/searching`.
   */
  readonly match: string;
  /** The target's name. Rules of one name share one budget, and must say the same otherwise. @default match */
  readonly name?: string;
  /** The tier that fills in what the rule leaves out. @default the default tier */
  readonly tier?: string;
  /** Names of pools, cheapest first; at least one. @default any of the tier's type */
  readonly pools?: readonly string[];
  /** @default the tier's */
  readonly budget?: BudgetOptions;
  /** One rate, or several that hold at once: 5,000 an hour in all, and 30 a minute of them under `/search`. @default none */
  readonly rate?: Rate | readonly Rate[];
  /** Requests at a time, all egresses together; an integer ≥ 1. @default none */
  readonly concurrency?: number;
  /** @default 'ip' */
  readonly scope?: Scope;
}

/** What a budget belongs to, and the policy for it. Frozen. */
export interface Target {
  readonly name: string;
  readonly tier: string;
  readonly pools: readonly string[] | undefined;
  readonly poolType: PoolType;
  readonly budget: Budget;
  readonly rates: readonly Rate[];
  readonly concurrency: number | undefined;
  readonly scope: Scope;
}
