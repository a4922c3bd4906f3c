import fc from 'fast-check';
import { GatewayError } from 'paceline';
import { expect, it } from 'vitest';
import { type Answer, Stage, type Told } from '../support/stage.ts';

// P8 in worlds that make everything adapt: what test/promises/virtual.test.ts seldom comes to.

const scenario = fc.record({
  seed: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
  resets: fc.constantFrom(0, 0.5, 0.9),
  cheapBlocked: fc.constantFrom(0, 0.8, 1),
  outage: fc.boolean(),
  gatewayDown: fc.boolean(),
  limited: fc.constantFrom(0, 0.05),
});
type Scenario = typeof scenario extends fc.Arbitrary<infer T> ? T : never;

async function run(s: Scenario): Promise<Stage> {
  const within = (at: number, from: number, to: number): boolean => at >= from && at < to;
  const stage: Stage = new Stage({
    seed: s.seed,
    world: {
      exits: 5,
      refuse: ({ pool }) =>
        s.gatewayDown && pool === 'cheap' && within(stage.clock.now(), 20_000, 50_000)
          ? new GatewayError('down', { kind: 'unreachable', pool })
          : undefined,
    },
    answer: ({ pool, egress, arrivedAt }, random): Answer => {
      if (s.outage && within(arrivedAt, 60_000, 80_000)) return { status: 503 };
      if (pool === 'cheap' && random() < s.cheapBlocked) return { status: 403 };
      if (egress === '10.0.0.1' && random() < s.resets) return { status: undefined };
      return { status: random() < s.limited ? 429 : 200 };
    },
    manager: {
      pools: {
        cheap: { gateway: 'http://u-{session}:p@cheap.test:1', sessionTtlMs: 15_000 },
        dear: { gateway: 'http://u-{session}:p@dear.test:1', sessionTtlMs: 15_000 },
      },
      targets: [{ match: 'a.test', pools: ['cheap', 'dear'], budget: { limit: 30, windowMs: 5000, spacing: 'burst' } }],
      health: { baseMs: 5000 },
      breaker: { openMs: 2000 },
    },
  });
  await stage.load(12, 120_000, async (n) => {
    const status = await stage.get(`http://a.test/${n}`);
    await new Promise<void>((resolve) => stage.clock.setTimeout(resolve, 300));
    return status;
  });
  await stage.close();
  return stage;
}

it('P8: the same seed gives the same trace, with all that adapts in it', async () => {
  const seen = new Set<Told['name']>();
  await fc.assert(
    fc.asyncProperty(scenario, async (s) => {
      const [first, second] = [await run(s), await run(s)];
      for (const { name } of first.told) seen.add(name);
      expect(second.told.length).toBe(first.told.length);
      expect(JSON.stringify(second.told)).toBe(JSON.stringify(first.told));
      expect(second.passages).toEqual(first.passages);
    }),
    { numRuns: 8, seed: 8 },
  );
  expect([...seen]).toEqual(expect.arrayContaining(['eject', 'return', 'circuit', 'adapt', 'escalate']));
});
