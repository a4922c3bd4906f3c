import { it } from 'vitest';
import { startRedis } from '../support/redis-server.ts';
import { Crew } from './crew.ts';
import { Fleet, type Scenario } from './harness.ts';

it.each([
  { workers: 1, width: 48, kind: 'memory' },
  { workers: 1, width: 48, kind: 'redis' },
  { workers: 8, width: 6, kind: 'redis' },
  { workers: 8, width: 6, kind: 'redis', seed: 2 },
  { workers: 8, width: 6, kind: 'redis', seed: 3 },
] as const)(
  '%j',
  async ({ kind, ...more }) => {
    await using crew = new Crew();
    await using redis = await startRedis();
    const scenario: Scenario = {
      store: kind === 'redis' ? { kind, port: redis.port } : { kind },
      budget: { limit: 8, windowMs: 1000 },
      exits: 6,
      forMs: 5000,
      ...more,
    };
    const fleet = await Fleet.muster(crew, scenario);
    const g = fleet.world.gateway;
    const counts: string[] = [];
    const t = setInterval(() => counts.push(`${fleet.world.sessions}/${g.stats().connects}`), 1000);
    await fleet.load(5000);
    clearInterval(t);
    await fleet.leave();
    const first = fleet.world.arrivals[0].at;
    const per = Object.values(Object.groupBy(fleet.world.arrivals, ({ at }) => Math.floor((at - first) / 1000))).map(
      (x) => x!.length,
    );
    const seen = new Map<string, number>();
    for (const { ip, at } of fleet.world.arrivals) if (!seen.has(ip)) seen.set(ip, Math.round(at - first));
    console.log(
      kind,
      JSON.stringify(more),
      'per s',
      per,
      'exits at',
      [...seen.values()],
      'sessions/connects',
      counts,
      fleet.world.sessions,
      g.stats().connects,
      'over',
      fleet.world.overBudget,
    );
    await crew.end();
    await fleet[Symbol.asyncDispose]();
  },
  60000,
);
