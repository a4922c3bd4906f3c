import { type MockGateway, mockGateway, mockTarget, virtualClock } from 'paceline/testing';
import { request } from 'undici';
import { describe, expect, it } from 'vitest';
import { closeClean, fetchMany, pacedManager, shopBudget } from '../support/paced.ts';
import { eventually } from '../support/resources.ts';

const URL_ = 'http://shop.test/';
const sessionsOf = (gateway: MockGateway): Set<string | undefined> =>
  new Set(gateway.log.map(({ session }) => session));

describe.concurrent('a pool of sessions', () => {
  it('grows on demand, to the fewest that carry the load', async () => {
    await using target = await mockTarget({ budget: { limit: 10, windowMs: 60_000 } });
    await using gateway = await mockGateway({ exits: 40, assign: 'round-robin', hosts: { 'shop.test': target.url } });
    const proxies = pacedManager({ gateway: gateway.url, targets: shopBudget(10, 60_000) });
    await fetchMany(proxies, URL_, 10);
    expect((await proxies.stats()).pools.default.sessions).toBe(1);
    await fetchMany(proxies, URL_, 25);
    // Four would do; a fifth may be asked for before the exits of the others are named.
    const { sessions } = (await proxies.stats()).pools.default;
    expect([4, 5]).toContain(sessions);
    expect([sessionsOf(gateway).size, target.overBudget()]).toEqual([sessions, 0]);
    await closeClean(proxies, { gateway, target });
  });

  it('never has more than maxSessions; what they cannot carry waits', async () => {
    const [limit, windowMs] = [2, 200];
    await using target = await mockTarget({ budget: { limit, windowMs } });
    await using gateway = await mockGateway({ exits: 10, assign: 'round-robin', hosts: { 'shop.test': target.url } });
    const proxies = pacedManager({
      pools: { res: { gateway: gateway.url, maxSessions: 2 } },
      targets: shopBudget(limit, windowMs),
    });
    const start = performance.now();
    expect(await fetchMany(proxies, URL_, 12)).toEqual(Array(12).fill(200));
    expect(performance.now() - start).toBeGreaterThanOrEqual(2 * windowMs);
    expect([sessionsOf(gateway).size, target.ips().length, target.overBudget()]).toEqual([2, 2, 0]);
    await closeClean(proxies, { gateway, target });
  });

  it('uses no session beyond sessionTtlMs', async () => {
    const sessionTtlMs = 120;
    await using target = await mockTarget();
    await using gateway = await mockGateway({ exits: 30, assign: 'round-robin', hosts: { 'shop.test': target.url } });
    const clock = virtualClock();
    const proxies = pacedManager({ pools: { res: { gateway: gateway.url, sessionTtlMs } }, clock });
    const sticky = proxies.session();
    const firstSticky = sticky.id;
    const seen = new Map<string, { first: number; last: number }>();
    while (clock.now() < 4 * sessionTtlMs) {
      const at = clock.now();
      const response = await proxies.fetch(URL_);
      await response.text();
      const { session } = proxies.exchange(response)!;
      const known = seen.get(session!);
      if (known === undefined) seen.set(session!, { first: at, last: at });
      else known.last = at;
      await clock.advance(7);
    }
    expect(seen.size).toBeGreaterThanOrEqual(3);
    for (const { first, last } of seen.values()) expect(last - first).toBeLessThanOrEqual(sessionTtlMs);
    expect((await proxies.stats()).pools.res.sessions).toBeLessThanOrEqual(2);
    await (await sticky.fetch(URL_)).text();
    expect(sticky.id).not.toBe(firstSticky);
    await closeClean(proxies, { gateway, target });
  });

  it('gives up those whose exit is dead, and the work goes on elsewhere', async () => {
    await using target = await mockTarget();
    await using gateway = await mockGateway({ exits: 6, assign: 'round-robin', hosts: { 'shop.test': target.url } });
    const proxies = pacedManager({ gateway: gateway.url });
    await fetchMany(proxies, URL_, 4);
    const [dead] = target.ips();
    gateway.fault({ kind: 'status', status: 502, exit: dead, times: Infinity });
    gateway.closeTunnels();
    const asked = gateway.log.length;
    expect(await fetchMany(proxies, URL_, 20, 2)).toEqual(Array(20).fill(200));
    // It took one refusal (two, when both workers met it) to learn it.
    expect(gateway.log.slice(asked).filter(({ exit }) => exit === dead).length).toBeLessThanOrEqual(2);
    await closeClean(proxies, { gateway, target });
  });

  it('retires the sessions that came up on an exit already in use', async () => {
    await using target = await mockTarget({ budget: { limit: 4, windowMs: 200 } });
    await using gateway = await mockGateway({ exits: 3, seed: 3, hosts: { 'shop.test': target.url } });
    const proxies = pacedManager({ gateway: gateway.url, targets: shopBudget(4, 200) });
    let duplicates = 0;
    proxies.on('egress', ({ duplicate }) => (duplicates += duplicate ? 1 : 0));
    expect(await fetchMany(proxies, URL_, 40)).toEqual(Array(40).fill(200));
    expect(duplicates).toBeGreaterThan(0);
    expect((await proxies.stats()).pools.default.sessions).toBe(3);
    expect([target.ips().length, target.overBudget()]).toEqual([3, 0]);
    // Their tunnels go with them.
    await eventually(() => gateway.stats().tunnels <= 3 * 4).toBe(true);
    await closeClean(proxies, { gateway, target });
  });
});

describe('a tunnel', () => {
  it('carries one request after the other, and none beside', async () => {
    await using target = await mockTarget({ latencyMs: 5 });
    await using gateway = await mockGateway({ exits: 1, hosts: { 'shop.test': target.url } });
    const proxies = pacedManager({ gateway: gateway.url });
    await fetchMany(proxies, URL_, 12, 1);
    expect(gateway.stats().connects).toBe(1);
    await fetchMany(proxies, URL_, 12, 3);
    expect(gateway.stats().connects).toBe(3);
    await closeClean(proxies, { gateway, target });
  });

  it('is held by a body that nobody reads, and free again once it is cancelled', async () => {
    await using target = await mockTarget({ bodyBytes: 1_000_000 });
    await using gateway = await mockGateway({ exits: 1, hosts: { 'shop.test': target.url } });
    const proxies = pacedManager({ pools: { res: { gateway: gateway.url, concurrency: 1 } } });
    const first = await proxies.fetch(URL_);
    expect((await proxies.stats()).pools.res.inUse).toBe(1);
    const second = proxies.fetch(URL_);
    let answered = false;
    second.then(() => (answered = true));
    expect((await proxies.stats()).waiting).toBe(1);
    await first.body!.cancel();
    const response = await second;
    expect(answered).toBe(true);
    expect((await response.text()).length).toBe(1_000_000);
    await closeClean(proxies, { gateway, target });
  });

  it('that the target closed while it was idle is replaced, at the cost of a CONNECT and nothing else', async () => {
    await using target = await mockTarget({ keepAliveMs: 1000 });
    await using gateway = await mockGateway({ exits: 1, hosts: { 'shop.test': target.url } });
    const proxies = pacedManager({ gateway: gateway.url });
    for (let i = 0; i < 4; i++) {
      const { statusCode, body } = await request(URL_, { dispatcher: proxies.dispatcher, method: 'POST', body: 'x' });
      await body.dump();
      expect(statusCode).toBe(200);
      gateway.closeTunnels();
      await eventually(() => gateway.stats().tunnels).toBe(0);
    }
    expect([target.arrivals.length, gateway.stats().connects]).toEqual([4, 4]);
    await closeClean(proxies, { gateway, target });
  });
});
