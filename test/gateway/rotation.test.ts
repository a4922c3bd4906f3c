import type { ProxyManager } from 'paceline';
import { type MockGateway, type MockTarget, mockGateway, mockTarget } from 'paceline/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { type TestCert, testCert } from '../support/certs.ts';
import { collectGarbage } from '../support/garbage.ts';
import { closeClean, fetchMany, pacedManager, shopBudget } from '../support/paced.ts';
import { tlsTarget } from '../support/tls-target.ts';

// Keep-alive defeats rotation in a stock agent (shown in the comments: 2 exits of 20 over https, 1 over h2). Here it must not;
// and where sessions are asked for, tunnels must live.

let cert: TestCert;
beforeAll(async () => {
  cert = await testCert();
});

const TARGETS = [
  ['http', {}],
  ['https', { tls: true }],
  ['h2-capable https', { tls: true, http2: true }],
] as const;

function targetOf(kind: { readonly tls?: boolean; readonly http2?: boolean }, options = {}): Promise<MockTarget> {
  return mockTarget({ ...options, ...(kind.tls && { tls: cert }), ...(kind.http2 && { http2: true }) });
}

function urlOf(target: MockTarget): string {
  return `${new URL(target.url).protocol}//shop.test/`;
}

/** A manager over one pool that rotates on every request. */
function rotating(gateway: MockGateway, pool = {}, options = {}): ProxyManager {
  return pacedManager({
    pools: { rotating: { gateway: gateway.rotatingUrl, rotation: 'per-request', ...pool } },
    requestTls: { ca: cert.ca },
    ...options,
  });
}

describe.concurrent.each(TARGETS)("rotation 'per-request' to an %s target", (_, kind) => {
  it.each([1, 5, 20])('gives every request a CONNECT and an exit of its own, %i at a time', async (concurrency) => {
    await using target = await targetOf(kind);
    await using gateway = await mockGateway({
      exits: 20,
      assign: 'round-robin',
      rotation: 'per-connection',
      hosts: { 'shop.test': target.url },
    });
    const proxies = rotating(gateway, { egress: { header: 'x-egress-ip' } });
    expect(await fetchMany(proxies, urlOf(target), 20, concurrency)).toEqual(Array(20).fill(200));
    expect(gateway.stats().connects).toBe(20);
    expect(target.ips().sort()).toEqual([...gateway.exits].sort());
    await closeClean(proxies, { gateway, target });
  });

  it('keeps the budget of every exit that the gateway names', async () => {
    const budget = { limit: 2, windowMs: 400 };
    await using target = await targetOf(kind, { budget });
    await using gateway = await mockGateway({ exits: 6, rotation: 'per-request', hosts: { 'shop.test': target.url } });
    const proxies = rotating(
      gateway,
      { egress: { header: 'x-egress-ip' } },
      { targets: shopBudget(budget.limit, budget.windowMs) },
    );
    expect(await fetchMany(proxies, urlOf(target), 24)).toEqual(Array(24).fill(200));
    expect(target.overBudget()).toBe(0);
    expect(target.worst()).toBe(budget.limit);
    // Tunnels dropped for an exit that is used up cost the target nothing, and grow rarer as they repeat.
    expect(target.arrivals.length).toBe(24);
    expect((await proxies.stats()).pools.rotating.egress).toBe('verified');
    await closeClean(proxies, { gateway, target });
  });

  it('with poolSize keeps the budget of the pool as a whole, on the gateway naming its exits or not', async () => {
    for (const egressHeader of [false, 'x-egress-ip'] as const) {
      const windowMs = 200;
      await using target = await targetOf(kind);
      await using gateway = await mockGateway({
        exits: 3,
        rotation: 'per-request',
        egressHeader,
        hosts: { 'shop.test': target.url },
      });
      const proxies = rotating(gateway, { poolSize: 3 }, { targets: shopBudget(2, windowMs) });
      expect(await fetchMany(proxies, urlOf(target), 15)).toEqual(Array(15).fill(200));
      const times = target.arrivals.map(({ at }) => at).sort((a, b) => a - b);
      for (let i = 6; i < times.length; i++) expect(times[i] - times[i - 6]).toBeGreaterThanOrEqual(windowMs);
      // A dial a request: what is not known of an exit cannot be a reason to drop it.
      expect(gateway.log.length).toBe(15);
      expect((await proxies.stats()).pools.rotating.egress).toBe('pool');
      await closeClean(proxies, { gateway, target });
    }
  });
});

it('a pool that rotates by header fails clearly when the gateway names no exit', async () => {
  await using target = await mockTarget();
  await using gateway = await mockGateway({ egressHeader: false, hosts: { 'shop.test': target.url } });
  const proxies = rotating(gateway, { egress: { header: 'x-egress-ip' } }, { retry: { attempts: 1 } });
  await expect(proxies.fetch('http://shop.test/')).rejects.toMatchObject({
    kind: 'protocol',
    message: expect.stringContaining('x-egress-ip'),
  });
  expect(target.arrivals).toEqual([]);
  await closeClean(proxies, { gateway, target });
});

describe.concurrent.each(TARGETS)('sticky sessions to an %s target', (_, kind) => {
  it.each([1, 4])('need one tunnel an exit for each request at a time, here %i', async (concurrency) => {
    const budget = { limit: 10, windowMs: 60_000 };
    await using target = await targetOf(kind, { budget });
    await using gateway = await mockGateway({ exits: 50, assign: 'round-robin', hosts: { 'shop.test': target.url } });
    const proxies = pacedManager({
      gateway: gateway.url,
      targets: shopBudget(budget.limit, budget.windowMs),
      requestTls: { ca: cert.ca },
    });
    expect(await fetchMany(proxies, urlOf(target), 60, concurrency)).toEqual(Array(60).fill(200));
    // The fewest exits that carry it: each is used up before the next is asked for.
    expect(target.ips().length).toBe(6);
    expect(gateway.stats().connects).toBeLessThanOrEqual(6 * concurrency);
    expect(target.overBudget()).toBe(0);
    await closeClean(proxies, { gateway, target });
  });

  it('stay on their exit, each on its own', async () => {
    await using target = await targetOf(kind);
    await using gateway = await mockGateway({ exits: 5, assign: 'round-robin', hosts: { 'shop.test': target.url } });
    const proxies = pacedManager({ gateway: gateway.url, requestTls: { ca: cert.ca } });
    const sessions = Array.from({ length: 5 }, () => proxies.session());
    for (let round = 0; round < 3; round++) {
      for (const session of sessions) {
        const response = await session.fetch(urlOf(target));
        await response.text();
        expect(response.headers.get('x-peer-ip')).toBe(gateway.exitOf(session.id));
        expect(session.egress).toBe(gateway.exitOf(session.id));
      }
    }
    expect([target.ips().length, gateway.stats().connects]).toEqual([5, 5]);
    await closeClean(proxies, { gateway, target });
  });
});

describe.concurrent('TLS sessions', () => {
  /** Handshakes resumed by a ticket that was given to another address. */
  const linked = (handshakes: readonly { ip: string; resumed: boolean }[]): number => {
    const seen = new Set<string>();
    return handshakes.filter(({ ip, resumed }) => {
      const first = !seen.has(ip);
      seen.add(ip);
      return first && resumed;
    }).length;
  };

  it.each([
    ['by name', 'x-egress-ip', { egress: { header: 'x-egress-ip' } }],
    ['unseen', false, { poolSize: 8 }],
  ] as const)('are never resumed from another exit by a pool that rotates %s', async (_, egressHeader, pool) => {
    await using target = await tlsTarget(cert);
    await using gateway = await mockGateway({
      exits: 8,
      assign: 'round-robin',
      rotation: 'per-connection',
      egressHeader,
      hosts: { 'shop.test': target.url },
    });
    const proxies = rotating(gateway, pool);
    await fetchMany(proxies, 'https://shop.test/', 8, 1);
    expect(target.handshakes.length).toBe(8);
    expect(target.handshakes.filter(({ resumed }) => resumed)).toEqual([]);
    await closeClean(proxies, { gateway });
  });

  it('are never resumed by another session, and are by their own', async () => {
    await using target = await tlsTarget(cert, { close: true });
    await using gateway = await mockGateway({ exits: 6, assign: 'round-robin', hosts: { 'shop.test': target.url } });
    const proxies = pacedManager({ gateway: gateway.url, requestTls: { ca: cert.ca } });
    const sessions = Array.from({ length: 6 }, () => proxies.session());
    for (let round = 0; round < 2; round++) {
      for (const session of sessions) await (await session.fetch('https://shop.test/')).text();
      // undici alone would forget all of them here.
      collectGarbage();
    }
    expect(target.handshakes.length).toBe(12);
    expect(linked(target.handshakes)).toBe(0);
    expect(target.handshakes.filter(({ resumed }) => resumed).length).toBe(6);
    await closeClean(proxies, { gateway });
  });

  it('are not carried over to a new exit of the same session', async () => {
    await using target = await tlsTarget(cert, { close: true });
    await using gateway = await mockGateway({ exits: 6, assign: 'round-robin', hosts: { 'shop.test': target.url } });
    const proxies = pacedManager({ gateway: gateway.url, requestTls: { ca: cert.ca } });
    const session = proxies.session();
    for (let i = 0; i < 4; i++) {
      await (await session.fetch('https://shop.test/')).text();
      await (await session.fetch('https://shop.test/')).text();
      gateway.rotate(session.id);
    }
    expect(new Set(target.handshakes.map(({ ip }) => ip)).size).toBe(4);
    expect(linked(target.handshakes)).toBe(0);
    // There was something to carry over: the second handshake through an exit is by the first one's ticket.
    expect(target.handshakes.map(({ resumed }) => resumed)).toEqual(Array(4).fill([false, true]).flat());
    await closeClean(proxies, { gateway });
  });
});

it('rotating and sticky pools live side by side in one manager, each as it is asked for', async () => {
  await using target = await mockTarget({ budget: { limit: 5, windowMs: 300 } });
  const hosts = { 'shop.test': target.url };
  await using one = await mockGateway({
    exits: ['127.0.5.1', '127.0.5.2', '127.0.5.3'],
    rotation: 'per-request',
    hosts,
  });
  await using two = await mockGateway({ exits: ['127.0.6.1', '127.0.6.2'], assign: 'round-robin', hosts });
  const proxies = pacedManager({
    pools: {
      rotating: { gateway: one.rotatingUrl, rotation: 'per-request', egress: { header: 'x-egress-ip' } },
      sticky: { gateway: two.url },
    },
    targets: shopBudget(5, 300),
  });
  const through = async (pool: string): Promise<void> => {
    const response = await proxies.fetch('http://shop.test/', { pace: { pool } });
    await response.text();
    expect(response.status).toBe(200);
    expect(proxies.exchange(response)).toMatchObject({ pool, egress: response.headers.get('x-peer-ip') });
  };
  for (let i = 0; i < 10; i++) await Promise.all([through('rotating'), through('sticky')]);
  expect(target.overBudget()).toBe(0);
  expect(one.stats().connects).toBeGreaterThanOrEqual(10);
  expect(two.stats().connects).toBe(2);
  await closeClean(proxies, { gateway: one, target });
  await closeClean(proxies, { gateway: two });
});
