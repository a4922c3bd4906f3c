import fc from 'fast-check';
import { GatewayError } from 'paceline';
import { mockGateway, mockTarget } from 'paceline/testing';
import { describe, expect, it } from 'vitest';
import { fetchMany, pacedManager, shopBudget } from '../support/paced.ts';
import { type Answer, type Badness, badness, Stage } from '../support/stage.ts';

// P3: all sends together ≤ requests × (1 + ratio) + floor, where the floor is 100, and 100 more in every 10 s. An attempt follows its
// redirects anew, so the bound holds for each hop by itself: for the first sends of all attempts, for the second ones, and so on.

const scenario = fc.record({
  seed: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
  workers: fc.constantFrom(5, 100),
  forMs: fc.constantFrom(1000, 8000),
  attempts: fc.integer({ min: 1, max: 8 }),
  ratio: fc.constantFrom(0, 0.2, 1),
  badness,
  guarded: fc.boolean(),
  direct: fc.boolean(),
});
type Scenario = typeof scenario extends fc.Arbitrary<infer T> ? T : never;

/** Little but failures, and nothing but the budgets to hold them back. */
const HARD: Scenario = {
  ...{ seed: 1, workers: 100, forMs: 8000, attempts: 8, ratio: 1, guarded: false, direct: false },
  badness: { faults: 0, limited: 0, blocked: 0.3, broken: 0.5, resets: 0, redirects: 0 },
};

async function run({
  seed,
  workers,
  forMs,
  attempts,
  ratio,
  badness: bad,
  guarded,
  direct,
}: {
  seed: number;
  workers: number;
  forMs: number;
  attempts: number;
  ratio: number;
  badness: Badness;
  guarded: boolean;
  direct: boolean;
}): Promise<{ stage: Stage; requests: number }> {
  const faults = ['exit-failed', 'timeout', 'unreachable', 'auth', 'forbidden', 'protocol'] as const;
  const stage: Stage = new Stage({
    seed,
    world: {
      exits: 40,
      latencyMs: [100, 900],
      refuse: ({ pool }) => {
        if (stage.random() >= bad.faults) return undefined;
        return new GatewayError('a fault', { kind: faults[Math.floor(stage.random() * faults.length)], pool });
      },
    },
    answer: ({ path }, random): Answer => {
      const dice = random();
      if (dice < bad.limited) return { status: 429, headers: random() < 0.5 ? {} : { 'retry-after': '1' } };
      if (dice < bad.limited + bad.blocked) return { status: 403 };
      if (dice < bad.limited + bad.blocked + bad.broken) return { status: 503 };
      if (dice < bad.limited + bad.blocked + bad.broken + bad.resets) return { status: undefined };
      const hop = Number(path.split('/')[1]);
      if (random() < bad.redirects && hop < 5) {
        return { status: 302, headers: { location: path.replace(`/${hop}/`, `/${hop + 1}/`) } };
      }
      return { status: 200 };
    },
    manager: {
      ...(direct && { pools: { own: { direct: true } } }),
      targets: [{ match: 'a.test', budget: { limit: 1000, windowMs: 1000, spacing: 'burst' } }],
      retry: { attempts, ratio, baseMs: 10, capMs: 100 },
      // Without them nothing but the two budgets holds it back.
      ...(!guarded && { breaker: false, health: false, adaptive: false }),
    },
  });
  let requests = 0;
  await stage.load(workers, forMs, (n) => {
    requests++;
    return stage.get(`http://a.test/0/${n}`);
  });
  await stage.close();
  return { stage, requests };
}

describe('P3 in virtual time, whatever goes wrong', () => {
  it('all sends ≤ requests × (1 + ratio) + floor, and no request is sent more often than it has attempts', async () => {
    let most = 0;
    await fc.assert(
      fc.asyncProperty(scenario, async (s) => {
        const { stage, requests } = await run(s);
        const byHop = Map.groupBy(stage.passages, ({ path }) => path.split('/')[1]);
        const seconds = stage.clock.now() / 1000;
        const floor = 100 * (1 + Math.ceil(seconds / 10));
        for (const [hop, sends] of byHop) {
          expect(sends.length, `hop ${hop}`).toBeLessThanOrEqual(requests * (1 + s.ratio) + floor);
          for (const [path, same] of Map.groupBy(sends, ({ path }) => path)) {
            if (same.length > s.attempts) expect.fail(`${path}: sent ${same.length} times`);
          }
        }
        most = Math.max(most, (byHop.get('0')?.length ?? 0) / requests);
        // Nor are dials multiplied, beyond those that came up on an exit that is not to be used now.
        const dials = stage.world.dials - stage.tales('refuse').length;
        expect(dials).toBeLessThanOrEqual((requests * (1 + s.ratio) + floor) * byHop.size || requests * s.attempts);
      }),
      { numRuns: 30, examples: [[HARD]] },
    );
    // The budgets were needed.
    expect(most).toBeGreaterThan(1.5);
  });

  it('in an outage that lasts, the share of retries settles at the ratio and the floor', async () => {
    const none = { limited: 0, blocked: 0, broken: 1, resets: 0, redirects: 0, faults: 0 };
    const s = {
      seed: 3,
      workers: 100,
      forMs: 20_000,
      attempts: 5,
      ratio: 0.2,
      badness: none,
      guarded: false,
      direct: true,
    };
    const { stage, requests } = await run(s);
    expect(requests).toBeGreaterThan(1500);
    expect(stage.passages.length / requests).toBeLessThan(1.4);
    expect(stage.passages.length / requests).toBeGreaterThan(1.2);
  });
});

describe('P3 on real sockets', () => {
  it('a target that is down is sent a fifth more than it is asked for, and a hundred', async () => {
    await using target = await mockTarget({ handler: () => ({ status: 503 }) });
    await using gateway = await mockGateway({ exits: 5, hosts: { 'shop.test': target.url } });
    await using proxies = pacedManager({ gateway: gateway.url, targets: shopBudget(10_000, 1000), breaker: false });
    const all = await fetchMany(proxies, 'http://shop.test/', 400);
    expect(new Set(all)).toEqual(new Set([503]));
    expect(target.arrivals.length).toBeGreaterThan(480);
    expect(target.arrivals.length).toBeLessThanOrEqual(400 * 1.2 + 100);
  });
});
