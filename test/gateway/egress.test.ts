import { BudgetExceededError, GatewayError } from 'paceline';
import { type MockGateway, type MockTarget, mockGateway, mockTarget } from 'paceline/testing';
import { describe, expect, it } from 'vitest';
import { testCert } from '../support/certs.ts';
import { closeClean, fetchMany, pacedManager, shopBudget } from '../support/paced.ts';
import { rawGateway } from '../support/raw-gateway.ts';
import { eventually } from '../support/resources.ts';
import { tlsTarget } from '../support/tls-target.ts';

// A budget belongs to an address. However its name is learnt, it must be known before the request leaves.

const LIMIT = 3;
const WINDOW_MS = 300;

/** A page that says who asks. */
function ipPage(page: (ip: string) => string | object = (ip) => ({ ip })): Promise<MockTarget> {
  return mockTarget({ handler: ({ ip }) => ({ body: page(ip) }) });
}

async function world(options: Parameters<typeof mockGateway>[0] = {}, target = {}) {
  const shop = await mockTarget({ budget: { limit: LIMIT, windowMs: WINDOW_MS }, ...target });
  const gateway = await mockGateway({ ...options, hosts: { 'shop.test': shop.url, ...options?.hosts } });
  return {
    shop,
    gateway,
    async [Symbol.asyncDispose]() {
      await Promise.all([shop.close(), gateway.close()]);
    },
  };
}

const paced = (gateway: MockGateway, pool = {}) =>
  pacedManager({ pools: { res: { gateway: gateway.url, ...pool } }, targets: shopBudget(LIMIT, WINDOW_MS) });

describe.concurrent('the exit named on the CONNECT answer', () => {
  it.each([
    ['x-egress-ip', undefined],
    ['x-brd-ip', undefined],
    ['x-my-exit', { header: 'X-My-Exit' }],
  ])('as %s is what budgets, events and metadata go by', async (egressHeader, egress) => {
    await using w = await world({ exits: 4, egressHeader });
    const proxies = paced(w.gateway, egress && { egress });
    const named = new Set<string>();
    proxies.on('egress', (event) => named.add(event.egress));
    const response = await proxies.fetch('http://shop.test/');
    await response.text();
    const ip = response.headers.get('x-peer-ip');
    expect(proxies.exchange(response)).toMatchObject({ egress: ip, egressVerified: true });
    expect([...named]).toEqual([ip]);
    const stats = await proxies.stats();
    expect(stats.pools.res.egress).toBe('verified');
    expect(stats.targets['shop.test'].state?.egresses).toContainEqual(
      expect.objectContaining({ egress: ip, cooling: 1 }),
    );
    await closeClean(proxies, { gateway: w.gateway, target: w.shop });
  });

  it('is one budget for all the sessions that lead to it', async () => {
    await using w = await world({ exits: 1 });
    const proxies = paced(w.gateway);
    const sessions = [proxies.session(), proxies.session(), proxies.session()];
    await Promise.all(sessions.flatMap((s) => [1, 2, 3].map(async () => (await s.fetch('http://shop.test/')).text())));
    expect(w.shop.ips()).toEqual([w.gateway.exits[0]]);
    expect([w.shop.arrivals.length, w.shop.overBudget()]).toEqual([9, 0]);
    await closeClean(proxies, { gateway: w.gateway, target: w.shop });
  });

  it.each([
    ['2001:DB8:1:2:0:0:0:9', '[2001:db8:1:2::a]:4711'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['192.0.2.7:8080', ' 192.0.2.7'],
  ])('is the same however it is spelled: %s and %s', async (one, other) => {
    // A gateway and its target in one: what counts here is the name alone.
    await using gateway = await rawGateway((socket, _head, nth) => {
      socket.write(`HTTP/1.1 200 OK\r\nx-egress-ip: ${nth === 1 ? one : other}\r\n\r\n`);
      socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n'));
    });
    const proxies = pacedManager({ gateway: gateway.url, targets: shopBudget(1, 60_000) });
    await (await proxies.session().fetch('http://shop.test/')).text();
    const second = proxies.session().fetch('http://shop.test/', { pace: { maxWaitMs: 1000 } });
    await expect(second).rejects.toThrow(BudgetExceededError);
    const { state } = (await proxies.stats()).targets['shop.test'];
    expect(state?.egresses.filter(({ cooling }) => cooling > 0).length).toBe(1);
    await proxies.close();
  });
});

describe.concurrent('the exit named by a probe page', () => {
  it.each([
    ['JSON', (ip: string) => ({ origin: ip, country: 'us' })],
    ['plain text', (ip: string) => `${ip}\n`],
    ['HTML', (ip: string) => `<p>Your address is <b>${ip}</b>.</p>`],
  ])('in %s is asked for once a session, never once a request', async (_, page) => {
    await using ip = await ipPage(page);
    await using w = await world({ exits: 4, assign: 'round-robin', egressHeader: false, hosts: { 'ip.test': ip.url } });
    const proxies = paced(w.gateway, { egress: { probeUrl: 'http://ip.test/' } });
    expect(await fetchMany(proxies, 'http://shop.test/', 12, 6)).toEqual(Array(12).fill(200));
    const sessions = new Set(w.gateway.log.map(({ session }) => session)).size;
    expect(ip.arrivals.length).toBe(sessions);
    expect(w.shop.overBudget()).toBe(0);
    const response = await proxies.fetch('http://shop.test/');
    await response.text();
    expect(proxies.exchange(response)).toMatchObject({
      egress: response.headers.get('x-peer-ip'),
      egressVerified: true,
    });
    expect((await proxies.stats()).pools.res.egress).toBe('verified');
    await closeClean(proxies, { gateway: w.gateway, target: w.shop });
  });

  it('shares the budget of the sessions that are on it already, which then are retired', async () => {
    await using ip = await ipPage();
    await using w = await world({ exits: 2, assign: 'round-robin', egressHeader: false, hosts: { 'ip.test': ip.url } });
    const proxies = paced(w.gateway, { egress: { probeUrl: 'http://ip.test/' } });
    let duplicates = 0;
    proxies.on('egress', ({ duplicate }) => (duplicates += duplicate ? 1 : 0));
    expect(await fetchMany(proxies, 'http://shop.test/', 20)).toEqual(Array(20).fill(200));
    expect(w.shop.overBudget()).toBe(0);
    expect(w.shop.worst()).toBe(LIMIT);
    // Two exits: two sessions are worth keeping, and those that came up on a known one were given up.
    expect((await proxies.stats()).pools.res.sessions).toBe(2);
    expect(duplicates).toBeGreaterThan(0);
    await closeClean(proxies, { gateway: w.gateway, target: w.shop });
  });

  it.each<[string, () => Promise<MockTarget>]>([
    ['answers 500', () => mockTarget({ handler: () => ({ status: 500, body: '127.0.0.1' }) })],
    ['names no address', () => mockTarget({ handler: () => ({ body: 'who knows' }) })],
    ['hangs up', () => mockTarget({ handler: () => ({ reset: true }) })],
    ['never answers', () => mockTarget({ handler: () => ({ delayMs: 60_000 }) })],
  ])('is a GatewayError when the page %s, and the target sees nothing', async (_, page) => {
    await using ip = await page();
    await using w = await world({ exits: 4, egressHeader: false, hosts: { 'ip.test': ip.url } });
    const proxies = pacedManager({
      pools: { res: { gateway: w.gateway.url, egress: { probeUrl: 'http://ip.test/' } } },
      targets: shopBudget(LIMIT, WINDOW_MS),
      retry: { attempts: 2 },
      timeouts: { headersMs: 100, bodyMs: 100 },
    });
    const error = await proxies.fetch('http://shop.test/').catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: 'RetriesExhaustedError', cause: { kind: 'exit-failed', pool: 'res' } });
    expect((error as Error).cause).toBeInstanceOf(GatewayError);
    // A session whose exit cannot be known is given up: the second attempt took another.
    expect(new Set(w.gateway.log.map(({ session }) => session)).size).toBe(2);
    expect(w.shop.arrivals).toEqual([]);
    await closeClean(proxies, { gateway: w.gateway, target: w.shop });
  });

  it('can be waited for in vain: an abort ends that at once', async () => {
    await using ip = await mockTarget({ handler: () => ({ delayMs: 60_000 }) });
    await using w = await world({ exits: 4, egressHeader: false, hosts: { 'ip.test': ip.url } });
    const proxies = paced(w.gateway, { egress: { probeUrl: 'http://ip.test/' } });
    const controller = new AbortController();
    const fetching = proxies.fetch('http://shop.test/', { signal: controller.signal });
    fetching.catch(() => {});
    await ip.arrived(1);
    controller.abort();
    await expect(fetching).rejects.toMatchObject({ name: 'AbortError' });
    const { pools, targets } = await proxies.stats();
    expect([pools.res.inUse, targets['shop.test']?.state?.active ?? 0]).toEqual([0, 0]);
    await closeClean(proxies, { gateway: w.gateway, target: ip });
  });
});

describe.concurrent('the exit that nobody names', () => {
  it('is assumed from the session, and said to be', async () => {
    // More exits than sessions: with fewer, two sessions could share one unseen.
    await using w = await world({ exits: 40, assign: 'round-robin', egressHeader: false });
    const proxies = paced(w.gateway);
    expect(await fetchMany(proxies, 'http://shop.test/', 12)).toEqual(Array(12).fill(200));
    expect(w.shop.overBudget()).toBe(0);
    const response = await proxies.fetch('http://shop.test/');
    await response.text();
    expect(proxies.exchange(response)).toMatchObject({ egressVerified: false });
    expect((await proxies.stats()).pools.res.egress).toBe('assumed');
    await closeClean(proxies, { gateway: w.gateway, target: w.shop });
  });

  it("is assumed where egress: 'session' says so, whatever the gateway names", async () => {
    await using w = await world({ exits: 4, assign: 'round-robin' });
    const proxies = paced(w.gateway, { egress: 'session' });
    const response = await proxies.fetch('http://shop.test/');
    await response.text();
    expect(proxies.exchange(response)).toMatchObject({
      egressVerified: false,
      egress: expect.stringMatching(/^res\//),
    });
    await closeClean(proxies, { gateway: w.gateway, target: w.shop });
  });
});

describe.concurrent('an exit that changes under a session', () => {
  it('is noticed before the request leaves: over budget, it waits for that exit and spends nothing', async () => {
    await using w = await world({ exits: 2, assign: 'round-robin' });
    const proxies = paced(w.gateway);
    const [one, two] = [proxies.session(), proxies.session()];
    await (await two.fetch('http://shop.test/')).text();
    for (let i = 0; i < LIMIT; i++) await (await one.fetch('http://shop.test/')).text();
    const refused: string[] = [];
    proxies.on('refuse', ({ egress }) => refused.push(egress));
    // The second session loses its peer, and is given the exit that the first one has used up.
    w.gateway.closeTunnels(two.id);
    await eventually(() => w.gateway.stats().tunnels).toBe(1);
    expect(w.gateway.rotate(two.id)).toBe(one.egress);
    await (await two.fetch('http://shop.test/')).text();
    expect(refused).toEqual([one.egress]);
    expect(two.egress).toBe(one.egress);
    expect([w.shop.arrivals.length, w.shop.overBudget()]).toEqual([LIMIT + 2, 0]);
    await closeClean(proxies, { gateway: w.gateway, target: w.shop });
  });

  it('is noticed before TLS: the target does not even get a handshake from an exit that is used up', async () => {
    const cert = await testCert();
    await using target = await tlsTarget(cert);
    await using gateway = await mockGateway({ exits: 1, hosts: { 'shop.test': target.url } });
    const proxies = pacedManager({
      gateway: gateway.url,
      targets: shopBudget(1, WINDOW_MS),
      requestTls: { ca: cert.ca },
    });
    let refused = 0;
    proxies.on('refuse', () => refused++);
    await (await proxies.session().fetch('https://shop.test/')).text();
    await (await proxies.session().fetch('https://shop.test/')).text();
    expect([refused, target.hellos, gateway.stats().connects]).toEqual([1, 2, 3]);
    await closeClean(proxies, { gateway });
  });

  it('at random, again and again, never brings one request over the budget of any', async () => {
    // Every answer closes its tunnel, so every request dials, and a third of the dials come up somewhere else.
    await using w = await world(
      { exits: 5, seed: 7 },
      { handler: () => ({ headers: { connection: 'close' }, body: 'ok' }) },
    );
    w.gateway.fault({ kind: 'switch-exit', probability: 0.35 });
    const proxies = paced(w.gateway);
    let refused = 0;
    proxies.on('refuse', () => refused++);
    expect(await fetchMany(proxies, 'http://shop.test/', 60, 12)).toEqual(Array(60).fill(200));
    expect([w.shop.arrivals.length, w.shop.overBudget(), w.shop.worst()]).toEqual([60, 0, LIMIT]);
    expect(refused).toBeGreaterThan(0);
    const { state } = (await proxies.stats()).targets['shop.test'];
    expect([state?.active, state?.egresses.reduce((sum, { busy }) => sum + busy, 0)]).toEqual([0, 0]);
    await closeClean(proxies, { gateway: w.gateway, target: w.shop });
  });
});
