import { CircuitOpenError, GatewayError } from 'paceline';
import { mockGateway, mockTarget } from 'paceline/testing';
import { describe, expect, it } from 'vitest';
import { fetchMany, pacedManager, shopBudget } from '../support/paced.ts';
import { eventually } from '../support/resources.ts';
import { Stage } from '../support/stage.ts';

// An outage is waited for, not fought: a target that is down is asked now and then, and those who want it wait in the queue.

const budget = { limit: 1000, windowMs: 1000, spacing: 'burst' } as const;
const targets = [{ match: 'a.test', budget }];
const retry = { baseMs: 100, capMs: 1000 };
const [FROM, TO] = [10_000, 70_000];

/** Down for a minute, by the target's own time. */
function downForAMinute(status: number | undefined, seed = 1): Stage {
  return new Stage({
    seed,
    world: { latencyMs: [100, 400] },
    answer: ({ arrivedAt }) => ({ status: arrivedAt >= FROM && arrivedAt < TO ? status : 200 }),
    manager: { targets, retry },
  });
}

const between = (stage: Stage, from: number, to: number): number =>
  stage.passages.filter(({ arrivedAt }) => arrivedAt >= from && arrivedAt < to).length;

describe('a target that is down for a minute', () => {
  it.each([503, 500, undefined])('is asked a few times, and those who wait get their pages (%s)', async (status) => {
    const stage = downForAMinute(status);
    const ends = await stage.load(20, 200_000, (n) => stage.get(`http://a.test/${n}`));
    await stage.close();
    // 20 a second before it; then what opens the circuit, and a probe after 10, 20 and 40 s.
    expect(between(stage, 0, FROM)).toBeGreaterThan(250);
    expect(between(stage, FROM, TO)).toBeLessThan(200);
    expect(between(stage, FROM + 5000, TO)).toBeLessThanOrEqual(4);
    // Back within one open time.
    const opened = stage.tales('circuit').filter(({ event }) => event.open);
    const closed = stage.tales('circuit').find(({ event }) => !event.open)!;
    expect(closed.at - TO).toBeLessThanOrEqual(opened.at(-1)!.event.forMs);
    expect(between(stage, 190_000, 200_000)).toBeGreaterThan(250);
    const failed = [...ends].filter(([end]) => end !== 200).reduce((sum, [, times]) => sum + times, 0);
    expect(failed).toBeLessThanOrEqual(status === 500 ? 60 : 5);
  });

  it('those who do not want to wait that long hear so at once', async () => {
    const stage = downForAMinute(503);
    await stage.clock.advance(FROM);
    const during = Promise.allSettled(Array.from({ length: 60 }, (_, n) => stage.get(`http://a.test/${n}`)));
    await stage.clock.advance(5000);
    const sent = stage.passages.length;
    const at = stage.clock.now();
    const error = await stage.clock.runUntil(
      stage.get('http://a.test/now', { pace: { maxWaitMs: 100 } }).catch((refusal) => refusal),
    );
    expect(stage.clock.now()).toBe(at);
    expect(stage.passages.length).toBe(sent);
    expect(error).toBeInstanceOf(CircuitOpenError);
    expect(error.retryInMs).toBeGreaterThan(100);
    // Who would wait gets the page.
    expect(await stage.clock.runUntil(stage.get('http://a.test/later'))).toBe(200);
    for (const end of await stage.clock.runUntil(during)) expect(end).toEqual({ status: 'fulfilled', value: 200 });
    await stage.close();
  });
});

describe('a gateway that is down for a minute', () => {
  const down = (stage: () => Stage, name: string) => ({
    refuse: ({ pool }: { pool: string }) => {
      const now = stage().clock.now();
      return pool === name && now >= FROM && now < TO
        ? new GatewayError('down', { kind: 'unreachable', pool })
        : undefined;
    },
  });
  const rotating = (host: string) => ({
    gateway: `http://u:p@${host}:1`,
    rotation: 'per-request' as const,
    egress: { header: 'x-egress-ip' },
  });
  const dialsBetween = (stage: Stage, pool: string, from: number, to: number): number =>
    stage.world.uses.filter((use) => use.pool === pool && use.from >= from && use.from < to).length;

  it('is dialed a few times, and those who wait get their pages', async () => {
    const stage: Stage = new Stage({
      world: { ...down(() => stage, 'p'), exits: 50, latencyMs: [100, 400] },
      manager: { pools: { p: rotating('gw.test') }, targets, retry },
    });
    const ends = await stage.load(20, 200_000, (n) => stage.get(`http://a.test/${n}`));
    await stage.close();
    expect(dialsBetween(stage, 'p', FROM + 10_000, TO)).toBeLessThanOrEqual(4);
    expect(stage.tales('circuit').map(({ event: { target, pool } }) => target ?? pool)).toEqual(
      stage.tales('circuit').map(() => 'p'),
    );
    const closed = stage.tales('circuit').find(({ event }) => !event.open)!;
    const opened = stage.tales('circuit').filter(({ event, at }) => event.open && at < closed.at);
    expect(closed.at - TO).toBeLessThanOrEqual(opened.at(-1)!.event.forMs);
    const failed = [...ends].filter(([end]) => end !== 200).reduce((sum, [, times]) => sum + times, 0);
    expect(failed).toBeLessThanOrEqual(2);
    expect(between(stage, 190_000, 200_000)).toBeGreaterThan(250);
  });

  it('where there is another pool, that one takes over, also for those who wait already', async () => {
    const stage: Stage = new Stage({
      world: { ...down(() => stage, 'cheap'), exits: 50, latencyMs: [100, 400] },
      manager: {
        pools: { cheap: { ...rotating('cheap.test'), concurrency: 5 }, dear: rotating('dear.test') },
        targets: [{ match: 'a.test', budget, pools: ['cheap', 'dear'] }],
        retry,
      },
    });
    const longest: number[] = [];
    const ends = await stage.load(40, 200_000, async (n) => {
      const from = stage.clock.now();
      const status = await stage.get(`http://a.test/${n}`);
      longest.push(stage.clock.now() - from);
      return status;
    });
    await stage.close();
    const by = (pool: string, from: number, to: number): number =>
      stage.passages.filter(({ sentAt, pool: its }) => its === pool && sentAt >= from && sentAt < to).length;
    expect(by('dear', 0, FROM)).toBe(0);
    expect(by('dear', FROM + 5000, TO)).toBeGreaterThan(250);
    expect(by('cheap', 190_000, 200_000)).toBeGreaterThan(60);
    expect(Math.max(...longest)).toBeLessThan(8000);
    expect([...ends.keys()]).toEqual([200]);
  });
});

describe('on real sockets', () => {
  it('a site that is down is left alone, and asked again after its open time', async () => {
    let down = true;
    await using target = await mockTarget({ handler: () => (down ? { status: 503 } : undefined) });
    await using gateway = await mockGateway({ exits: 5, hosts: { 'shop.test': target.url } });
    await using proxies = pacedManager({
      gateway: gateway.url,
      targets: shopBudget(1000, 1000),
      breaker: { openMs: 2000 },
    });
    let open = false;
    proxies.on('circuit', (event) => {
      open = event.open;
    });
    const all = fetchMany(proxies, 'http://shop.test/', 60);
    await eventually(async () => open && (await proxies.stats()).inFlight).toBe(0);
    const sent = target.arrivals.length;
    expect.soft(sent).toBeLessThanOrEqual(60);
    await new Promise((resolve) => setTimeout(resolve, 200));
    // Soft: what waits here is to be served all the same.
    expect.soft(target.arrivals.length).toBe(sent);
    down = false;
    expect(new Set(await all)).toEqual(new Set([200]));
  });
});
