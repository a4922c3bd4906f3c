import { createHash } from 'node:crypto';
import Bottleneck from 'bottleneck';
import { RateLimiterRedis, RateLimiterUnion } from 'rate-limiter-flexible';
import type { RedisServer } from '../../test/support/redis-server.ts';
import { address, shuffled } from '../support/egresses.ts';
import { type Connect, EGRESSES, promised } from './contender.ts';

/** Peers never refuse: what is timed is the bookkeeping of a grant. */
const PLENTY = 1e9;
const HOUR_S = 3_600;
const NOTHING = 'return 1';
const FOUR_LIMITS = ['egress', 'target', 'second', 'hour'];

/** A round trip, and nothing else. */
export const ping: Connect = async (server) => {
  const redis = server.client();
  return { admit: promised(() => redis.ping()) };
};

/** A script that does nothing: what a call of any script costs at least. */
export const emptyScript: Connect = async (server) => {
  const redis = server.client();
  const sha = createHash('sha1').update(NOTHING).digest('hex');
  await redis.script('LOAD', NOTHING);
  return { admit: promised(() => redis.evalsha(sha, 1, 'bench:{empty}')) };
};

export const flexible: Connect = async (server) => {
  const limiter = flexibleLimiter(server, 'single');
  const key = anyEgress();
  return { admit: promised(() => limiter.consume(key())) };
};

/** Its union hands one key to all of its limiters, so all four count by egress. */
export const flexibleUnion: Connect = async (server) => {
  const union = unionOfFour(server);
  const key = anyEgress();
  return { admit: promised(() => union.consume(key())) };
};

/** One limiter with two limits and one key: in its favour, as four would have to be chained. */
export const bottleneck: Connect = async (server) => {
  const connection = new Bottleneck.IORedisConnection({ client: server.client() });
  const limiter = new Bottleneck({
    id: 'bench',
    clearDatastore: true,
    reservoir: PLENTY,
    maxConcurrent: PLENTY,
    connection,
  });
  await limiter.ready();
  const nothing = async (): Promise<void> => {};
  return { admit: promised(() => limiter.schedule(nothing)), close: () => connection.disconnect() };
};

export function flexibleLimiter(server: RedisServer, keyPrefix: string): RateLimiterRedis {
  return new RateLimiterRedis({ storeClient: server.client(), keyPrefix, points: PLENTY, duration: HOUR_S });
}

export function unionOfFour(server: RedisServer): RateLimiterUnion {
  return new RateLimiterUnion(...FOUR_LIMITS.map((name) => flexibleLimiter(server, name)));
}

/** Keys in no order that a cache could guess. */
function anyEgress(): () => string {
  const order = shuffled(EGRESSES, 500_000);
  const keys = Array.from({ length: EGRESSES }, (_, i) => address(i));
  let at = 0;
  return () => {
    at = at + 1 < order.length ? at + 1 : 0;
    return keys[order[at]];
  };
}
