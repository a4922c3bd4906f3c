import type { ProxyManager } from 'paceline';
import { type MockGateway, type MockTarget, mockGateway, mockTarget, virtualClock } from 'paceline/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fetchMany, pacedManager } from '../support/paced.ts';
import { eventually } from '../support/resources.ts';

// What can be seen of the traffic: exchange(response) and stats().

let target: MockTarget;
let gateway: MockGateway;
let proxies: ProxyManager;

const URL_ = 'http://shop.test/';
let replies: ({ status?: number; headers?: Record<string, string>; reset?: boolean } | undefined)[] = [];

beforeEach(async () => {
  replies = [];
  target = await mockTarget({ handler: () => replies.shift(), bodyBytes: 10_000 });
  gateway = await mockGateway({ exits: 10, hosts: { 'shop.test': target.url } });
  proxies = pacedManager({ gateway: gateway.url });
});
afterEach(async () => {
  await proxies.close();
  await Promise.all([target.close(), gateway.close()]);
});

describe('exchange(response)', () => {
  it('tells target, tier, pool, session, egress, attempts and outcome', async () => {
    replies = [{ status: 503 }];
    const response = await proxies.fetch(URL_, { pace: { session: 'mine' } });
    expect(proxies.exchange(response)).toEqual({
      target: 'shop.test',
      tier: 'mid',
      pool: 'default',
      session: 'mine',
      egress: gateway.exitOf('mine'),
      egressVerified: true,
      attempts: 2,
      sends: 2,
      waitedMs: expect.any(Number),
      bytesSent: expect.any(Number),
      bytesReceived: expect.any(Number),
      cached: false,
      outcome: 'ok',
    });
  });

  it('counts the bytes that the gateway counts, the tunnel included, and all of the body in the end', async () => {
    const response = await proxies.fetch(URL_);
    await response.text();
    await eventually(() => proxies.exchange(response)!.bytesReceived).toBe(gateway.stats().bytesOut);
    expect(proxies.exchange(response)!.bytesSent).toBe(gateway.stats().bytesIn);
    expect(gateway.stats().bytesOut).toBeGreaterThan(10_000);
  });

  it('tells the time in the queue', async () => {
    const clock = virtualClock();
    await using paced = pacedManager({
      targets: [{ match: '127.0.0.1', budget: { limit: 1, windowMs: 120, spacing: 'burst' } }],
      clock,
    });
    const first = await paced.fetch(target.url);
    const waiting = paced.fetch(target.url);
    await clock.advance(121);
    const second = await waiting;
    expect(paced.exchange(first)!.waitedMs).toBe(0);
    expect(paced.exchange(second)!.waitedMs).toBeGreaterThanOrEqual(119);
    expect(paced.exchange(second)!.waitedMs).toBeLessThan(121);
  });

  it('knows nothing of other people’s responses', async () => {
    expect(proxies.exchange(new Response())).toBeUndefined();
    expect(proxies.exchange(await fetch(target.url))).toBeUndefined();
  });
});

describe('stats()', () => {
  it('counts outcomes, waits, latency and bytes, by pool and by target', async () => {
    replies = [{ status: 403 }, undefined, { status: 404 }, { status: 503 }, undefined, { reset: true }];
    expect(await fetchMany(proxies, URL_, 5, 1)).toEqual([200, 404, 200, 200, 200]);
    const { pools, targets, ...whole } = await proxies.stats();
    const counted = {
      requests: 8,
      outcomes: { ok: 5, blocked: 1, 'target-error': 1, 'network-error': 1, 'rate-limited': 0 },
    };
    expect(targets['shop.test']).toMatchObject(counted);
    expect(pools.default).toMatchObject({
      ...counted,
      type: 'residential',
      egress: 'verified',
      concurrency: 100,
      inUse: 0,
    });
    expect(pools.default.latency.p50).toBeGreaterThan(0);
    expect(pools.default.latency.max).toBeGreaterThanOrEqual(pools.default.latency.p99);
    expect(pools.default.bytesReceived).toBe(gateway.stats().bytesOut);
    expect(targets['shop.test'].state).toMatchObject({ target: 'shop.test', active: 0 });
    expect(whole).toMatchObject({ waiting: 0, inFlight: 0, total: target.ips().length, blocked: 0 });
    expect(whole.active).toBe(whole.total - whole.blocked);
  });

  it('counts each wait once, whatever the number of attempts', async () => {
    replies = [undefined, { status: 503 }, { status: 503 }];
    const clock = virtualClock();
    await using paced = pacedManager({
      targets: [{ match: '127.0.0.1', budget: { limit: 1, windowMs: 60_000, spacing: 'burst' } }],
      clock,
    });
    const fetching = fetchMany(paced, target.url, 2, 1);
    for (let waits = 0; waits < 3; waits++) {
      await eventually(async () => {
        // Past the pause before another attempt.
        await clock.advance(1);
        return (await paced.stats()).waiting;
      }).toBe(1);
      await clock.advance(60_000);
    }
    await fetching;
    const tookMs = clock.now();
    const { requests, waitedMs, longestWaitMs } = (await paced.stats()).targets['127.0.0.1'];
    expect(requests).toBe(4);
    expect(waitedMs).toBeGreaterThan(150_000);
    expect(waitedMs).toBeLessThanOrEqual(tookMs);
    expect(longestWaitMs).toBeLessThan(60_001);
  });

  it('shows who waits and who is under way', async () => {
    await using slow = await mockTarget({ latencyMs: 60 });
    await using paced = pacedManager({
      targets: [{ match: '127.0.0.1', budget: { limit: 2, windowMs: 150, spacing: 'burst' } }],
    });
    const all = fetchMany(paced, slow.url, 5);
    await slow.arrived(2);
    const { waiting, inFlight, targets } = await paced.stats();
    expect([waiting, inFlight]).toEqual([3, 2]);
    expect(targets).toEqual({});
    await all;
  });
});
