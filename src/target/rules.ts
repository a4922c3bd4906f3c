import { isIPv4 } from '../egress-key.ts';
import { ConfigError } from '../errors.ts';
import { count, invalid, positive } from '../validate.ts';
import { canonicalHost } from './registrable.ts';
import type { Budget, BudgetOptions, PoolType, Rate, Spacing, Target, TargetRule, Tier, TierOptions } from './types.ts';

/** `match` of a rule, taken apart. */
export interface Pattern {
  /** Canonical, without brackets. */
  readonly host: string;
  /** Only subdomains of `host`, not itself. */
  readonly wildcard: boolean;
  readonly port: number | undefined;
  /** '' for every path, else '/a/b' without a slash at the end. */
  readonly path: string;
}

const MATCH = /^(\*\.)?(\[[^\]]*\]|[^/?#@:\s\\[\]*]+)(?::(\d{1,5}))?(\/[^?#\s\\]*)?$/;

/** Takes a rule's `match` apart. @throws {ConfigError} when it is not of the form that {@link TargetRule.match} describes. */
export function parseMatch(option: string, match: unknown): Pattern {
  const expected = "a domain with perhaps '*.' before, a port and a path prefix behind, like 'api.example.com/search'";
  const parts = typeof match === 'string' ? MATCH.exec(match) : null;
  const host = parts && canonicalHost(parts[2]);
  const port = parts?.[3] === undefined ? undefined : Number(parts[3]);
  const wildcard = parts?.[1] !== undefined;
  if (!parts || !host || host.includes('..') || port === 0 || (port ?? 0) > 65_535)
    throw invalid(option, expected, match);
  if (wildcard && isIP(host)) throw invalid(option, "no '*.' before an IP", match);
  const path = parts[4] === undefined ? '' : new URL(`http://host${parts[4]}`).pathname;
  return { host, wildcard, port, path: path.replace(/\/+$/, '') };
}

/** Whether a canonical host is an IP: it has no subdomains. */
function isIP(host: string): boolean {
  return host.includes(':') || isIPv4(host);
}

const NO_RATES: readonly Rate[] = Object.freeze([]);
/** More than anybody needs, and few enough to be told apart by the bits of a number. */
const MOST_RATES = 16;

const SPACINGS: readonly Spacing[] = ['even', 'burst'];
const POOL_TYPES: readonly PoolType[] = ['direct', 'datacenter', 'residential', 'mobile', 'static'];

/** The built-in tiers with the caller's laid over them. @throws {ConfigError} on a bad value. */
export function resolveTiers(
  builtin: Readonly<Record<string, Tier>>,
  overrides: Readonly<Record<string, TierOptions>> = {},
): Map<string, Tier> {
  const tiers = new Map(Object.entries(builtin));
  for (const [name, options] of Object.entries(overrides)) {
    const option = `tiers.${name}`;
    if (typeof options !== 'object' || options === null) throw invalid(option, 'an object', options);
    const base = tiers.get(name);
    const budget = options.budget
      ? resolveBudget(`${option}.budget`, options.budget, base?.budget.spacing ?? 'burst')
      : base?.budget;
    if (budget === undefined) throw invalid(`${option}.budget`, 'a limit and a windowMs', options.budget);
    const poolType = oneOf(`${option}.poolType`, options.poolType ?? base?.poolType ?? 'residential', POOL_TYPES);
    tiers.set(name, Object.freeze({ budget, poolType }));
  }
  return tiers;
}

/** The tier of a name. @throws {ConfigError} that lists the known ones. */
export function tierNamed(option: string, name: unknown, tiers: ReadonlyMap<string, Tier>): Tier {
  const tier = tiers.get(name as string);
  if (tier === undefined) throw invalid(option, `one of the tiers ${[...tiers.keys()].join(', ')}`, name);
  return tier;
}

/** The target of a rule; `tierName` and `tier` are what the rule chose, or the default. @throws {ConfigError} on a bad value. */
export function resolveTarget(option: string, rule: TargetRule, tierName: string, tier: Tier): Target {
  const { name = rule.match, pools, concurrency, scope = 'ip' } = rule;
  if (typeof name !== 'string' || name === '') throw invalid(`${option}.name`, 'a name', name);
  if (pools !== undefined && !(Array.isArray(pools) && pools.length > 0 && pools.every(isName))) {
    throw invalid(`${option}.pools`, 'the names of one pool or more', pools);
  }
  return target(name, tierName, tier, {
    pools: pools && Object.freeze([...pools]),
    budget: rule.budget && resolveBudget(`${option}.budget`, rule.budget, tier.budget.spacing),
    rates: resolveRates(`${option}.rate`, rule.rate),
    concurrency: concurrency === undefined ? undefined : count(`${option}.concurrency`, concurrency),
    scope: oneOf(`${option}.scope`, scope, ['ip', 'account'] as const),
  });
}

/** A frozen target: a tier, and what differs from it. */
export function target(name: string, tierName: string, tier: Tier, own: Partial<Target> = {}): Target {
  const { pools, budget = tier.budget, rates = NO_RATES, concurrency, scope = 'ip' } = own;
  return Object.freeze({ name, tier: tierName, pools, poolType: tier.poolType, budget, rates, concurrency, scope });
}

/** @throws {ConfigError} when two rules of one name differ in more than what they match: which of them should hold? */
export function sameTarget(option: string, first: Target, second: Target): Target {
  if (JSON.stringify(first) === JSON.stringify(second)) return first;
  throw new ConfigError(`${option}: differs from another rule of the name '${second.name}'; they share one budget`, {
    option,
  });
}

function resolveBudget(option: string, budget: BudgetOptions, defaultSpacing: Spacing): Budget {
  const limit = count(`${option}.limit`, budget.limit);
  const windowMs = positive(`${option}.windowMs`, budget.windowMs, 'milliseconds');
  return Object.freeze({
    limit,
    windowMs,
    spacing: oneOf(`${option}.spacing`, budget.spacing ?? defaultSpacing, SPACINGS),
  });
}

function resolveRates(option: string, rate: Rate | readonly Rate[] | undefined): readonly Rate[] {
  if (rate === undefined) return NO_RATES;
  if (!Array.isArray(rate)) return Object.freeze([resolveRate(option, rate as Rate)]);
  if (rate.length > MOST_RATES) throw invalid(option, `at most ${MOST_RATES} rates`, rate.length);
  return Object.freeze(rate.map((one: Rate, i) => resolveRate(`${option}[${i}]`, one)));
}

function resolveRate(option: string, rate: Rate): Rate {
  if (typeof rate !== 'object' || rate === null) throw invalid(option, 'an object, or an array of them', rate);
  const path = rate.path === undefined ? undefined : { path: resolvePath(`${option}.path`, rate.path) };
  const limit = count(`${option}.limit`, rate.limit);
  const windowMs = positive(`${option}.windowMs`, rate.windowMs, 'milliseconds');
  if (rate.burst === undefined) return Object.freeze({ limit, windowMs, ...path });
  const burst = count(`${option}.burst`, rate.burst);
  if (burst > limit) throw invalid(`${option}.burst`, `at most limit (${limit})`, burst);
  return Object.freeze({ limit, windowMs, burst, ...path });
}

/** A prefix as {@link parseMatch} makes it: escaped like a URL's, without a slash at the end. */
function resolvePath(option: string, path: unknown): string {
  if (typeof path !== 'string' || !/^\/[^?#\s\\]*$/.test(path)) throw invalid(option, "a path like '/search'", path);
  return new URL(`http://host${path}`).pathname.replace(/\/+$/, '');
}

function isName(value: unknown): boolean {
  return typeof value === 'string' && value !== '';
}

function oneOf<T extends string>(option: string, value: T, known: readonly T[]): T {
  if (!known.includes(value)) throw invalid(option, `one of ${known.join(', ')}`, value);
  return value;
}
