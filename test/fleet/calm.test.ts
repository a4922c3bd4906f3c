import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RedisServer, startRedis } from '../support/redis-server.ts';
import { Crew } from './crew.ts';
import { every, expectPromises, Fleet, type Scenario } from './harness.ts';
import type { StorePlace } from './protocol.ts';

// Eight processes, each with a manager and gateway sessions of its own, at one target; P1, P3, P4 and P5 as the target counts.

const budget = { limit: 8, windowMs: 1000 } as const;

let crew: Crew;
let redis: RedisServer;
let directory: string;

beforeAll(async () => {
  crew = new Crew();
  directory = await mkdtemp(join(tmpdir(), 'paceline-fleet-'));
  [redis] = await Promise.all([startRedis(), crew.stock(8)]);
}, 60_000);
afterAll(() => rm(directory, { recursive: true, force: true }));
afterAll(() => redis[Symbol.asyncDispose](), 60_000);
afterAll(() => crew.end(), 60_000);

/** A state of its own for every scenario. */
let files = 0;
const places: Readonly<Record<'Redis' | 'SQLite', () => Promise<StorePlace>>> = {
  Redis: async () => {
    await redis.client().flushall();
    return { kind: 'redis', port: redis.port };
  },
  SQLite: async () => ({ kind: 'sqlite', path: join(directory, `${++files}.sqlite`) }),
};
const shared = Object.entries(places).map(([name, place]) => ({ name, place }));

describe('what is counted here', () => {
  it('is broken by workers that share nothing', async () => {
    const scenario: Scenario = {
      store: { kind: 'memory' },
      budget,
      exits: 6,
      concurrency: 4,
      poolConcurrency: 6,
      latencyMs: [40, 120],
      forMs: 2500,
    };
    const fleet = await Fleet.run(crew, scenario);
    expect(fleet.world.overBudget).toBeGreaterThan(20);
    expect(fleet.world.worst).toBeGreaterThan(budget.limit);
    expect(fleet.world.mostAtOnce('a.test')).toBeGreaterThan(4);
    expect(fleet.world.mostAtOnce()).toBeGreaterThan(6);
    expect(() => expectPromises(fleet, scenario)).toThrow('most in one window');
  }, 60_000);
});

describe.each(shared)('eight workers on one $name', ({ place }) => {
  it('keep to one budget, and use it', async () => {
    const scenario: Scenario = { store: await place(), budget, exits: 6, flaky: 0.02, forMs: 4000 };
    const fleet = await Fleet.run(crew, scenario);
    expectPromises(fleet, scenario);
    expect(fleet.used).toBeGreaterThan(0.5);
    expect(fleet.world.target.ips().length).toBe(6);
  }, 60_000);

  it('keep to it with one killed by SIGKILL every second', async () => {
    const scenario: Scenario = {
      ...{ store: await place(), budget, exits: 6, flaky: 0.02, forMs: 4500, kills: 4 },
      weather: (fleet) => every(1000, 4, () => fleet.killOne()),
    };
    const fleet = await Fleet.run(crew, scenario);
    expectPromises(fleet, scenario);
    expect(fleet.killed).toBe(4);
    expect(fleet.used).toBeGreaterThan(0.25);
  }, 60_000);

  it('keep to one number of requests in flight, by target and over the pool, also with workers killed', async () => {
    const scenario: Scenario = {
      ...{ store: await place(), budget: { limit: 200, windowMs: 1000 }, exits: 4, latencyMs: [60, 140] },
      ...{ concurrency: 6, poolConcurrency: 10, manager: { adaptive: false }, forMs: 3500, kills: 2 },
      weather: (fleet) => every(1000, 2, () => fleet.killOne()),
    };
    const fleet = await Fleet.run(crew, scenario);
    expectPromises(fleet, scenario);
    // They were needed.
    expect(fleet.world.mostAtOnce('a.test')).toBeGreaterThan(4);
    expect(fleet.world.mostAtOnce()).toBeGreaterThan(8);
  }, 60_000);
});
