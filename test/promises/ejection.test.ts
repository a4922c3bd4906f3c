import fc from 'fast-check';
import type { ProxyManager } from 'paceline';
import { mockGateway, mockTarget } from 'paceline/testing';
import { describe, expect, it } from 'vitest';
import { pacedManager, shopBudget } from '../support/paced.ts';
import { type Answer, Stage } from '../support/stage.ts';

// P5: an egress that is out gets nothing until its time is over, then one probe at a time; and never more than a share of a pool is out.

const budget = { limit: 200, windowMs: 1000, spacing: 'burst' } as const;
const LISTS = { static: (n: number) => ({ proxies: Array.from({ length: n }, (_, i) => `http://10.0.1.${i + 1}:1`) }) };

/** All are refused, while sessions keep coming up on exits that are known: those on trial are no part of the pool yet. */
const ALL_BAD: Scenario = {
  ...{ seed: 2147483644, exits: 6, pool: 'sessions', bad: 8, refused: 1 },
  ...{ untilMs: Infinity, share: 0.5, latencyMs: 10 },
};

/** Most of a list is refused for a minute, and let in again then. */
const RELENTING: Scenario = {
  ...{ seed: 1, exits: 8, pool: 'list', bad: 6, refused: 1 },
  ...{ untilMs: 60_000, share: 0.8, latencyMs: 10 },
};

const scenario = fc.record({
  seed: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
  exits: fc.integer({ min: 2, max: 8 }),
  pool: fc.constantFrom('sessions', 'list'),
  /** Exits that the target refuses, and in which share of their requests. */
  bad: fc.integer({ min: 1, max: 8 }),
  refused: fc.constantFrom(0.7, 0.9, 1),
  /** When it stops. */
  untilMs: fc.constantFrom(60_000, Infinity),
  share: fc.constantFrom(0.25, 0.5, 0.8),
  latencyMs: fc.constantFrom(10, 1000),
});
type Scenario = typeof scenario extends fc.Arbitrary<infer T> ? T : never;

async function run(s: Scenario): Promise<{ stage: Stage; ends: Map<unknown, number> }> {
  const bad = new Set<string>();
  const stage: Stage = new Stage({
    seed: s.seed,
    world: { exits: s.exits, latencyMs: [1, s.latencyMs] },
    answer: ({ egress }, random): Answer => {
      if (bad.size < s.bad) bad.add(egress);
      const refused = bad.has(egress) && stage.clock.now() < s.untilMs && random() < s.refused;
      return { status: refused ? 403 : 200 };
    },
    manager: {
      pools: {
        p: s.pool === 'list' ? LISTS.static(s.exits) : { gateway: 'http://u-{session}:p@gw.test:1', sessionTtlMs: 1e9 },
      },
      targets: [{ match: 'a.test', budget, concurrency: 20 }],
      health: { maxEjectedShare: s.share },
      retry: { baseMs: 10, capMs: 100 },
      adaptive: false,
    },
  });
  const ends = await stage.load(6, 200_000, async (n) => {
    const status = await stage.get(`http://a.test/${n}`);
    await new Promise<void>((resolve) => stage.clock.setTimeout(resolve, 400));
    return status;
  });
  await stage.close();
  return { stage, ends };
}

describe('P5 in virtual time', () => {
  it('out means out: nothing until the time is over, then one probe until it is answered; at most the share of the pool at once', async () => {
    let probes = 0;
    let returns = 0;
    await fc.assert(
      fc.asyncProperty(scenario, async (s) => {
        const { stage } = await run(s);
        const { passages } = stage;
        const news = stage.told.filter(({ name }) => name === 'eject' || name === 'return');
        const out = new Map<string, number>();
        for (const { at, name, event } of news) {
          const { egress, forMs } = event as { egress: string; forMs: number };
          const own = passages.filter((one) => one.egress === egress && one.sentAt > at);
          const next = news.find((one) => one.at > at && (one.event as { egress: string }).egress === egress);
          if (name === 'return') {
            out.delete(egress);
            returns++;
            continue;
          }
          out.set(egress, at);
          const most = Math.max(1, Math.floor(s.share * (s.exits + (s.pool === 'list' ? 0 : 1))));
          expect(out.size, 'out at once').toBeLessThanOrEqual(most);
          const during = own.filter(({ sentAt }) => sentAt < at + forMs - 1e-6);
          expect(during, `sent over ${egress}, out since ${at}`).toEqual([]);
          const [probe, ...others] = own.filter(({ sentAt }) => sentAt <= (next?.at ?? Infinity));
          if (probe === undefined) continue;
          probes++;
          expect(
            others.filter(({ sentAt }) => sentAt < Math.min(probe.endedAt, probe.sentAt + 60_000)),
            'beside the probe',
          ).toEqual([]);
        }
      }),
      { numRuns: 15, examples: [[ALL_BAD], [RELENTING]] },
    );
    expect(probes).toBeGreaterThan(10);
    expect(returns).toBeGreaterThan(2);
  });

  it.each([1, 2, 3, 4, 5, 6, 7, 8])(
    'a refused request leaves over another egress next, however large the budget (seed %i)',
    async (seed) => {
      for (const pool of [{ gateway: 'http://u-{session}:p@gw.test:1' }, LISTS.static(3)]) {
        const stage: Stage = new Stage({
          seed,
          world: { exits: 3 },
          answer: ({ egress }) => ({ status: egress === stage.passages[0].egress ? 403 : 200 }),
          manager: { pools: { p: pool }, targets: [{ match: 'a.test', budget }] },
        });
        expect(await stage.clock.runUntil(stage.get('http://a.test/'))).toBe(200);
        expect(stage.passages.length).toBe(2);
        await stage.close();
      }
    },
  );

  it('the last way out is never ejected', async () => {
    const stage = new Stage({
      answer: () => ({ status: 403 }),
      manager: { pools: { own: { direct: true } }, targets: [{ match: 'a.test', budget }] },
    });
    await stage.load(5, 20_000, (n) => stage.get(`http://a.test/${n}`));
    await stage.close();
    expect(stage.passages.length).toBeGreaterThan(100);
    expect(stage.tales('eject')).toEqual([]);
  });

  it('a good egress that fails one probe too many stays out longer each time', async () => {
    const stage: Stage = new Stage({
      answer: ({ egress }) => ({ status: egress.startsWith('10.0.1.1') ? 403 : 200 }),
      manager: { pools: { p: LISTS.static(3) }, targets: [{ match: 'a.test', budget }], adaptive: false },
    });
    await stage.load(4, 200_000, async (n) => {
      const status = await stage.get(`http://a.test/${n}`);
      await new Promise<void>((resolve) => stage.clock.setTimeout(resolve, 200));
      return status;
    });
    await stage.close();
    const times = stage.tales('eject').map(({ event }) => Math.floor(event.forMs / 1000));
    expect(times.slice(0, 3)).toEqual([30, 60, 90].slice(0, times.length));
    expect(times.length).toBeGreaterThanOrEqual(3);
  });
});

describe('P5 on real sockets', () => {
  it('an exit that the site refuses gets no more requests while it is out; all pages come', async () => {
    await using target = await mockTarget({ handler: ({ ip }) => (ip === '127.0.1.1' ? { status: 403 } : undefined) });
    await using gateway = await mockGateway({ exits: 4, assign: 'round-robin', hosts: { 'shop.test': target.url } });
    await using proxies: ProxyManager = pacedManager({
      gateway: gateway.url,
      targets: shopBudget(100, 1000),
      health: { minSamples: 3 },
    });
    let outAt = 0;
    proxies.on('eject', ({ egress, forMs }) => {
      outAt ||= performance.now();
      expect([egress, Math.floor(forMs / 1000)]).toEqual(['127.0.1.1', 30]);
    });
    const all: number[] = [];
    // Each refusal is followed by a rest: how many rounds it takes is a matter of the machine's speed.
    for (let i = 0; i < 60 || (outAt === 0 && i < 2000); i++) {
      const some = Array.from({ length: 5 }, async () => {
        const response = await proxies.fetch(`http://shop.test/${i}`);
        await response.text();
        return response.status;
      });
      all.push(...(await Promise.all(some)));
    }
    expect(new Set(all)).toEqual(new Set([200]));
    expect(outAt).toBeGreaterThan(0);
    const refused = target.arrivals.filter(({ ip }) => ip === '127.0.1.1');
    expect(refused.length).toBeGreaterThanOrEqual(3);
    // Some were under way when it was ejected.
    expect(refused.length).toBeLessThanOrEqual(8);
  });
});
