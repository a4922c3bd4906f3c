import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { ConfigError, type PacelineEventName, type PacelineEvents, type ProxyManager } from 'paceline';
import { type MockGateway, type MockTarget, mockGateway, mockTarget } from 'paceline/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { failureOf } from '../support/failing.ts';
import { fetchMany, pacedManager, shopBudget } from '../support/paced.ts';
import { eventually } from '../support/resources.ts';

// What happens is told as it happens: to listeners, and on diagnostics channels.

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
