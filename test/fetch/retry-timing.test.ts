import { type ProxyManager, type ProxyManagerOptions, seededRandom } from 'paceline';
import { mockGateway, mockTarget, type VirtualClock, virtualClock } from 'paceline/testing';
import { describe, expect, it } from 'vitest';
import { failureOf } from '../support/failing.ts';
import { fetchMany, pacedManager } from '../support/paced.ts';
import { type Passage, SimulatedWorld } from '../support/simulated-world.ts';

// When the next attempt comes. In virtual time where the times are long; what counts is when the target saw it.

interface World {
  readonly clock: VirtualClock;
  readonly passages: Passage[];
  readonly proxies: ProxyManager;
}

type Answer = (passage: Passage, nth: number) => { status: number | undefined; headers?: Record<string, string> };

function world(answer: Answer, options: ProxyManagerOptions = {}): World {
  const clock = virtualClock({ startMs: 1000 });
  let count = 0;
  const simulated = new SimulatedWorld({
    clock,
    random: seededRandom(1),
    exits: 50,
    dialMs: [0, 0],
    latencyMs: [0, 0],
    churn: 0,
    answer: (passage) => answer(passage, ++count),
  });
  const proxies = pacedManager({
    pools: { res: { gateway: 'http://u-{session}:p@gw.test:1', egress: { header: 'x-egress-ip' } } },
    random: seededRandom(2),
    clock,
    transport: simulated.transport,
    ...options,
  });
  return { clock, passages: simulated.passages, proxies };
}

const URL_ = 'http://shop.test/';
const DIRECT = { pools: { direct: { direct: true } } };
const gaps = (passages: readonly Passage[]): number[] =>
  passages.slice(1).map((passage, i) => passage.sentAt - passages[i].answeredAt);

describe('a target in trouble', () => {
  it('is given full jitter: each pause uniform up to twice the one before, up to the cap', async () => {
    const { clock, passages, proxies } = world(() => ({ status: 503 }), {
      retry: { attempts: 6, baseMs: 1000, capMs: 5000, ratio: 10 },
      breaker: false,
    });
    for (let i = 0; i < 200; i++) await clock.runUntil(proxies.fetch(URL_));
    const byRetry = Array.from({ length: 5 }, (): number[] => []);
    for (let i = 0; i < passages.length; i += 6) {
      for (const [retry, gap] of gaps(passages.slice(i, i + 6)).entries()) byRetry[retry].push(gap);
    }
    for (const [retry, most] of [1000, 2000, 4000, 5000, 5000].entries()) {
      const pauses = byRetry[retry];
      expect(pauses).toHaveLength(200);
      // A timer fires in whole milliseconds.
      expect(Math.max(...pauses)).toBeLessThanOrEqual(most + 1);
      const mean = pauses.reduce((sum, pause) => sum + pause) / 200;
      expect(Math.abs(mean / most - 0.5)).toBeLessThan(0.08);
      expect(Math.min(...pauses)).toBeLessThan(most * 0.05);
    }
  });

  it.each([
    ['seconds', () => '7'],
    ['a date', (clock: VirtualClock) => new Date(clock.wallNow() + 7000).toUTCString()],
  ])('is given the time it asks for, in %s, and no more', async (_name, retryAfter) => {
    const { clock, passages, proxies } = world((_passage, nth) =>
      nth === 1 ? { status: 503, headers: { 'retry-after': retryAfter(clock) } } : { status: 200 },
    );
    await clock.runUntil(proxies.fetch(URL_));
    expect(passages).toHaveLength(2);
    expect(gaps(passages)[0]).toBeGreaterThanOrEqual(7000);
    expect(gaps(passages)[0]).toBeLessThan(7100);
  });

  it('that asks for longer than retry.maxRetryAfterMs has its answer handed over at once', async () => {
    const { clock, passages, proxies } = world(() => ({ status: 503, headers: { 'retry-after': '61' } }), {
      retry: { maxRetryAfterMs: 60_000 },
    });
    const response = await clock.runUntil(proxies.fetch(URL_));
    expect([response.status, passages.length, clock.now() < 1100]).toEqual([503, 1, true]);
  });
});

describe('an egress that is limited', () => {
  const limited = { status: 429, headers: { 'retry-after': '30' } };

  it('is left alone until its Retry-After has passed, while another one serves at once', async () => {
    const until = new Map<string, number>();
    const { clock, passages, proxies } = world((passage, nth) => {
      if (nth > 2) return { status: 200 };
      until.set(passage.egress, passage.arrivedAt + 30_000);
      return limited;
    });
    const startedAt = clock.now();
    expect((await clock.runUntil(proxies.fetch(URL_))).status).toBe(200);
    expect(clock.now() - startedAt).toBeLessThan(100);
    await clock.runUntil(Promise.all(Array.from({ length: 200 }, () => proxies.fetch(URL_))));
    expect(until.size).toBe(2);
    for (const [egress, instant] of until) {
      const later = passages.filter((passage) => passage.egress === egress).slice(1);
      for (const { arrivedAt } of later) expect(arrivedAt).toBeGreaterThanOrEqual(instant);
    }
  });

  it.each(['0', 'Thu, 01 Jan 1970 00:00:00 GMT'])(
    'rests for an even share of its window, whatever "at once" says: %s',
    async (value) => {
      const { clock, passages, proxies } = world(() => ({ status: 429, headers: { 'retry-after': value } }), {
        ...DIRECT,
        targets: [{ match: 'shop.test', budget: { limit: 10, windowMs: 5000, spacing: 'burst' } }],
      });
      expect((await clock.runUntil(proxies.fetch(URL_))).status).toBe(429);
      for (const gap of gaps(passages)) expect(gap).toBeGreaterThanOrEqual(500);
      expect(passages).toHaveLength(5);
    },
  );

  it('by a secondary limit of GitHub, which says nothing of how long, is left alone for a minute', async () => {
    const secondary = { status: 429, headers: { 'x-github-request-id': 'ABCD:1' } };
    const { clock, passages, proxies } = world((_, nth) => (nth === 1 ? secondary : { status: 200 }), {
      ...DIRECT,
      targets: [{ match: 'shop.test', budget: { limit: 100, windowMs: 1000, spacing: 'burst' } }],
    });
    expect((await clock.runUntil(proxies.fetch(URL_))).status).toBe(200);
    expect(passages[1].arrivedAt - passages[0].answeredAt).toBeGreaterThanOrEqual(60_000);
  });

  it('is no longer one of its own when three are: then all rest until the last of them may go', async () => {
    const until: number[] = [];
    const { clock, passages, proxies } = world((passage, nth) => {
      if (nth > 3) return { status: 200 };
      until.push(passage.arrivedAt + 30_000);
      return limited;
    });
    expect((await clock.runUntil(proxies.fetch(URL_))).status).toBe(200);
    expect(new Set(passages.slice(0, 3).map(({ egress }) => egress)).size).toBe(3);
    expect(passages[3].arrivedAt).toBeGreaterThanOrEqual(Math.max(...until));
    expect((await clock.runUntil(Promise.all(Array.from({ length: 20 }, () => proxies.fetch(URL_))))).length).toBe(20);
  });

  it('and the only one there is makes everybody wait for it', async () => {
    const { clock, passages, proxies } = world((_passage, nth) => (nth === 1 ? limited : { status: 200 }), DIRECT);
    const first = proxies.fetch(URL_);
    const others = Array.from({ length: 5 }, async () => {
      await new Promise<void>((resolve) => clock.setTimeout(resolve, 1000));
      return proxies.fetch(URL_);
    });
    const responses = await clock.runUntil(Promise.all([first, ...others]));
    expect(responses.every(({ status }) => status === 200)).toBe(true);
    const [{ answeredAt }, ...later] = passages;
    expect(Math.min(...later.map(({ arrivedAt }) => arrivedAt))).toBeGreaterThanOrEqual(answeredAt + 30_000);
  });

  it('without a Retry-After rests for one window', async () => {
    const { clock, passages, proxies } = world((_passage, nth) => (nth === 1 ? { status: 429 } : { status: 200 }), {
      ...DIRECT,
      targets: [{ match: 'shop.test', budget: { limit: 100, windowMs: 20_000, spacing: 'burst' } }],
    });
    await clock.runUntil(proxies.fetch(URL_));
    expect(gaps(passages)[0]).toBeGreaterThanOrEqual(20_000);
  });

  it('for longer than retry.maxRetryAfterMs, and the only one, is not waited for', async () => {
    const { clock, passages, proxies } = world(() => limited, { ...DIRECT, retry: { maxRetryAfterMs: 29_000 } });
    expect((await clock.runUntil(proxies.fetch(URL_))).status).toBe(429);
    expect([passages.length, clock.now() < 1100]).toEqual([1, true]);
  });

  it('that a session is bound to is waited for, not left', async () => {
    const { clock, passages, proxies } = world((_passage, nth) => (nth === 1 ? limited : { status: 200 }));
    expect((await clock.runUntil(proxies.session().fetch(URL_))).status).toBe(200);
    expect(new Set(passages.map(({ egress }) => egress)).size).toBe(1);
    expect(gaps(passages)[0]).toBeGreaterThanOrEqual(30_000);
  });
});

it('on real sockets, no request reaches the target over an IP before its Retry-After has passed', async () => {
  const until = new Map<string, number>();
  let early = 0;
  let count = 0;
  await using target = await mockTarget({
    handler({ ip }) {
      const now = performance.now();
      if (now < (until.get(ip) ?? 0)) early++;
      if (++count % 4 !== 0) return undefined;
      until.set(ip, now + 1000);
      return { status: count % 8 === 0 ? 429 : 503, headers: { 'retry-after': '1' } };
    },
  });
  await using gateway = await mockGateway({ exits: 3, hosts: { 'shop.test': target.url } });
  // One at a time, so that nothing is under way when the target says so.
  const pools = { res: { gateway: gateway.url, concurrency: 1 } };
  await using proxies = pacedManager({ pools, retry: { attempts: 10, ratio: 10 } });
  const statuses = await fetchMany(proxies, URL_, 20);
  expect(statuses).toEqual(Array(20).fill(200));
  expect(target.byStatus()[429]).toBeGreaterThan(0);
  expect(early).toBe(0);
});

it('a pause between attempts ends at once when the request is aborted, with the reason given', async () => {
  const { clock, passages, proxies } = world(() => ({ status: 503 }), { retry: { baseMs: 60_000, capMs: 60_000 } });
  const controller = new AbortController();
  const pending = failureOf(proxies.fetch(URL_, { signal: controller.signal }));
  await clock.advance(10);
  expect(passages).toHaveLength(1);
  controller.abort('enough');
  expect(await pending).toBe('enough');
  expect([passages.length, clock.pending]).toEqual([1, 0]);
});

it('many in a row wait their backoff each, and no timer is left behind', async () => {
  const { clock, proxies } = world((_passage, nth) => ({ status: nth % 2 ? 502 : 200 }), { retry: { ratio: 10 } });
  const all = Promise.all(Array.from({ length: 50 }, () => proxies.fetch(URL_)));
  expect((await clock.runUntil(all)).length).toBe(50);
  await clock.runUntil(proxies.close());
  expect(clock.pending).toBe(0);
});
