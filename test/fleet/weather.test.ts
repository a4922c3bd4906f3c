import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RedisServer, startRedis } from '../support/redis-server.ts';
import { Crew } from './crew.ts';
import { every, expectPromises, Fleet, type Scenario, sleep } from './harness.ts';

// What may become of the Redis that a fleet shares; and every worker's wall clock is wrong.

const FIVE_MINUTES = 300_000;

let crew: Crew;
let redis: RedisServer;

beforeAll(async () => {
  crew = new Crew([FIVE_MINUTES, -FIVE_MINUTES]);
  [redis] = await Promise.all([startRedis(), crew.stock(8)]);
}, 60_000);
afterAll(() => redis[Symbol.asyncDispose](), 60_000);
afterAll(() => crew.end(), 60_000);

/** Runs a fleet in it, and expects of it what holds in any. */
async function under(
  weather: Scenario['weather'],
  more: Partial<Scenario> = {},
  explained: readonly string[] = [],
): Promise<Fleet> {
  await redis.client().flushall();
  const scenario: Scenario = {
    ...{ store: { kind: 'redis', port: redis.port }, budget: { limit: 8, windowMs: 1000 }, exits: 6, flaky: 0.02 },
    ...{ forMs: 3500, ...more, weather },
  };
  const fleet = await Fleet.run(crew, scenario);
  expectPromises(fleet, scenario, explained);
  return fleet;
}

const workersOf = (fleet: Fleet, name: 'store-error' | 'store-back'): number =>
  new Set(fleet.events(name).map(({ worker }) => worker)).size;

const arrivedIn = (fleet: Fleet, from: number, to: number): number =>
  fleet.world.arrivals.filter(({ at }) => at > from && at < to).length;

describe('eight workers whose clocks are off by five minutes', () => {
  it('keep to one budget, and use it', async () => {
    const fleet = await under(undefined);
    expect(fleet.used).toBeGreaterThan(0.4);
    expect(fleet.events('store-error')).toEqual([]);
  }, 60_000);

  it('with SCRIPT FLUSH every so often', async () => {
    const client = redis.client();
    const fleet = await under(() => every(300, 10, () => client.script('FLUSH')));
    expect(fleet.used).toBeGreaterThan(0.4);
    expect(fleet.events('store-error')).toEqual([]);
  }, 60_000);

  it('with CLIENT KILL every so often', async () => {
    const client = redis.client();
    await under(() => every(500, 7, () => client.call('CLIENT', 'KILL', 'TYPE', 'normal')));
  }, 60_000);

  it('with a worker killed and Redis restarted with its data in turn', async () => {
    const fleet = await under(
      async (fleet) => {
        await every(1200, 3, async () => {
          await fleet.killOne();
          await redis.restart({ keep: true });
        });
      },
      { kills: 3 },
    );
    expect(fleet.killed).toBe(3);
  }, 60_000);

  it('with Redis killed by SIGKILL, and started with its data after a while: each goes on with its share', async () => {
    let [from, to] = [0, 0];
    const fleet = await under(async () => {
      await sleep(1000);
      await redis.kill();
      from = performance.now();
      await sleep(4500);
      to = performance.now();
      await redis.start();
      await sleep(2000);
    });
    expect(arrivedIn(fleet, from + 1500, to)).toBeGreaterThan(20);
    expect([workersOf(fleet, 'store-error'), workersOf(fleet, 'store-back')]).toEqual([8, 8]);
  }, 60_000);

  it('with Redis restarted empty: all rest for a window', async () => {
    const fleet = await under(() => every(1500, 3, () => redis.restart({ keep: false })));
    expect(fleet.used).toBeGreaterThan(0.1);
  }, 60_000);

  it('with Redis frozen for five seconds: each goes on with its share', async () => {
    let [from, to] = [0, 0];
    const fleet = await under(async () => {
      await sleep(1000);
      redis.freeze();
      from = performance.now();
      await sleep(5000);
      to = performance.now();
      redis.thaw();
      await sleep(2000);
    });
    expect(arrivedIn(fleet, from + 1500, to)).toBeGreaterThan(20);
    expect([workersOf(fleet, 'store-error'), workersOf(fleet, 'store-back')]).toEqual([8, 8]);
  }, 60_000);

  it.each(['wait', 'fail'] as const)(
    "with Redis frozen for a while, and onStoreError: '%s'",
    async (onStoreError) => {
      let [from, to] = [0, 0];
      const fleet = await under(
        async () => {
          await sleep(1000);
          redis.freeze();
          from = performance.now();
          await sleep(2000);
          to = performance.now();
          redis.thaw();
          await sleep(1500);
        },
        { onStoreError },
        onStoreError === 'fail' ? ['PACELINE_STORE'] : [],
      );
      expect([arrivedIn(fleet, from + 500, to), arrivedIn(fleet, to, Infinity) > 20]).toEqual([0, true]);
      expect(fleet.endings().PACELINE_STORE > 0).toBe(onStoreError === 'fail');
      expect([workersOf(fleet, 'store-error'), workersOf(fleet, 'store-back')]).toEqual([8, 8]);
    },
    60_000,
  );
});
