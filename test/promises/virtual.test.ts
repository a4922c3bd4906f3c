import fc from 'fast-check';
import { ProxyManager, type ProxyManagerOptions, seededRandom } from 'paceline';
import { virtualClock, worstWindow } from 'paceline/testing';
import { describe, expect, it } from 'vitest';
import { type Passage, SimulatedWorld } from '../support/simulated-world.ts';

interface Scenario {
  readonly seed: number;
  readonly requests: number;
  readonly exits: number;
  readonly limit: number;
  readonly windowMs: number;
  readonly spacing: 'even' | 'burst';
  readonly latencyMs: number;
  readonly dialMs: number;
  readonly churn: number;
  /** Shares of requests that are aborted; of answers that are 429, 503, a reset, a redirect to the other target. */
  readonly aborts: number;
  readonly limited: number;
  readonly broken: number;
  readonly resets: number;
  readonly redirects: number;
  readonly rotation: 'session' | 'per-request';
  readonly concurrency: number;
}

const scenario: fc.Arbitrary<Scenario> = fc.record({
  seed: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
  requests: fc.integer({ min: 1, max: 60 }),
  exits: fc.integer({ min: 1, max: 8 }),
  limit: fc.integer({ min: 1, max: 6 }),
  windowMs: fc.integer({ min: 50, max: 60_000 }),
  spacing: fc.constantFrom('even', 'burst'),
  latencyMs: fc.integer({ min: 0, max: 300 }),
  dialMs: fc.integer({ min: 0, max: 2000 }),
  churn: fc.constantFrom(0, 0, 0.1, 0.5),
  aborts: fc.constantFrom(0, 0, 0.3),
  limited: fc.constantFrom(0, 0, 0.1, 0.3),
  broken: fc.constantFrom(0, 0, 0.1),
  resets: fc.constantFrom(0, 0, 0.1),
  redirects: fc.constantFrom(0, 0, 0.3),
  rotation: fc.constantFrom('session', 'session', 'per-request'),
  concurrency: fc.integer({ min: 1, max: 30 }),
});

interface Run {
  readonly world: SimulatedWorld;
  readonly settled: PromiseSettledResult<unknown>[];
  readonly trace: string[];
  readonly passages: Passage[];
  readonly leftTimers: number;
  readonly state: string;
}

const EVENTS = [
  ...(['admit', 'settle', 'retry', 'cooldown', 'egress', 'refuse', 'session'] as const),
  ...(['eject', 'return', 'circuit', 'adapt', 'escalate'] as const),
];

async function run(s: Scenario, extra: Partial<ProxyManagerOptions> = {}): Promise<Run> {
  const clock = virtualClock();
  const worldRandom = seededRandom(s.seed);
  const world = new SimulatedWorld({
    clock,
    random: worldRandom,
    exits: s.exits,
    dialMs: [0, s.dialMs],
    latencyMs: [0, s.latencyMs],
    churn: s.churn,
    answer: (passage): { status: number | undefined; headers?: Record<string, string> } => {
      const dice = worldRandom();
      if (dice < s.limited) {
        passage.retryAfterMs = 1000 * Math.floor(1 + worldRandom() * 3);
        return { status: 429, headers: { 'retry-after': String(passage.retryAfterMs / 1000) } };
      }
      if (dice < s.limited + s.broken) return { status: 503 };
      if (dice < s.limited + s.broken + s.resets) return { status: undefined };
      if (passage.target === 'a.test' && worldRandom() < s.redirects) {
        return { status: 302, headers: { location: 'http://b.test/' } };
      }
      return { status: 200 };
    },
  });
  const budget = { limit: s.limit, windowMs: s.windowMs, spacing: s.spacing };
  const random = seededRandom(s.seed + 1);
  const proxies = new ProxyManager({
    pools: {
      res: {
        gateway: s.rotation === 'session' ? 'http://u-{session}:p@gw.test:1' : 'http://u:p@gw.test:1',
        rotation: s.rotation,
        egress: { header: 'x-egress-ip' },
        concurrency: s.concurrency,
      },
    },
    targets: [
      { match: 'a.test', budget },
      { match: 'b.test', budget },
    ],
    retry: { baseMs: 100, capMs: 5000 },
    clock,
    random,
    transport: world.transport,
    ...extra,
  });
  const trace: string[] = [];
  for (const name of EVENTS) {
    proxies.on(name, (event) => trace.push(`${clock.now()} ${name} ${JSON.stringify(event)}`));
  }
  const chance = seededRandom(s.seed + 2);
  const all = Promise.allSettled(
    Array.from({ length: s.requests }, async (_, i) => {
      const controller = new AbortController();
      if (chance() < s.aborts) {
        clock.setTimeout(() => controller.abort(new Error('enough')), chance() * 3 * s.windowMs);
      }
      const response = await proxies.fetch(`http://${i % 3 === 0 ? 'b' : 'a'}.test/${i}`, {
        signal: controller.signal,
      });
      await response.text();
    }),
  );
  const settled = await clock.runUntil(all, { maxMs: 30 * 86_400_000 });
  const state = JSON.stringify((await proxies.stats()).targets, [
    'a.test',
    'b.test',
    'state',
    'active',
    'egresses',
    'busy',
  ]);
  await clock.runUntil(proxies.close());
  // Answers to aborted requests may still be on their way.
  await clock.runUntilIdle(1e9);
  return { world, settled, trace, passages: world.passages, leftTimers: clock.pending, state };
}

describe('in virtual time, whatever latency, dials, aborts, redirects, retries and churn', () => {
  it('P1: no window of any egress at any target holds more arrivals than the limit · P2: nothing is sent over an egress before its Retry-After has passed', async () => {
    await fc.assert(
      fc.asyncProperty(scenario, async (s) => {
        const { world, passages } = await run(s);
        for (const [key, times] of world.arrivals()) {
          expect(worstWindow(times, s.windowMs), `P1 ${key}`).toBeLessThanOrEqual(s.limit);
        }
        for (const limited of passages) {
          if (limited.retryAfterMs === 0 || limited.answeredAt === Infinity) continue;
          for (const later of passages) {
            if (later.target !== limited.target || later.egress !== limited.egress) continue;
            if (later.sentAt <= limited.answeredAt) continue;
            expect(later.sentAt, 'P2').toBeGreaterThanOrEqual(limited.answeredAt + limited.retryAfterMs);
          }
        }
      }),
      { numRuns: 250 },
    );
  }, 60_000);

  it('every request settles, and no permit and no timer is left', async () => {
    await fc.assert(
      fc.asyncProperty(scenario, async (s) => {
        const { settled, leftTimers, state } = await run(s);
        expect(settled).toHaveLength(s.requests);
        for (const one of settled) {
          if (one.status === 'rejected') {
            expect(String(one.reason.message)).toMatch(/enough|failed after|fetch failed/);
          }
        }
        expect(leftTimers).toBe(0);
        expect(state).not.toMatch(/"active":[1-9]|"busy":[1-9]/);
      }),
      { numRuns: 60 },
    );
  });

  it('P8: the same seed gives the same trace, event for event', async () => {
    await fc.assert(
      fc.asyncProperty(scenario, async (s) => {
        const [first, second] = [await run(s), await run(s)];
        expect(second.trace).toEqual(first.trace);
        expect(second.passages).toEqual(first.passages);
        // Nothing is told of requests that were all given up before their dial ended.
        if (first.passages.length > 0) expect(first.trace.length).toBeGreaterThan(0);
      }),
      { numRuns: 40 },
    );
  });
});

describe('a request that was aborted may still arrive', () => {
  it('P1: its slot is not used again until it can no longer be on its way', async () => {
    const clock = virtualClock();
    // Dials take no time; the first request takes 300 ms to the target, all others none.
    const delays = [0, 0, 1];
    const world = new SimulatedWorld({
      clock,
      random: () => delays.shift() ?? 0,
      exits: 1,
      dialMs: [0, 0],
      latencyMs: [0, 300],
      churn: 0,
    });
    const proxies = new ProxyManager({
      gateway: 'http://u-{session}:p@gw.test:1',
      targets: [{ match: 'a.test', budget: { limit: 1, windowMs: 1000, spacing: 'burst' } }],
      clock,
      random: seededRandom(1),
      transport: world.transport,
    });
    const controller = new AbortController();
    const aborted = proxies.fetch('http://a.test/1', { signal: controller.signal });
    await clock.advance(10);
    controller.abort(new Error('enough'));
    await expect(aborted).rejects.toThrow('enough');
    await clock.runUntil(proxies.fetch('http://a.test/2'));
    await clock.runUntil(proxies.close());
    const [times] = [...world.arrivals().values()];
    expect(times[0]).toBe(300);
    expect(times[1]).toBeGreaterThanOrEqual(1300);
  });
});

describe('P9: close to the limit', () => {
  it('under steady load at one-minute windows, at least 98 % of routes × limit ÷ window arrive', async () => {
    const clock = virtualClock();
    const random = seededRandom(9);
    const exits = 10;
    const [limit, windowMs] = [8, 60_000];
    const world = new SimulatedWorld({ clock, random, exits, dialMs: [50, 500], latencyMs: [20, 300], churn: 0 });
    const proxies = new ProxyManager({
      gateway: 'http://u-{session}:p@gw.test:1',
      targets: [{ match: 'a.test', budget: { limit, windowMs, spacing: 'burst' } }],
      clock,
      random,
      transport: world.transport,
    });
    let going = true;
    const workers = Promise.all(
      Array.from({ length: 2 * exits }, async () => {
        while (going) await (await proxies.fetch('http://a.test/')).text();
      }),
    );
    const windows = 20;
    await clock.advance(2 * windowMs); // finding all exits takes its time
    const from = clock.now();
    await clock.advance(windows * windowMs);
    const arrived = world.passages.filter(({ arrivedAt }) => arrivedAt > from && arrivedAt <= clock.now()).length;
    going = false;
    await clock.runUntil(workers);
    await clock.runUntil(proxies.close());
    for (const times of world.arrivals().values()) expect(worstWindow(times, windowMs)).toBeLessThanOrEqual(limit);
    expect(arrived / (windows * exits * limit)).toBeGreaterThanOrEqual(0.98);
    // … at few dials: about one a concurrent request and exit, and the search for exits.
    expect(world.dials).toBeLessThan(arrived / 3.5);
  });

  it('with even spacing, at least 95 %', async () => {
    const clock = virtualClock();
    const random = seededRandom(10);
    const exits = 5;
    const [limit, windowMs] = [20, 60_000];
    const world = new SimulatedWorld({ clock, random, exits, dialMs: [50, 500], latencyMs: [20, 300], churn: 0 });
    const proxies = new ProxyManager({
      gateway: 'http://u-{session}:p@gw.test:1',
      targets: [{ match: 'a.test', budget: { limit, windowMs, spacing: 'even' } }],
      clock,
      random,
      transport: world.transport,
    });
    let going = true;
    const workers = Promise.all(
      Array.from({ length: 20 }, async () => {
        while (going) await (await proxies.fetch('http://a.test/')).text();
      }),
    );
    await clock.advance(2 * windowMs);
    const from = clock.now();
    await clock.advance(10 * windowMs);
    const arrived = world.passages.filter(({ arrivedAt }) => arrivedAt > from && arrivedAt <= clock.now()).length;
    going = false;
    await clock.runUntil(workers);
    await clock.runUntil(proxies.close());
    expect(arrived / (10 * exits * limit)).toBeGreaterThanOrEqual(0.95);
    for (const times of world.arrivals().values()) {
      for (let i = 1; i < times.length; i++) {
        // Spaced at the grant; the way to the target may be 300 ms shorter for the later one.
        expect(times[i] - times[i - 1]).toBeGreaterThanOrEqual(windowMs / limit - 300);
      }
    }
  });
});
