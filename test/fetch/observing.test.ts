import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { ConfigError, type PacelineEventName, type PacelineEvents, type ProxyManager } from 'paceline';
import { type MockGateway, type MockTarget, mockGateway, mockTarget } from 'paceline/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { failureOf } from '../support/failing.ts';
import { fetchMany, pacedManager, shopBudget } from '../support/paced.ts';
import { eventually } from '../support/resources.ts';

// What can be seen of the traffic: exchange(response), stats(), events.

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

/** All events of some names, as they come. */
function record<N extends PacelineEventName>(...names: N[]): { name: N; event: PacelineEvents[N] }[] {
  const events: { name: N; event: PacelineEvents[N] }[] = [];
  for (const name of names) proxies.on(name, (event) => events.push({ name, event }));
  return events;
}

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
    await using paced = pacedManager({
      targets: [{ match: '127.0.0.1', budget: { limit: 1, windowMs: 120, spacing: 'burst' } }],
    });
    const [first, second] = await Promise.all([paced.fetch(target.url), paced.fetch(target.url)]);
    expect(paced.exchange(first)!.waitedMs).toBeLessThan(60);
    expect(paced.exchange(second)!.waitedMs).toBeGreaterThanOrEqual(119);
  });

  it('knows nothing of other people’s responses', async () => {
    expect(proxies.exchange(new Response())).toBeUndefined();
    expect(proxies.exchange(await fetch(target.url))).toBeUndefined();
  });
});

describe('stats()', () => {
  it('counts outcomes, waits, latency and bytes, by pool and by target', async () => {
    replies = [{ status: 403 }, { status: 404 }, { status: 503 }, undefined, { reset: true }];
    expect(await fetchMany(proxies, URL_, 5, 1)).toEqual([403, 404, 200, 200, 200]);
    const { pools, targets, ...whole } = await proxies.stats();
    const counted = {
      requests: 7,
      outcomes: { ok: 4, blocked: 1, 'target-error': 1, 'network-error': 1, 'rate-limited': 0 },
    };
    expect(targets['shop.test']).toMatchObject(counted);
    expect(pools.default).toMatchObject({
      ...counted,
      type: 'residential',
      egress: 'verified',
      concurrency: 30,
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
    await using paced = pacedManager({
      targets: [{ match: '127.0.0.1', budget: { limit: 1, windowMs: 100, spacing: 'burst' } }],
    });
    const startedAt = performance.now();
    await fetchMany(paced, target.url, 2, 1);
    const tookMs = performance.now() - startedAt;
    const { requests, waitedMs, longestWaitMs } = (await paced.stats()).targets['127.0.0.1'];
    expect(requests).toBe(4);
    expect(waitedMs).toBeGreaterThan(250);
    expect(waitedMs).toBeLessThanOrEqual(tookMs);
    expect(longestWaitMs).toBeLessThan(150);
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

describe('events', () => {
  it('tell the way of a request: session, egress, admit, settle', async () => {
    const events = record('session', 'egress', 'admit', 'settle', 'retry');
    await (await proxies.fetch(URL_)).text();
    const [{ event: opened }] = events;
    const egress = target.arrivals[0].ip;
    const { session } = opened as PacelineEvents['egress'];
    expect(events.filter(({ name }) => name !== 'session')).toEqual([
      { name: 'egress', event: { pool: 'default', session, egress, duplicate: false } },
      {
        name: 'admit',
        event: { target: 'shop.test', tier: 'mid', pool: 'default', session, egress, waitedMs: expect.any(Number) },
      },
      {
        name: 'settle',
        event: {
          target: 'shop.test',
          pool: 'default',
          session,
          egress,
          outcome: 'ok',
          status: 200,
          latencyMs: expect.any(Number),
        },
      },
    ]);
  });

  it('tell of attempts, with the reason, and of what each came to', async () => {
    replies = [{ status: 503 }, { reset: true }];
    gateway.fault({ kind: 'status', status: 502 });
    const events = record('retry', 'settle');
    await proxies.fetch(URL_);
    const brief = events.map(({ name, event }) => [name, 'outcome' in event ? event.outcome : event.attempt]);
    expect(brief).toEqual([
      ['settle', 'gateway-error'],
      ['retry', 1],
      ['settle', 'target-error'],
      ['retry', 2],
      ['settle', 'network-error'],
      ['retry', 3],
      ['settle', 'ok'],
    ]);
    const reasons = events.filter(({ name }) => name === 'retry').map(({ event }) => event as PacelineEvents['retry']);
    expect(reasons.map(({ reason }) => reason)).toEqual([
      expect.stringContaining('502'),
      'status 503',
      expect.any(String),
    ]);
    expect(reasons[0]).toMatchObject({ target: 'shop.test', delayMs: 0 });
  });

  it('tell of cooldowns, and of exits that must not be used', async () => {
    replies = [{ status: 429, headers: { 'retry-after': '60' } }];
    await using single = await mockGateway({ exits: 2, hosts: { 'shop.test': target.url } });
    await using paced = pacedManager({ gateway: single.url, targets: shopBudget(1, 100) });
    const cooldowns: unknown[] = [];
    const refusals: PacelineEvents['refuse'][] = [];
    paced.on('cooldown', (event) => cooldowns.push(event));
    paced.on('refuse', (event) => refusals.push(event));
    await fetchMany(paced, URL_, 6);
    const [limited] = target.arrivals;
    expect(cooldowns).toEqual([{ target: 'shop.test', egress: limited.ip, forMs: 60_000 }]);
    expect(refusals[0]).toMatchObject({
      target: 'shop.test',
      pool: 'default',
      egress: expect.stringMatching(/^127\.0\.1\./),
    });
    expect(target.arrivals.filter(({ ip }) => ip === limited.ip)).toHaveLength(1);
  });

  it('go to the diagnostics channel of their name, as the same objects', async () => {
    const published: unknown[] = [];
    const listen = (message: unknown): void => void published.push(message);
    subscribe('paceline:settle', listen);
    const events = record('settle');
    await proxies.fetch(URL_);
    unsubscribe('paceline:settle', listen);
    await proxies.fetch(URL_);
    expect(published).toHaveLength(1);
    expect(published[0]).toBe(events[0].event);
  });

  it('reach whoever is on the diagnostics channel alone', async () => {
    const published: unknown[] = [];
    const listen = (message: unknown): void => void published.push(message);
    subscribe('paceline:admit', listen);
    await proxies.fetch(URL_);
    unsubscribe('paceline:admit', listen);
    expect(published).toEqual([expect.objectContaining({ target: 'shop.test' })]);
  });

  it('stop when the listener is taken off', async () => {
    let count = 0;
    const off = proxies.on('admit', () => count++);
    await proxies.fetch(URL_);
    off();
    off();
    await proxies.fetch(URL_);
    expect(count).toBe(1);
  });

  it('whose listener throws break no request and no other listener; the error surfaces by itself', async () => {
    const thrown: unknown[] = [];
    const before = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => thrown.push(error));
    try {
      for (const name of ['admit', 'settle', 'egress', 'session'] as const) {
        proxies.on(name, () => {
          throw new Error(name);
        });
      }
      let heard = 0;
      proxies.on('settle', () => heard++);
      expect(await fetchMany(proxies, URL_, 3, 1)).toEqual([200, 200, 200]);
      expect(heard).toBe(3);
      await eventually(() => thrown.filter((error) => (error as Error).message === 'settle').length).toBe(3);
      expect((await proxies.stats()).inFlight).toBe(0);
    } finally {
      process.removeAllListeners('uncaughtException');
      for (const listener of before) process.on('uncaughtException', listener);
    }
  });

  it('of unknown names, or without a function, are a ConfigError', () => {
    expect(() => proxies.on('settled' as never, () => {})).toThrow(ConfigError);
    expect(() => proxies.on('settle', 'listener' as never)).toThrow(ConfigError);
  });

  it('tell of a store that fails, and the request with it', async () => {
    const { memoryStore } = await import('paceline');
    const store = memoryStore();
    store.reserve = () => {
      throw new Error('no store');
    };
    await using broken = pacedManager({ store });
    const errors: Error[] = [];
    broken.on('store-error', ({ error }) => errors.push(error));
    const error = await failureOf(broken.fetch(target.url));
    expect(error).toMatchObject({ name: 'StoreError', code: 'PACELINE_STORE', cause: { message: 'no store' } });
    expect(errors).toEqual([error]);
  });
});
