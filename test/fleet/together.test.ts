import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type RedisServer, startRedis } from '../support/redis-server.ts';
import { Crew } from './crew.ts';
import { expectPromises, Fleet, type Scenario, sleep } from './harness.ts';
import type { StorePlace } from './protocol.ts';

// What the workers of a fleet know of each other through one Redis: sessions, ejected exits, a target that is down, lost places.

let crew: Crew;
let redis: RedisServer;
let store: StorePlace;

beforeAll(async () => {
  crew = new Crew();
  [redis] = await Promise.all([startRedis(), crew.stock(8)]);
  store = { kind: 'redis', port: redis.port };
}, 60_000);
afterAll(() => redis[Symbol.asyncDispose](), 60_000);
afterAll(() => crew.end(), 60_000);
beforeEach(async () => void (await redis.client().flushall()));

describe('sessions', () => {
  it('that one worker has opened serve all of them', async () => {
    for (const kind of ['redis', 'memory'] as const) {
      const scenario: Scenario = {
        store: kind === 'redis' ? store : { kind },
        ...{ budget: { limit: 100, windowMs: 1000 }, exits: 30, assign: 'round-robin', forMs: 0 },
      };
      await using fleet = await Fleet.muster(crew, scenario);
      const [first, ...others] = fleet.members;
      const fetchSome = async (member: typeof first): Promise<void> => {
        for (let i = 0; i < 3; i++) expect((await fleet.fetch(member, `http://a.test/${i}`)).status).toBe(200);
      };
      await fetchSome(first);
      expect(fleet.world.sessions).toBe(1);
      await Promise.all(others.map(fetchSome));
      expect(fleet.world.sessions, kind).toBe(kind === 'redis' ? 1 : 8);
      expect(fleet.world.target.ips()).toHaveLength(fleet.world.sessions);
      // Each has a tunnel of its own in that session.
      expect(fleet.world.gateway.stats().connects).toBe(8);
      await fleet.leave();
    }
  }, 60_000);

  it('are as many as the work needs, however many workers share it', async () => {
    const scenario: Scenario = {
      ...{ store, budget: { limit: 8, windowMs: 1000 }, exits: 60, assign: 'round-robin' },
      ...{ latencyMs: [200, 300], width: 2, forMs: 3500 },
    };
    const alone = await Fleet.run(crew, { ...scenario, workers: 1, width: 16 });
    await redis.client().flushall();
    const fleet = await Fleet.run(crew, scenario);
    expectPromises(fleet, scenario);
    expect(fleet.world.sessions).toBeGreaterThan(4);
    expect(fleet.world.sessions).toBeLessThan(1.5 * alone.world.sessions);
  }, 60_000);

  it('of different workers on one exit have one budget', async () => {
    const scenario: Scenario = {
      store,
      ...{ budget: { limit: 8, windowMs: 500 }, exits: 1, sticky: true, width: 3, forMs: 2500 },
    };
    const fleet = await Fleet.run(crew, scenario);
    expectPromises(fleet, scenario);
    expect([fleet.world.sessions, fleet.world.target.ips().length]).toEqual([8, 1]);
    expect(fleet.used).toBeGreaterThan(0.4);
  }, 60_000);
});

describe('P5: an exit that the site refuses', () => {
  it('stays out for all workers for its time, then gets one probe in all', async () => {
    const bad = '127.0.1.2';
    const baseMs = 1000;
    const scenario: Scenario = {
      store,
      ...{ budget: { limit: 20, windowMs: 500 }, exits: 6, width: 3, forMs: 5500 },
      answer: (ip) => (ip === bad ? { status: 403 } : undefined),
      manager: { health: { baseMs, minSamples: 5, healthyMs: 60_000 }, adaptive: false },
    };
    const fleet = await Fleet.run(crew, scenario);
    expectPromises(fleet, scenario, ['403']);
    const refused = fleet.world.arrivals.filter(({ ip }) => ip === bad).map(({ at }) => at);
    const [firstOut, ...later] = fleet.events('eject');
    expect(new Set(fleet.events('eject').map(({ event }) => event.egress))).toEqual(new Set([bad]));
    // What was under way when it was ejected; then a probe after one second, another two seconds after that …
    const probes = refused.filter((at) => at > firstOut.at + 500);
    expect(refused.length - probes.length).toBeGreaterThanOrEqual(5);
    expect(probes.length).toBeGreaterThanOrEqual(2);
    expect(later).toHaveLength(probes.length);
    const outs = fleet.events('eject');
    probes.forEach((at, i) => {
      const waited = at - outs[i].at;
      expect(waited, `probe ${i}`).toBeGreaterThan((i + 1) * baseMs - 250);
    });
  }, 60_000);
});

describe('P3: a target that is down', () => {
  it('is sent a fifth more than it is asked for, and what each worker may always try again', async () => {
    const scenario: Scenario = {
      store,
      ...{ budget: { limit: 2000, windowMs: 1000 }, exits: 4, forMs: 2500 },
      answer: () => ({ status: 503 }),
      manager: { breaker: false, adaptive: false },
    };
    const fleet = await Fleet.run(crew, scenario);
    expectPromises(fleet, scenario, ['503']);
    expect(fleet.sends).toBeGreaterThan(fleet.requests * 1.1);
  }, 60_000);

  it('is left alone by all workers when some of them have noticed', async () => {
    const scenario: Scenario = {
      store,
      ...{ budget: { limit: 2000, windowMs: 1000 }, exits: 4, forMs: 2500 },
      answer: () => ({ status: 503 }),
      manager: { breaker: { openMs: 60_000 }, adaptive: false, timeouts: { queueMs: 500 } },
    };
    const fleet = await Fleet.run(crew, scenario);
    expectPromises(fleet, scenario, ['503', 'PACELINE_CIRCUIT_OPEN', 'PACELINE_QUEUE_TIMEOUT']);
    expect(fleet.sends).toBeLessThan(150);
  }, 60_000);
});

describe('P4: places of a worker that was killed', () => {
  it('come back at their deadline, neither before nor twice', async () => {
    const scenario: Scenario = { store, budget: { limit: 8, windowMs: 1000 }, workers: 3, forMs: 0 };
    await using fleet = await Fleet.muster(crew, scenario);
    const [victim, other, third] = fleet.members;
    const target = 'places.test';
    let id = 0;
    const take = async (member: typeof victim, count: number, deadlineMs: number): Promise<number> => {
      const asked = { target, count, concurrency: 5, deadlineMs };
      return (await member.ask({ do: 'places', id: ++id, asked }, 'places')).granted;
    };
    const active = async (): Promise<number> =>
      (await third.ask({ do: 'inspect', id: ++id, target }, 'inspect')).snapshot.targets[0].active;
    const before = performance.now();
    expect(await take(victim, 3, 2000)).toBe(3);
    expect(await take(other, 5, 60_000)).toBe(2);
    expect(await take(third, 5, 60_000)).toBe(0);
    const after = performance.now();
    await fleet.kill(victim);
    let got = 0;
    while (got === 0 && performance.now() < before + 10_000) {
      const seen = await active();
      if (performance.now() < before + 2000) expect(seen).toBe(5);
      got = await take(third, 5, 60_000);
      await sleep(20);
    }
    const now = performance.now();
    expect(got).toBe(3);
    expect(now).toBeGreaterThanOrEqual(before + 2000);
    expect(now).toBeLessThan(after + 3000);
    expect([await take(third, 5, 60_000), await active()]).toEqual([0, 5]);
    await fleet.leave();
  }, 60_000);
});
