import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RedisServer, startRedis } from '../support/redis-server.ts';
import { Crew } from './crew.ts';
import { every, expectPromises, Fleet, type Scenario, sleep } from './harness.ts';

// What may become of the Redis that a fleet shares; and every worker's wall clock is wrong.

const FIVE_MINUTES = 300_000;

let crew: Crew;
let redis: RedisServer;

beforeAll(async () => {
  crew = new Crew([FIVE_MINUTES, -FIVE_MINUTES, 0, 17_000]);
  [redis] = await Promise.all([startRedis(), crew.stock(8)]);
}, 60_000);
afterAll(async () => {
  await crew.end();
  await crew[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
}, 60_000);

async function under(weather: Scenario['weather'], more: Partial<Scenario> = {}): Promise<Fleet> {
  await redis.client().flushall();
  const scenario: Scenario = {
    ...{ store: { kind: 'redis', port: redis.port }, budget: { limit: 8, windowMs: 1000 }, exits: 6, flaky: 0.02 },
    ...{ forMs: 5000, ...more, weather },
  };
  const fleet = await Fleet.run(crew, scenario);
  console.log(
    expect.getState().currentTestName,
    fleet.requests,
    fleet.sends,
    fleet.world.overBudget,
    fleet.sends / (fleet.tookMs / 1000) / fleet.mostPerSecond,
    fleet.events('store-error').length,
    fleet.events('store-back').length,
    fleet.tookMs,
  );
  expectPromises(fleet, scenario);
  return fleet;
}

describe('eight workers whose clocks are off by up to five minutes', () => {
  it('keep to one budget, and use it', async () => {
    const fleet = await under(undefined);
    expect(fleet.sends / (fleet.tookMs / 1000) / fleet.mostPerSecond).toBeGreaterThan(0.5);
    expect(fleet.events('store-error')).toEqual([]);
  }, 60_000);

  it('with one killed by SIGKILL every second', async () => {
    const fleet = await under((fleet) => every(1000, 4, () => fleet.killOne()), { kills: 4 });
    expect(fleet.killed).toBe(4);
  }, 60_000);

  it('SCRIPT FLUSH every so often', async () => {
    const client = redis.client();
    const fleet = await under(() => every(300, 10, () => client.script('FLUSH')));
    expect(fleet.sends / (fleet.tookMs / 1000) / fleet.mostPerSecond).toBeGreaterThan(0.4);
    expect(fleet.events('store-error')).toEqual([]);
  }, 60_000);

  it('CLIENT KILL every so often', async () => {
    const client = redis.client();
    await under(() => every(700, 6, () => client.call('CLIENT', 'KILL', 'TYPE', 'normal')));
  }, 60_000);

  it('Redis restarted with its data', async () => {
    await under(() => every(1500, 3, () => redis.restart({ keep: true })));
  }, 60_000);

  it('Redis killed by SIGKILL, and started with its data', async () => {
    await under(() =>
      every(2000, 2, async () => {
        await redis.kill();
        await sleep(500);
        await redis.start();
      }),
    );
  }, 60_000);

  it('Redis restarted empty: everything rests for a window', async () => {
    await under(() => every(1700, 3, () => redis.restart({ keep: false })));
  }, 60_000);

  it('Redis frozen for five seconds: each goes on with its share', async () => {
    let [from, to] = [0, 0];
    const fleet = await under(
      async () => {
        await sleep(1500);
        redis.freeze();
        from = performance.now();
        await sleep(5000);
        to = performance.now();
        redis.thaw();
        await sleep(2500);
      },
      { forMs: 9000 },
    );
    expect(fleet.world.arrivals.filter(({ at }) => at > from + 3500 && at < to).length).toBeGreaterThan(20);
    expect(new Set(fleet.events('store-error').map(({ worker }) => worker)).size).toBe(8);
    expect(new Set(fleet.events('store-back').map(({ worker }) => worker)).size).toBe(8);
  }, 60_000);

  it.each(['wait', 'fail'] as const)(
    "Redis frozen for a while, with onStoreError: '%s'",
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
      );
      expect(fleet.world.arrivals.filter(({ at }) => at > from + 500 && at < to)).toEqual([]);
    },
    60_000,
  );
});
