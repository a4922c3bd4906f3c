import fc from 'fast-check';
import { mockGateway, mockTarget } from 'paceline/testing';
import { describe, expect, it } from 'vitest';
import { pacedManager } from '../support/paced.ts';
import { type Answer, mostAtOnce, Stage } from '../support/stage.ts';

// P4 within one process: requests in flight at a target, and requests using a pool's gateway, as they count them. A request that is given up
// ends for them when its tunnel is cut.

const budget = { limit: 1000, windowMs: 1000, spacing: 'burst' } as const;

const scenario = fc.record({
  seed: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
  atTarget: fc.option(fc.integer({ min: 1, max: 12 }), { nil: undefined }),
  inPool: fc.integer({ min: 1, max: 12 }),
  requests: fc.integer({ min: 1, max: 60 }),
  aborts: fc.constantFrom(0, 0.4),
  bad: fc.constantFrom(0, 0.3, 0.7),
  redirects: fc.constantFrom(0, 0.5),
  churn: fc.constantFrom(0, 0.5),
  adaptive: fc.boolean(),
});

describe('P4 in virtual time, under aborts, retries, redirects and moving exits', () => {
  it('never more in flight than allowed at a target, nor more using a pool than it takes', async () => {
    let full = 0;
    await fc.assert(
      fc.asyncProperty(scenario, async (s) => {
        const stage: Stage = new Stage({
          seed: s.seed,
          world: { churn: s.churn, latencyMs: [1, 2000] },
          answer: ({ target }, random): Answer => {
            const dice = random();
            if (dice < s.bad) return { status: [429, 403, 503, undefined][Math.floor(random() * 4)] };
            if (target === 'a.test' && random() < s.redirects)
              return { status: 302, headers: { location: 'http://b.test/' } };
            return { status: 200 };
          },
          manager: {
            pools: { p: { gateway: 'http://u-{session}:p@gw.test:1', concurrency: s.inPool } },
            targets: ['a.test', 'b.test'].map((match) => ({
              match,
              budget,
              ...(s.atTarget !== undefined && { concurrency: s.atTarget }),
            })),
            retry: { baseMs: 10, capMs: 1000 },
            adaptive: s.adaptive,
          },
        });
        const { random, clock, passages, world } = stage;
        await stage.settle(
          Array.from({ length: s.requests }, async (_, i) => {
            const controller = new AbortController();
            if (random() < s.aborts) clock.setTimeout(() => controller.abort(new Error('enough')), random() * 5000);
            return stage.get(`http://${i % 3 === 0 ? 'b' : 'a'}.test/${i}`, { signal: controller.signal });
          }),
        );
        await stage.close();
        for (const sent of Map.groupBy(passages, ({ target }) => target).values()) {
          const most = mostAtOnce(sent.map(({ sentAt, endedAt }) => [sentAt, endedAt]));
          expect(most).toBeLessThanOrEqual(s.atTarget ?? Infinity);
          if (most === s.atTarget && most > 1) full++;
        }
        const using = mostAtOnce(world.uses.map(({ from, to }) => [from, to]));
        expect(using).toBeLessThanOrEqual(s.inPool);
        if (using === s.inPool && using > 1) full++;
        expect(world.uses.every(({ to }) => to < Infinity)).toBe(true);
      }),
      { numRuns: 120 },
    );
    expect(full).toBeGreaterThan(40);
  });

  it('what adapts begins at its starting point, grows while the target stays quiet, and never beyond the pool’s most', async () => {
    const stage = new Stage({
      world: { exits: 30, latencyMs: [200, 400] },
      manager: {
        pools: { m: { type: 'mobile', gateway: 'http://u-{session}:p@gw.test:1' } },
        targets: [{ match: 'a.test', budget }],
      },
    });
    await stage.load(80, 400_000, (n) => stage.get(`http://a.test/${n}`));
    await stage.close();
    const at = (from: number, to: number): number =>
      mostAtOnce(
        stage.passages.filter(({ sentAt }) => sentAt >= from && sentAt < to).map((one) => [one.sentAt, one.endedAt]),
      );
    expect(at(0, 4000)).toBe(16);
    expect(at(300_000, 400_000)).toBe(50);
    const limits = stage.tales('adapt').map(({ event }) => event.limit);
    expect(limits).toEqual(Array.from({ length: 34 }, (_, i) => 17 + i));
  });

  it('comes down when the target objects as a whole', async () => {
    const stage: Stage = new Stage({
      world: { exits: 30, latencyMs: [100, 200] },
      answer: ({ sentAt, target }) => {
        const open = stage.passages.filter((one) => one.target === target && one.endedAt === Infinity).length;
        return sentAt > 20_000 && open > 12 ? { status: 503, headers: { 'retry-after': '1' } } : { status: 200 };
      },
      manager: { targets: [{ match: 'a.test', budget, concurrency: 20 }], breaker: false },
    });
    const ends = await stage.load(40, 200_000, (n) => stage.get(`http://a.test/${n}`));
    await stage.close();
    const sent = (from: number, to: number): number =>
      mostAtOnce(
        stage.passages.filter(({ sentAt }) => sentAt >= from && sentAt < to).map((one) => [one.sentAt, one.endedAt]),
      );
    expect(sent(0, 20_000)).toBe(20);
    expect(sent(60_000, 200_000)).toBeLessThanOrEqual(14);
    expect([...ends.keys()]).toEqual([200]);
  });
});

describe('P4 on real sockets', () => {
  it('never more than 3 at the target and 5 in the pool, with aborts', async () => {
    let open = 0;
    let most = 0;
    const handler = async () => {
      most = Math.max(most, ++open);
      await new Promise((resolve) => setTimeout(resolve, 20));
      open--;
      return undefined;
    };
    await using a = await mockTarget({ handler });
    await using b = await mockTarget();
    await using gateway = await mockGateway({ exits: 4, hosts: { 'a.test': a.url, 'b.test': b.url } });
    await using proxies = pacedManager({
      pools: { p: { gateway: gateway.url, concurrency: 5 } },
      targets: [
        { match: 'a.test', budget, concurrency: 3 },
        { match: 'b.test', budget },
      ],
    });
    let using = 0;
    const watch = setInterval(async () => {
      using = Math.max(using, (await proxies.stats()).pools.p.inUse);
    }, 1);
    await Promise.all(
      Array.from({ length: 60 }, async (_, i) => {
        const response = await proxies.fetch(`http://${i % 2 === 0 ? 'a' : 'b'}.test/${i}`);
        await response.text();
      }),
    );
    clearInterval(watch);
    expect(most).toBe(3);
    expect(using).toBeLessThanOrEqual(5);
    expect(a.arrivals.length + b.arrivals.length).toBe(60);
  });
});
