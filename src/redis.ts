import type { Clock, Random } from './clock.ts';
import { systemClock } from './clock.ts';
import { RedisBackend } from './store/redis/redis-backend.ts';
import {
  likeIoredis,
  type NodeRedisClient,
  type RedisClient,
  type ScriptArguments,
} from './store/redis/redis-client.ts';
import { FAILURE_OPTIONS, type FailureOptions, resolveFailureOptions } from './store/shared/failure-options.ts';
import { Guard } from './store/shared/guard.ts';
import { SharedStore } from './store/shared/shared-store.ts';
import type { Store } from './store/store.ts';
import { hasMethods, invalid, isFunction, knownOnly } from './validate.ts';

export { STEP_SCRIPT } from './store/redis/scripts/step-script.ts';
export type { FailureOptions, NodeRedisClient, RedisClient, ScriptArguments };

/** Options of {@link redisStore}. */
export interface RedisStoreOptions extends FailureOptions {
  /**
   * What the names of all keys begin with; workers with the same prefix share everything. No braces: those are for the
   * hash tag.
   *
   * @default 'paceline:'
   */
  readonly prefix?: string;
  /** This process's own clock: for its timers, and when its routes end; what is decided goes by the server's. @default systemClock */
  readonly clock?: Clock;
  /** Names of calls, and jitter. @default Math.random */
  readonly random?: Random;
  /** For tests: the time of all decisions, in milliseconds, in the place of the server's own; with `clock`, so that both agree. */
  readonly now?: () => number;
}

/**
 * A store that any number of processes share through Redis (6.2 or later, Valkey, or a Cluster): budgets, cooldowns,
 * health, sessions, concurrency. One script call takes a whole decision, for all that wait in that moment; the server's
 * clock is the only one.
 *
 * The client is yours: it is not closed by `close()`.
 *
 * @param redis an ioredis client or Cluster, or one of node-redis; anything with the same two methods will do.
 * @throws {ConfigError} on a bad option. What Redis says later becomes a {@link StoreError}; see `onStoreError`.
 * @example
 * import { Redis } from 'ioredis';
 *
 * const redis = new Redis('redis://localhost:6379');
 * const proxies = new ProxyManager({ gateway, store: redisStore(redis, { expectedWorkers: 8 }) });
 */
export function redisStore(redis: RedisClient | NodeRedisClient, options: RedisStoreOptions = {}): Store {
  knownOnly('redisStore', options, [...FAILURE_OPTIONS, 'prefix', 'clock', 'random', 'now']);
  const { evalsha, evalSha, eval: evaluate } = (redis ?? {}) as Partial<RedisClient & NodeRedisClient>;
  if (typeof (evalsha ?? evalSha) !== 'function' || typeof evaluate !== 'function') {
    throw invalid('redis', 'a client of ioredis or node-redis', redis);
  }
  hasMethods('clock', options.clock, ['now', 'wallNow', 'setTimeout', 'clearTimeout']);
  isFunction('random', options.random);
  isFunction('now', options.now);
  const { clock = systemClock, random = Math.random, prefix, now } = options;
  const guard = new Guard(
    new RedisBackend(likeIoredis(redis), { prefix, now }),
    clock,
    random,
    resolveFailureOptions(options),
  );
  return new SharedStore(guard, { clock, random });
}
