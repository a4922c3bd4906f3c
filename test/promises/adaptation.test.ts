import { ConfigError, type TargetRule } from 'paceline';
import { countOver, worstWindow } from 'paceline/testing';
import { describe, expect, it } from 'vitest';
import { Stage } from '../support/stage.ts';

// What adapts, what counts for more than one, and limits that hold at once. Counted at the target.

describe('a site that tolerates less than the rule says', () => {
  it('is asked for what it tolerates: refusals become rare, no page is lost, and the budget comes back with its patience', async () => {
    const windowMs = 60_000;
    const [TIGHT, LOOSE] = [5, 8];
    const RELENTS = 60 * windowMs;
    const seen = new Map<string, number[]>();
    const stage: Stage = new Stage({
      world: { exits: 8 },
      answer: ({ egress, arrivedAt }) => {
        const before = (seen.get(egress) ?? []).filter((at) => at > arrivedAt - windowMs);
        const limit = arrivedAt < RELENTS ? TIGHT : LOOSE;
        if (before.length >= limit) {
          return {
            status: 429,
            headers: { 'retry-after': String(Math.ceil((before[0] + windowMs - arrivedAt) / 1000)) },
          };
        }
        seen.set(egress, [...before, arrivedAt]);
        return { status: 200 };
      },
      manager: { targets: [{ match: 'a.test', budget: { limit: 8, windowMs, spacing: 'burst' } }] },
    });
    const ends = await stage.load(12, 100 * windowMs, (n) => stage.get(`http://a.test/${n}`));
    await stage.close();
    expect([...ends.keys()]).toEqual([200]);
    const { passages } = stage;
    const limitedShare = (from: number, to: number): number => {
      const some = passages.filter(({ arrivedAt }) => arrivedAt >= from * windowMs && arrivedAt < to * windowMs);
      return some.filter(({ status }) => status === 429).length / some.length;
    };
    const adapted = stage.tales('adapt').filter(({ event }) => event.of === 'budget');
    expect(adapted.length).toBeGreaterThan(2);
    expect(limitedShare(10, 60)).toBeLessThan(0.12);
    // Never zero: it tries whether one more is tolerated by now.
    expect(
      Math.max(...adapted.filter(({ at }) => at > 10 * windowMs && at < RELENTS).map(({ event }) => event.limit)),
    ).toBeLessThanOrEqual(6);
    expect(adapted.at(-1)!.event.limit).toBe(8);
    expect(limitedShare(70, 100)).toBe(0);
    for (const times of stage.world.arrivals().values()) expect(worstWindow(times, windowMs)).toBeLessThanOrEqual(8);
  });
});

/** Arrival times of one egress, each as often as it counts. */
function weighted(stage: Stage, costOf: (path: string) => number): Map<string, number[]> {
  const all = new Map<string, number[]>();
  for (const { egress, path, arrivedAt } of stage.passages) {
    const times = all.get(egress) ?? [];
    for (let i = 0; i < costOf(path); i++) times.push(arrivedAt);
    all.set(egress, times);
  }
  for (const times of all.values()) times.sort((a, b) => a - b);
  return all;
}

const costOf = (path: string): number => Number(path.split('/')[1]);

describe('pace.cost', () => {
  it.each(['ip', 'account'] as const)(
    'no window holds more than the limit, each arrival counted by its cost (%s)',
    async (scope) => {
      const [limit, windowMs] = [10, 5000];
      const stage: Stage = new Stage({
        world: { exits: 3, latencyMs: [1, 800] },
        answer: (_, random) => ({ status: random() < 0.1 ? 503 : 200 }),
        manager: {
          targets: [{ match: 'a.test', budget: { limit, windowMs, spacing: 'burst' }, scope }],
          adaptive: false,
        },
      });
      await stage.load(15, 100_000, (n) => {
        const cost = [1, 1, 2, 3, 7, 10][n % 6];
        return stage.get(`http://a.test/${cost}/${n}`, { pace: { cost } });
      });
      await stage.close();
      const over =
        scope === 'ip'
          ? [...weighted(stage, costOf).values()]
          : [[...weighted(stage, costOf).values()].flat().sort((a, b) => a - b)];
      for (const times of over) expect(countOver(times, limit, windowMs)).toBe(0);
      // … and it is used: at least four fifths of what the windows could hold.
      const routes = scope === 'ip' ? 3 : 1;
      expect(over.flat().length).toBeGreaterThan(0.8 * routes * limit * (100_000 / windowMs - 2));
    },
  );

  it('one that takes the whole budget gets its turn among many cheap ones', async () => {
    const stage = new Stage({
      world: { exits: 1 },
      manager: { targets: [{ match: 'a.test', budget: { limit: 10, windowMs: 5000, spacing: 'burst' } }] },
    });
    const { clock } = stage;
    let costlyAt = Infinity;
    const cheap = stage.load(20, 60_000, (n) => {
      if (n === 30) void stage.get('http://a.test/all', { pace: { cost: 10 } }).then(() => (costlyAt = clock.now()));
      return stage.get(`http://a.test/${n}`);
    });
    await cheap;
    await stage.close();
    const asked = 10_000;
    expect(costlyAt).toBeLessThan(asked + 4 * 5000);
  });

  it('more than a window can hold is refused at once', async () => {
    const stage = new Stage({
      manager: {
        targets: [
          { match: 'a.test', budget: { limit: 10, windowMs: 1000 }, rate: { limit: 4, windowMs: 1000, path: '/slow' } },
        ],
      },
    });
    const refused = (url: string, cost: number): Promise<unknown> =>
      stage.clock.runUntil(stage.get(url, { pace: { cost } }).catch((error) => error));
    expect(await refused('http://a.test/', 11)).toBeInstanceOf(ConfigError);
    expect(await refused('http://a.test/slow', 5)).toBeInstanceOf(ConfigError);
    expect(await refused('http://a.test/', 5)).toBe(200);
    expect(stage.passages.length).toBe(1);
    await stage.close();
  });
});

describe('several rates', () => {
  it('both hold at the target, and what waits for the narrow one holds up nobody else', async () => {
    const rule: TargetRule = {
      match: 'api.test',
      budget: { limit: 1000, windowMs: 1000, spacing: 'burst' },
      rate: [
        { limit: 50, windowMs: 10_000, burst: 25 },
        { limit: 5, windowMs: 10_000, path: '/search' },
      ],
    };
    const stage = new Stage({
      world: { latencyMs: [1, 20], dialMs: [0, 0] },
      manager: { pools: { own: { direct: true } }, targets: [rule] },
    });
    const waits: number[] = [];
    const searches = Promise.allSettled(Array.from({ length: 40 }, (_, i) => stage.get(`http://api.test/search/${i}`)));
    await stage.load(2, 60_000, async (n) => {
      const from = stage.clock.now();
      const status = await stage.get(`http://api.test/items/${n}`);
      waits.push(stage.clock.now() - from);
      return status;
    });
    await stage.clock.runUntil(searches);
    await stage.close();
    const times = (of: (path: string) => boolean): number[] =>
      stage.passages.filter(({ path }) => of(path)).map(({ sentAt }) => sentAt);
    expect(
      worstWindow(
        times(() => true),
        10_000,
      ),
    ).toBeLessThanOrEqual(50);
    expect(
      worstWindow(
        times((path) => path.startsWith('/search')),
        10_000,
      ),
    ).toBeLessThanOrEqual(5);
    expect(times((path) => path.startsWith('/search')).length).toBe(40);
    expect(times((path) => path.startsWith('/items')).length).toBeGreaterThan(80);
    expect(Math.max(...waits)).toBeLessThan(2000);
  });

  it('an account waits on one timer to a known instant: nothing polls', async () => {
    const stage = new Stage({
      world: { exits: 4 },
      manager: {
        targets: [{ match: 'a.test', budget: { limit: 5, windowMs: 60_000, spacing: 'burst' }, scope: 'account' }],
      },
    });
    const { clock } = stage;
    let timers = 0;
    const real = clock.setTimeout;
    clock.setTimeout = (...args) => {
      timers++;
      return real(...args);
    };
    await stage.settle(Array.from({ length: 30 }, (_, i) => stage.get(`http://a.test/${i}`)));
    expect(clock.now()).toBeGreaterThan(5 * 60_000);
    expect(timers).toBeLessThan(300);
    await stage.close();
  });
});
