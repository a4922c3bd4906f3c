import { mockGateway, mockTarget } from 'paceline/testing';
import { describe, expect, it } from 'vitest';
import { pacedManager } from '../support/paced.ts';
import { Stage } from '../support/stage.ts';

// A rule with several pools uses the cheapest that works: it climbs on blocks, and comes down again when the cheap one is let in again.

const gateway = (name: string) => ({ gateway: `http://u-{session}:p@${name}.test:1` });
const pools = {
  direct: { direct: true },
  datacenter: { type: 'datacenter' as const, ...gateway('dc') },
  residential: gateway('res'),
};
const names = ['direct', 'datacenter', 'residential'];
const target = {
  match: 'a.test',
  pools: names,
  budget: { limit: 20, windowMs: 10_000, spacing: 'burst' as const },
};

/** A site that turns away what comes through some pools. */
const siteThat = (blocks: (pool: string, at: number) => boolean, seed = 1): Stage =>
  new Stage({
    seed,
    world: { exits: 20 },
    answer: ({ pool, arrivedAt }) => ({ status: blocks(pool, arrivedAt) ? 403 : 200 }),
    manager: { pools, targets: [target] },
  });

const share = (stage: Stage, pool: string, from = 0, to = Infinity): number => {
  const sent = stage.passages.filter(({ sentAt }) => sentAt >= from && sentAt < to);
  return sent.filter((one) => one.pool === pool).length / sent.length;
};

describe('a site that blocks the cheap pools', () => {
  it.each([1, 2, 3, 4, 5])(
    'is reached through the one that works, by those who were waiting, too (seed %i)',
    async (seed) => {
      const stage = siteThat((pool) => pool !== 'residential', seed);
      const all = await stage.settle(Array.from({ length: 150 }, (_, i) => stage.get(`http://a.test/${i}`)));
      const statuses = all.map((end) => (end.status === 'fulfilled' ? end.value : end.reason));
      expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(147);
      expect(stage.tales('escalate').map(({ event: { from, to } }) => [from, to])).toEqual([
        ['direct', 'datacenter'],
        ['datacenter', 'residential'],
      ]);
      // With 20 a window, those who had gone on waiting for the one direct address would have taken a minute.
      expect(stage.clock.now()).toBeLessThan(45_000);
      const up = stage.tales('escalate').at(-1)!.at;
      expect(share(stage, 'residential', up + 60)).toBe(1);
      await stage.close();
    },
  );

  it('a block of the machine’s own address is tried again through the next pool, at once', async () => {
    const stage = siteThat((pool) => pool === 'direct');
    const status = await stage.clock.runUntil(stage.get('http://a.test/'));
    expect([status, stage.passages.map(({ pool }) => pool)]).toEqual([200, ['direct', 'datacenter']]);
    expect(stage.clock.now()).toBeLessThan(1000);
    expect(stage.tales('escalate')).toEqual([]);
    await stage.close();
  });

  it('a request that names its pool stays there', async () => {
    const stage = siteThat((pool) => pool !== 'residential');
    const statuses = Array.from({ length: 30 }, (_, i) =>
      stage.get(`http://a.test/${i}`, { pace: { pool: 'direct' } }),
    );
    const all = await stage.settle(statuses);
    expect(new Set(all.map((end) => end.status === 'fulfilled' && end.value))).toEqual(new Set([403]));
    expect(share(stage, 'direct')).toBe(1);
    // Blocks are not fought over the one address there is.
    expect(stage.passages.length).toBe(30);
    await stage.close();
  });

  it('is probed now and then, and served by the cheap pool again when that is let in', async () => {
    const RELENTS = 1_500_000;
    const stage = siteThat((pool, at) => pool === 'direct' && at < RELENTS);
    const ends = await stage.load(3, 5_000_000, async (n) => {
      const status = await stage.get(`http://a.test/${n}`);
      await new Promise<void>((resolve) => stage.clock.setTimeout(resolve, 3000));
      return status;
    });
    await stage.close();
    const steps = stage.tales('escalate');
    expect(steps.map(({ event: { from, to } }) => [from, to])).toEqual([
      ['direct', 'datacenter'],
      ['datacenter', 'direct'],
    ]);
    const [up, down] = steps.map(({ at }) => at);
    // One probe a round, each round twice as late: after 5, 10 and 20 minutes.
    const probes = stage.passages.filter(({ pool, sentAt }) => pool === 'direct' && sentAt > up && sentAt < RELENTS);
    expect(probes.length).toBeGreaterThanOrEqual(1);
    expect(probes.length).toBeLessThanOrEqual(3);
    expect(down).toBeGreaterThan(RELENTS);
    expect(share(stage, 'direct', down + 500)).toBe(1);
    expect([...ends.keys()]).toEqual([200]);
  });
});

describe('on real sockets', () => {
  it('pages come through the pool that is let in', async () => {
    await using site = await mockTarget({
      handler: ({ ip }) => (ip.startsWith('127.0.8.') ? { status: 403 } : undefined),
    });
    const hosts = { 'shop.test': site.url };
    await using cheap = await mockGateway({ exits: ['127.0.8.1', '127.0.8.2', '127.0.8.3'], hosts });
    await using dear = await mockGateway({ exits: ['127.0.9.1', '127.0.9.2'], hosts });
    await using proxies = pacedManager({
      pools: { cheap: { type: 'datacenter', gateway: cheap.url }, dear: { gateway: dear.url } },
      targets: [
        { match: 'shop.test', pools: ['cheap', 'dear'], budget: { limit: 100, windowMs: 1000, spacing: 'burst' } },
      ],
    });
    const steps: unknown[] = [];
    proxies.on('escalate', (step) => steps.push(step));
    const statuses: number[] = [];
    for (let i = 0; i < 20; i++) {
      const some = Array.from({ length: 3 }, async () => {
        const response = await proxies.fetch(`http://shop.test/${i}`);
        await response.text();
        return response.status;
      });
      statuses.push(...(await Promise.all(some)));
    }
    expect(steps).toEqual([{ target: 'shop.test', from: 'cheap', to: 'dear' }]);
    expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(57);
    expect(site.arrivals.slice(-30).every(({ ip }) => ip.startsWith('127.0.9.'))).toBe(true);
  });
});
