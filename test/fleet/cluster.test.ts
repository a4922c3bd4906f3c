import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RedisCluster, startRedisCluster } from '../support/redis-cluster.ts';
import type { RedisServer } from '../support/redis-server.ts';
import { Crew } from './crew.ts';
import { expectPromises, Fleet, type Scenario, sleep } from './harness.ts';

// A fleet on a real Redis Cluster of three masters, while masters die.

let crew: Crew;
let cluster: RedisCluster;

beforeAll(async () => {
  crew = new Crew();
  [cluster] = await Promise.all([startRedisCluster(), crew.stock(8)]);
}, 60_000);
afterAll(() => cluster[Symbol.asyncDispose](), 60_000);
afterAll(() => crew.end(), 60_000);

/** A key whose name has that in it. */
async function keyWith(part: string): Promise<string> {
  for (const node of cluster.nodes) {
    const found = (await node.client().keys(`*${part}*`))[0];
    if (found !== undefined) return found;
  }
  throw new Error(`no key with ${part}`);
}

describe('eight workers on one Redis Cluster', () => {
  it.each(['{a.test}', '{pool'])(
    'keep to one budget while the master with the keys of %s dies',
    async (part) => {
      let killed: RedisServer | undefined;
      const scenario: Scenario = {
        store: { kind: 'cluster', ports: cluster.nodes.map(({ port }) => port) },
        ...{ budget: { limit: 8, windowMs: 1000 }, exits: 6, flaky: 0.02, forMs: 5500 },
        async weather() {
          await sleep(1000);
          ({ killed } = await cluster.failover(await keyWith(part)));
        },
      };
      const fleet = await Fleet.run(crew, scenario);
      expectPromises(fleet, scenario);
      expect(fleet.used).toBeGreaterThan(0.1);
      await killed!.start();
      await cluster.whole();
    },
    60_000,
  );
});
