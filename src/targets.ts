import type { Admission, TargetQueue } from './admission.ts';
import type { Call } from './call.ts';
import { Pool } from './gateway/pool.ts';
import { Ladder } from './ladder.ts';
import type { ResolvedOptions } from './options.ts';
import type { Store } from './store/store.ts';
import { policyOf } from './target/policy.ts';
import type { Target } from './target/types.ts';
import { invalid } from './validate.ts';

/** Which target a request is for, where it queues, and which pools may serve it. */
export class Targets {
  private readonly options: ResolvedOptions;
  private readonly admission: Admission;
  private readonly pools = new Map<string, Pool>();
  private readonly retiered = new WeakMap<Target, Map<string, Target>>();

  constructor(options: ResolvedOptions, admission: Admission) {
    const { clock, random, adaptation } = options;
    this.options = options;
    this.admission = admission;
    const store: Store = options.store;
    for (const resolved of options.pools) {
      const pool = new Pool(resolved, clock, random, adaptation.breaker);
      if (store.retired !== undefined) pool.onRetired = (route) => store.retired?.(route);
      this.pools.set(pool.name, pool);
    }
  }

  /** `origin`: the URL's, where somebody has parsed it. */
  classify(url: string, tier: string | undefined, origin?: unknown): Target {
    const { classifier } = this.options;
    const known = typeof origin === 'string' ? classifier.everywhere(origin) : undefined;
    const target = known ?? classifier.classify(url);
    if (tier === undefined) return target;
    // Another tier's budget, under the rule's other limits.
    let others = this.retiered.get(target);
    if (others === undefined) {
      others = new Map();
      this.retiered.set(target, others);
    }
    let other = others.get(tier);
    if (other === undefined) {
      const { budget, poolType, tier: name } = this.options.tiers(tier).classify(url);
      other = Object.freeze({ ...target, tier: name, budget, poolType });
      others.set(tier, other);
    }
    return other;
  }

  pool(name: string, option = 'pace.pool'): Pool {
    const pool = this.pools.get(name);
    if (pool === undefined) throw invalid(option, `one of ${[...this.pools.keys()].join(', ')}`, name);
    return pool;
  }

  /** The rule's first pool, else the first of the tier's type, else the first there is. */
  firstPool(target: Target): Pool {
    if (target.pools !== undefined) return this.pool(target.pools[0]);
    let first: Pool | undefined;
    for (const pool of this.pools.values()) {
      if (pool.options.type === target.poolType) return pool;
      first ??= pool;
    }
    return first!;
  }

  /** Whether a request that one egress refused may find another one: in its pool, or in a dearer one. */
  hasOthers({ route, target, pace }: Call): boolean {
    const pool = this.pool(route!.pool);
    if (pool.hasOthers) return true;
    return pace.pool === undefined && (this.admission.known(target)?.ladder?.hasAbove(pool) ?? false);
  }

  allPools(): IterableIterator<Pool> {
    return this.pools.values();
  }

  /** Requests under a tier of their own are counted apart from the target's others. */
  queueFor(target: Target, tier: string | undefined): TargetQueue {
    const key = tier === undefined ? target.name : `${target.name}#${target.tier}`;
    return this.admission.known(key) ?? this.admission.queue(key, () => this.plan(target));
  }

  private plan(target: Target): Pick<TargetQueue, 'policy' | 'pool' | 'ladder'> {
    const { adaptation, clock, random } = this.options;
    const pool = this.firstPool(target);
    const { startConcurrency: start, concurrency: most } = pool.options;
    const pools = (target.pools ?? []).map((name) => this.pool(name));
    const ladder = pools.length > 1 ? new Ladder(pools, clock, random) : undefined;
    return { policy: policyOf(target, adaptation, { start, most }), pool, ladder };
  }
}
