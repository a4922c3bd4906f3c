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
afterAll(async () => {
  await crew.end();
  await crew[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
}, 60_000);

/** Runs a fleet in it, and expects of it what holds in any. */
async function under(
  weather: Scenario['weather'],
  more: Partial<Scenario> = {},
  explained: readonly string[] = [],
): Promise<Fleet> {
  await redis.client().flushall();
  const scenario: Scenario = {
    ...{ store: { kind: 'redis', port: redis.port }, budget: { limit: 8, windowMs: 1000 }, exits: 6, flaky: 0.02 },
    ...{ forMs: 5000, ...more, weather },
  };
  const fleet = await Fleet.run(crew, scenario);
  console.log(
    expect.getState().currentTestName,
    fleet.endings(),
    fleet.sends,
    fleet.world.overBudget,
    fleet.used,
    fleet.events('store-error').length,
    fleet.events('store-back').length,
    fleet.tookMs,
  );
  expectPromises(fleet, scenario, explained);
  return fleet;
}

const workersOf = (fleet: Fleet, name: 'store-error' | 'store-back'): number =>
  new Set(fleet.events(name).map(({ worker }) => worker)).size;

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
    await under(() => every(600, 6, () => client.call('CLIENT', 'KILL', 'TYPE', 'normal')));
  }, 60_000);

  it('with a worker killed and Redis restarted with its data in turn', async () => {
    const fleet = await under(
      async (fleet) => {
        await every(1500, 3, async () => {
          await fleet.killOne();
          await redis.restart({ keep: true });
        });
      },
      { kills: 3 },
    );
    expect(fleet.killed).toBe(3);
  }, 60_000);

  it('with Redis killed by SIGKILL, and started with its data after a while', async () => {
    const fleet = await under(() =>
      every(1500, 2, async () => {
        await redis.kill();
        await sleep(700);
        await redis.start();
      }),
    );
    expect(fleet.used).toBeGreaterThan(0.1);
  }, 60_000);

  it('with Redis restarted empty: all rest for a window', async () => {
    const fleet = await under(() => every(1700, 3, () => redis.restart({ keep: false })));
    expect(fleet.used).toBeGreaterThan(0.1);
  }, 60_000);

  it('with Redis frozen for five seconds: each goes on with its share', async () => {
    let [from, to] = [0, 0];
    const fleet = await under(async () => {
      await sleep(1500);
      redis.freeze();
      from = performance.now();
      await sleep(5000);
      to = performance.now();
      redis.thaw();
      await sleep(2500);
    });
    const alone = fleet.world.arrivals.filter(({ at }) => at > from + 1500 && at < to);
    expect(alone.length).toBeGreaterThan(20);
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
          await sleep(2500);
          to = performance.now();
          redis.thaw();
        },
        { onStoreError },
        onStoreError === 'fail' ? ['PACELINE_STORE'] : [],
      );
      expect(fleet.world.arrivals.filter(({ at }) => at > from + 500 && at < to)).toEqual([]);
      expect(fleet.endings().PACELINE_STORE > 0).toBe(onStoreError === 'fail');
      expect([workersOf(fleet, 'store-error'), workersOf(fleet, 'store-back')]).toEqual([8, 8]);
    },
    60_000,
  );
});
