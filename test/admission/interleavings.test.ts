import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Random, seededRandom } from '../../src/clock.ts';
import type { PoolRoute } from '../../src/gateway/pool.ts';
import type { VirtualClock } from '../../src/testing/virtual-clock.ts';
import { worstWindow } from '../../src/testing/window.ts';
import { type Client, CountingStore, Desk, LateStore, proxies } from '../support/at-admission.ts';

const stores: Record<string, (random: Random) => (clock: VirtualClock) => CountingStore> = {
  'at once': () => (clock) => new CountingStore(clock),
  'a microtask later': () => (clock) => new LateStore(clock, () => Promise.resolve()),
  'a few milliseconds later, in any order': (random) => (clock) =>
    new LateStore(clock, () => new Promise((resolve) => void clock.setTimeout(resolve, Math.floor(random() * 12)))),
};

const scenario = fc.record({
  seed: fc.nat(),
  limit: fc.integer({ min: 1, max: 4 }),
  spacingMs: fc.constantFrom(0, 0, 15),
  rate: fc.constantFrom(undefined, undefined, { limit: 6, windowMs: 100, burst: 2 }),
  concurrency: fc.constantFrom(undefined, undefined, 1, 3),
  places: fc.integer({ min: 1, max: 8 }),
  proxies: fc.integer({ min: 1, max: 3 }),
  names: fc.boolean(),
  maxSessions: fc.integer({ min: 1, max: 5 }),
  arrivals: fc.array(
    fc.record({
      wait: fc.constantFrom(0, 0, 1, 7, 40),
      target: fc.constantFrom('a.test', 'a.test', 'b.test'),
      kind: fc.constantFrom('static', 'static', 'sessions', 'sessions', 'pinned'),
      priority: fc.constantFrom(0, 0, 0, 1),
      cost: fc.constantFrom(1, 1, 1, 1, 2, 3),
      maxWaitMs: fc.constantFrom(Infinity, Infinity, 30, 300),
      leavesAfter: fc.constantFrom(Infinity, Infinity, 0, 5, 60),
      end: fc.constantFrom('answer', 'answer', 'answer', 'limited', 'cancel', 'lost'),
      latency: fc.constantFrom(0, 1, 10, 90),
      body: fc.constantFrom(0, 0, 30),
    }),
    { minLength: 1, maxLength: 50 },
  ),
});

describe('whoever comes, leaves, answers, aborts and gets lost in whatever order', () => {
  for (const [when, make] of Object.entries(stores)) {
    it(`everybody is served or refused, nobody twice, nothing is over budget and nothing is left, with a store that answers ${when}`, async () => {
      await fc.assert(
        fc.asyncProperty(
          scenario,
          async ({ seed, limit, spacingMs, rate, concurrency, places, maxSessions, names, arrivals, ...s }) => {
            const random = seededRandom(seed);
            const egress = names ? { header: 'x-egress-ip' } : ('session' as const);
            const gateway = { gateway: 'http://u-{session}:p@gw.test:1', concurrency: places, maxSessions, egress };
            const desk = new Desk({
              policy: { limit, spacingMs, rates: rate === undefined ? [] : [rate], concurrency },
              pools: { static: proxies(s.proxies, { concurrency: places }), sessions: gateway },
              store: make(random),
              deadlineMs: 2000,
            });
            const { clock } = desk;
            const sessions = desk.pools.get('sessions')!;
            const pins = ['x', 'y', 'x'].map((id) => sessions.stick(id));
            const uses: { key: string; from: number; to: number }[] = [];

            /** What an exchange does with its permit: dial, bind, send, answer. */
            const use = (client: Client, { end, latency, body }: (typeof arrivals)[number]): void => {
              if (client.pool.inUse > places) throw new Error('more than the pool has places for');
              const { grant } = client;
              const route = grant!.route as PoolRoute;
              clock.setTimeout(async () => {
                if (end === 'cancel') return client.cancel();
                const exit =
                  names && route.session !== undefined ? `10.0.0.${Math.floor(random() * 4)}` : grant!.egress;
                desk.pools.get(route.pool)!.tried(route);
                const { ok, duplicate } = await desk.admission.bind(grant!, exit);
                if (duplicate && route.shared) sessions.retire(route);
                if (!ok) {
                  // As the exchange does: its place is free, and it stands in front again.
                  desk.admission.finished(client.queue, client.pool);
                  desk.admission.wake(client.queue);
                  return;
                }
                route.egress = exit;
                const sentAt = clock.now();
                if (end === 'lost') {
                  desk.admission.finished(client.queue, client.pool);
                  return;
                }
                clock.setTimeout(() => {
                  for (let n = 0; n < client.cost; n++) {
                    uses.push({ key: `${client.queue.key} ${exit}`, from: sentAt, to: clock.now() });
                  }
                  const outcome = end === 'limited' ? ('rate-limited' as const) : ('ok' as const);
                  const retryAfterMs = end === 'limited' ? 150 : undefined;
                  desk.admission.settle(client.queue, {
                    grant: grant!,
                    outcome,
                    retryAfterMs,
                    graceMs: 0,
                    end: body === 0,
                  });
                  clock.setTimeout(() => client.answer(), body);
                }, latency);
              }, latency);
            };

            for (const arrival of arrivals) {
              const { wait, target, kind, priority, maxWaitMs, leavesAfter } = arrival;
              const cost = Math.min(arrival.cost, limit);
              await clock.advance(wait);
              const pin = kind === 'pinned' ? pins[Math.floor(random() * pins.length)] : undefined;
              const pool = kind === 'static' ? 'static' : 'sessions';
              const then = (one: Client): void => use(one, arrival);
              const client = desk.come({ target, pool, pin, priority, cost, maxWaitMs, then });
              if (leavesAfter !== Infinity) {
                clock.setTimeout(() => {
                  if (client.waiting) client.leave();
                }, leavesAfter);
              }
            }
            await clock.runUntilIdle(1e6);

            expect(desk.clients.filter(({ waiting }) => waiting)).toEqual([]);
            for (const { at, giveUpAt } of desk.clients) if (at !== undefined) expect(at).toBeLessThan(giveUpAt + 1);
            expect([desk.admission.waiting, clock.pending]).toEqual([0, 0]);
            for (const pool of desk.pools.values()) expect([pool.inUse, pool.asked]).toEqual([0, 0]);
            clock.advanceSync(5000);
            expect([desk.busy, desk.active]).toEqual([0, 0]);
            const arrived = Map.groupBy(uses, ({ key }) => key);
            for (const [key, times] of arrived) {
              for (const side of ['from', 'to'] as const) {
                expect(
                  worstWindow(
                    times.map((one) => one[side]),
                    100,
                  ),
                  key,
                ).toBeLessThanOrEqual(limit);
              }
            }
          },
        ),
        { numRuns: Number(process.env.RUNS ?? 150) },
      );
    });
  }
});

describe('many', () => {
  it('10,000 who wait are served with a bounded number of operations for each', async () => {
    const counts = { now: 0, timers: 0 };
    const desk = new Desk({
      policy: { limit: 10, windowMs: 1000 },
      pools: { pool: proxies(20) },
      seen: (clock) => ({
        ...clock,
        now: () => (counts.now++, clock.now()),
        setTimeout: (callback, delayMs) => (counts.timers++, clock.setTimeout(callback, delayMs)),
      }),
    });
    for (let i = 0; i < 10_000; i++) {
      desk.come({ priority: i % 3, then: (client) => void desk.clock.setTimeout(() => client.answer(), 5 + (i % 20)) });
    }
    await desk.clock.advance(100_000);
    expect(desk.served).toHaveLength(10_000);
    expect(desk.store.reserves).toBeLessThan(10_000);
    expect(counts.now).toBeLessThan(6 * 10_000);
    expect(counts.timers).toBeLessThan(10_000);
  });

  it('10,000 who all leave cost nothing but that', () => {
    const desk = new Desk({ policy: { limit: 1 } });
    desk.come();
    for (let i = 0; i < 10_000; i++) desk.come();
    const before = desk.store.reserves;
    for (const client of desk.clients.slice(1).reverse()) client.leave();
    expect(desk.store.reserves).toBe(before);
    expect([desk.clock.pending, desk.admission.waiting]).toEqual([0, 0]);
  });

  it('10,000 who are all aborted after their grants are each asked for a few times', () => {
    const desk = new Desk({ policy: { limit: 10 }, pools: { pool: proxies(10) } });
    for (let i = 0; i < 10_000; i++) desk.come();
    for (let next = 0; next < desk.served.length; next++) desk.clients[desk.served[next]].cancel();
    expect(desk.served).toHaveLength(10_000);
    expect(desk.store.reserves).toBeLessThan(3 * 10_000);
    expect(desk.busy).toBe(0);
  });

  it('thousands of sessions that wait at a target with few places are asked for one by one, not all each time', () => {
    const pools = { pool: { gateway: 'http://u-{session}:p@gw.test:1', concurrency: 100_000 } };
    const desk = new Desk({ policy: { limit: 9, concurrency: 10 }, pools });
    for (let i = 0; i < 2000; i++) desk.come({ pin: desk.pool.stick(`s${i}`) });
    for (let next = 0; next < desk.served.length; next++) desk.clients[desk.served[next]].answer();
    expect(desk.served).toHaveLength(2000);
    expect(desk.store.reserves).toBeLessThan(4 * 2000);
  });

  it('queues of targets that nobody uses are forgotten, those in use are not', () => {
    const desk = new Desk({ policy: { limit: 1 } });
    const waits = [desk.come({ target: 'kept.test' }), desk.come({ target: 'kept.test' })];
    const { queue } = waits[1];
    for (let i = 0; i < 25_000; i++) desk.come({ target: `${i}.test`, then: (client) => client.answer() });
    expect(desk.admission.queue('kept.test', () => queue)).toBe(queue);
    waits[0].cancel();
    expect(waits[1].grant).toBeDefined();
    expect(
      desk.admission.queue('1.test', () => ({ ...queue, policy: { ...queue.policy, limit: 7 } })).policy.limit,
    ).toBe(7);
  });
});
