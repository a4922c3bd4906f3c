import { count, invalid } from '../validate.ts';
import { isUnder } from './applies.ts';
import { endOfOrigin, parseUrl, portOf } from './origin.ts';
import { bareHost, domainOf } from './registrable.ts';
import { type Pattern, parseMatch, resolveTarget, resolveTiers, sameTarget, target, tierNamed } from './rules.ts';
import { builtinTiers, DEFAULT_TIER, unknownTier } from './tiers.ts';
import { twoGenerations } from './two-generations.ts';
import type { Target, TargetRule, TierOptions } from './types.ts';

/** Options of {@link targetClassifier}. */
export interface TargetClassifierOptions {
  /** In any order: the most specific one matches. @default none */
  readonly rules?: readonly TargetRule[];
  /** Additions to the built-in tiers, and overrides of them. @default none */
  readonly tiers?: Readonly<Record<string, TierOptions>>;
  /** The tier of targets without a rule, and of rules without a tier. @default 'mid', with 15 instead of 20 a minute while it is the built-in one */
  readonly defaultTier?: string;
  /** How many hosts, and how many domains without a rule, are remembered; an integer ≥ 2. @default 10_000 */
  readonly cacheSize?: number;
  /** What the rules are called in messages. @default 'rules' */
  readonly rulesOption?: string;
}

/** See {@link targetClassifier}. */
export interface TargetClassifier {
  /** The target of an http or https URL. @throws {ConfigError} when it is neither, or no URL. */
  classify(url: URL | string): Target;
  /**
   * The target of all that is at an origin, written as `URL.origin` does; undefined where a rule looks at the path, and where nothing of
   * the origin has been classified lately. For who has parsed the URL already.
   */
  everywhere(origin: string): Target | undefined;
}

interface Rule {
  readonly pattern: Pattern;
  readonly target: Target;
}

/** What is known of an origin: the rules with a path, most specific first, and the target of all other paths. */
interface Origin {
  readonly paths: readonly Rule[];
  readonly rest: Target;
}

/**
 * Says what budget a URL belongs to, and by which policy: the most specific rule, else the registrable domain with the
 * default tier. More specific is: the longer host, then the one with a port, then `*.`, then the longer path. A domain that
 * has the name of a rule is that rule's target, for one name is one budget.
 *
 * The target of a rule is always the same object, so it can serve as a handle. So is that of a domain without one, for as
 * long as it is remembered (`cacheSize`, least used forgotten first); `name` is for ever.
 * A hot `classify` costs a lookup by origin; only rules with a path make it parse the URL.
 *
 * @throws {ConfigError} on a rule, tier or default that does not make sense.
 * @example
 * const classifier = targetClassifier({ rules: [{ match: 'api.github.com/search', budget: { limit: 30, windowMs: 60_000 } }] });
 * classifier.classify('https://api.github.com/search/code?q=x').name; // 'api.github.com/search'
 * classifier.classify('https://www.example.co.uk/').name; // 'example.co.uk'
 */
export function targetClassifier(options: TargetClassifierOptions = {}): TargetClassifier {
  const { rules = [], defaultTier = DEFAULT_TIER, rulesOption = 'rules' } = options;
  const cacheSize = count('cacheSize', options.cacheSize ?? 10_000);
  if (cacheSize < 2) throw invalid('cacheSize', 'an integer ≥ 2', cacheSize);
  const tiers = resolveTiers(builtinTiers, options.tiers);
  const standard = tierNamed('defaultTier', defaultTier, tiers);
  // Mid at its full rate is for who asked for it: by `defaultTier`, or by a budget of his own for mid.
  const asked = options.defaultTier !== undefined || standard.budget !== builtinTiers[DEFAULT_TIER].budget;
  const fallback = asked ? standard : { ...standard, budget: unknownTier.budget };

  const byHost = new Map<string, Rule[]>();
  const byName = new Map<string, Target>();
  if (!Array.isArray(rules)) throw invalid(rulesOption, 'an array', rules);
  for (const [i, rule] of (rules as readonly TargetRule[]).entries()) {
    const option = `${rulesOption}[${i}]`;
    if (typeof rule !== 'object' || rule === null) throw invalid(option, 'an object', rule);
    const pattern = parseMatch(`${option}.match`, rule.match);
    const tier = rule.tier === undefined ? fallback : tierNamed(`${option}.tier`, rule.tier, tiers);
    const made = resolveTarget(option, rule, rule.tier ?? defaultTier, tier);
    const first = byName.get(made.name);
    const one = first ? sameTarget(option, first, made) : made;
    byName.set(one.name, one);

    const siblings = byHost.get(pattern.host) ?? [];
    if (siblings.some((other) => bySpecificity(other.pattern, pattern) === 0 && other.pattern.path === pattern.path)) {
      throw invalid(`${option}.match`, 'no two rules that match the same', rule.match);
    }
    siblings.push({ pattern, target: one });
    byHost.set(pattern.host, siblings);
  }
  for (const siblings of byHost.values()) siblings.sort((a, b) => bySpecificity(a.pattern, b.pattern));

  const origins = twoGenerations<Origin>(cacheSize);
  const domains = twoGenerations<Target>(cacheSize);

  function originOf(url: URL): Origin {
    const key = `${url.protocol}//${url.host}`;
    return origins.get(key) ?? origins.set(key, find(bareHost(url.hostname), portOf(url)));
  }

  function find(host: string, port: number): Origin {
    const paths: Rule[] = [];
    for (let suffix = host; ; ) {
      for (const rule of byHost.get(suffix) ?? []) {
        const { pattern } = rule;
        if ((pattern.port ?? port) !== port || (pattern.wildcard && suffix === host)) continue;
        if (pattern.path === '') return { paths, rest: rule.target };
        paths.push(rule);
      }
      const dot = suffix.indexOf('.'); // no rule has a part of an IP for its host
      if (dot < 0) break;
      suffix = suffix.slice(dot + 1);
    }
    const name = domainOf(host);
    const rest = byName.get(name) ?? domains.get(name) ?? domains.set(name, target(name, defaultTier, fallback));
    return { paths, rest };
  }

  return {
    everywhere(origin) {
      const known = origins.get(origin);
      return known === undefined || known.paths.length > 0 ? undefined : known.rest;
    },
    classify(url) {
      const text = url instanceof URL ? url.href : url;
      const end = typeof text === 'string' ? endOfOrigin(text) : -1;
      let origin = end < 0 ? undefined : origins.get(text.slice(0, end));
      if (origin !== undefined && origin.paths.length === 0) return origin.rest;

      const parsed = parseUrl(url);
      origin ??= originOf(parsed);
      const { pathname } = parsed;
      for (const rule of origin.paths) {
        if (isUnder(pathname, rule.pattern.path)) return rule.target;
      }
      return origin.rest;
    },
  };
}

function bySpecificity(a: Pattern, b: Pattern): number {
  const port = (b.port ?? 0) - (a.port ?? 0); // of two ports, either first: no URL has both
  return port || Number(b.wildcard) - Number(a.wildcard) || b.path.length - a.path.length;
}
