import { ClosedError, ProxyManager } from 'paceline';
import { mockGateway, mockTarget, virtualClock } from 'paceline/testing';
import { describe, expect, it } from 'vitest';
import { failureOf } from '../support/failing.ts';
import { closeClean, pacedManager } from '../support/paced.ts';
import { eventually, resourceBaseline } from '../support/resources.ts';

// close() takes nothing new, lets what is there come to its end, and frees everything. With force it cuts.

describe('close()', () => {
  it('lets requests under way come to their end: attempts, redirects and bodies too', async () => {
    let broken = 1;
    await using target = await mockTarget({
      handler: ({ path }) => {
        if (path === '/503' && broken-- > 0) return { status: 503 };
        if (path === '/hop') return { redirect: '/landed', delayMs: 50 };
        return { body: path, delayMs: 50 };
      },
    });
    await using gateway = await mockGateway();
    const proxies = pacedManager({ gateway: gateway.url, retry: { baseMs: 100, capMs: 100 }, random: () => 0.5 });
    const bodies = ['/a', '/503', '/hop'].map(async (path) => (await proxies.fetch(target.url + path)).text());
    await target.arrived(3);
    const closing = proxies.close();
    expect(await Promise.all(bodies)).toEqual(['/a', '/503', '/landed']);
    await closing;
    await closeClean(proxies, { gateway, target });
  });

  it('waits for a request that pauses between two attempts', async () => {
    let broken = 1;
    await using target = await mockTarget({ handler: () => (broken-- > 0 ? { status: 503 } : undefined) });
    const proxies = pacedManager({ retry: { baseMs: 100, capMs: 100 }, random: () => 0.9 });
    const pausing = new Promise((resolve) => proxies.on('retry', resolve));
    const response = proxies.fetch(target.url);
    await pausing;
    await proxies.close();
    expect((await response).status).toBe(200);
    expect(target.arrivals).toHaveLength(2);
  });

  it('lets those who wait for a permit have their turn', async () => {
    await using target = await mockTarget();
    const targets = [{ match: '127.0.0.1', budget: { limit: 1, windowMs: 100, spacing: 'burst' as const } }];
    const proxies = pacedManager({ targets });
    const all = Array.from({ length: 4 }, async () => (await proxies.fetch(target.url)).text());
    await target.arrived(1);
    await proxies.close();
    expect(target.arrivals).toHaveLength(4);
    expect(target.worst(100)).toBe(1);
    await Promise.all(all);
  });

  it('cuts a body that nobody reads after a second', async () => {
    await using target = await mockTarget({ bodyBytes: 4_000_000 });
    await using gateway = await mockGateway();
    const proxies = pacedManager({ gateway: gateway.url });
    const response = await proxies.fetch(target.url);
    await closeClean(proxies, { gateway, target });
    expect(await failureOf(response.text())).toBeInstanceOf(TypeError);
  });

  it('refuses what comes after it with a ClosedError', async () => {
    await using target = await mockTarget();
    const proxies = pacedManager({});
    const session = proxies.session();
    const paced = proxies.wrap(globalThis.fetch);
    await proxies.close();
    for (const fetch of [proxies.fetch, session.fetch, paced]) {
      expect(await failureOf(fetch(target.url))).toBeInstanceOf(ClosedError);
    }
    expect(await failureOf(proxies.fetch(target.url, { pace: { session: 'a' } }))).toBeInstanceOf(ClosedError);
    expect(() => proxies.session()).toThrow(ClosedError);
    expect(() => session.rotate()).toThrow(ClosedError);
    expect(target.arrivals).toHaveLength(0);
    expect((await proxies.stats()).inFlight).toBe(0);
  });

  it('can be called again and again', async () => {
    const proxies = pacedManager({});
    const first = proxies.close();
    expect(proxies.close()).toBe(first);
    await Promise.all([first, proxies.close({ force: true }), proxies.close({ force: true })]);
    await proxies.close();
  });

  it('is what `await using` calls', async () => {
    let proxies!: ProxyManager;
    {
      await using scoped = new ProxyManager();
      proxies = scoped;
    }
    expect(await failureOf(proxies.fetch('http://127.0.0.1:9/'))).toBeInstanceOf(ClosedError);
  });

  it('leaves no socket, no timer and no permit', async () => {
    const released = resourceBaseline();
    const target = await mockTarget();
    const gateway = await mockGateway();
    const proxies = pacedManager({ gateway: gateway.url });
    await Promise.all(Array.from({ length: 20 }, async () => (await proxies.fetch(target.url)).text()));
    await closeClean(proxies, { gateway, target });
    const { waiting, inFlight } = await proxies.stats();
    expect([waiting, inFlight]).toEqual([0, 0]);
    await Promise.all([target.close(), gateway.close()]);
    await released();
  });

  it('does not close a store that was handed in', async () => {
    const { memoryStore } = await import('paceline');
    const store = memoryStore();
    let closed = 0;
    store.close = () => void closed++;
    await new ProxyManager({ store }).close();
    expect(closed).toBe(0);
  });
});

describe('close({ force: true })', () => {
  it.each(['at first', 'after a patient close()'])('fails everything at once with a ClosedError, %s', async (when) => {
    const released = resourceBaseline();
    const target = await mockTarget({
      handler: ({ path }) => {
        if (path === '/503') return { status: 503 };
        return path === '/large' ? { body: Buffer.alloc(4_000_000) } : { delayMs: 3_600_000 };
      },
    });
    const gateway = await mockGateway({ hosts: { 'slow.test': target.url, 'silent.test': target.url } });
    gateway.fault({ kind: 'silence', target: 'silent.test', times: Infinity });
    const proxies = pacedManager({
      gateway: gateway.url,
      targets: [{ match: 'slow.test', budget: { limit: 1, windowMs: 60_000 } }],
      timeouts: { connectMs: 60_000, headersMs: 60_000 },
      retry: { baseMs: 60_000, capMs: 60_000 },
      random: () => 0.9,
      pools: { direct: { direct: true } },
    });
    const pausing = new Promise((resolve) => proxies.on('retry', resolve));
    const large = await proxies.fetch(`${target.url}/large`);
    const pending = {
      'under way': proxies.fetch('http://slow.test/'),
      waiting: proxies.fetch('http://slow.test/', { pace: { session: 'one' } }),
      'in a pause': proxies.fetch('http://slow.test/503', { pace: { tier: 'open' } }),
      dialing: proxies.fetch('http://silent.test/'),
    };
    const failures = Promise.all(Object.values(pending).map(failureOf));
    await Promise.all([target.arrived(3), pausing]);
    await eventually(() => gateway.log.some(({ host }) => host === 'silent.test:80')).toBe(true);
    const closing = when === 'at first' ? undefined : proxies.close();
    const startedAt = performance.now();
    await proxies.close({ force: true });
    await closing;
    for (const failure of await failures) expect(failure).toBeInstanceOf(ClosedError);
    expect(await failureOf(large.text())).toMatchObject({ name: 'TypeError', cause: { code: 'PACELINE_CLOSED' } });
    expect(performance.now() - startedAt).toBeLessThan(900);
    await closeClean(proxies, { gateway, target });
    await Promise.all([target.close(), gateway.close()]);
    await released();
  });

  it('stops every timer of the clock', async () => {
    const clock = virtualClock();
    await using target = await mockTarget();
    const targets = [{ match: '127.0.0.1', budget: { limit: 1, windowMs: 60_000 } }];
    const proxies = pacedManager({ clock, targets, timeouts: { totalMs: 3_600_000, queueMs: 3_600_000 } });
    await (await proxies.fetch(target.url)).text();
    const waiting = Array.from({ length: 5 }, () => failureOf(proxies.fetch(target.url)));
    await eventually(async () => (await proxies.stats()).waiting).toBe(5);
    await proxies.close({ force: true });
    await Promise.all(waiting);
    expect(clock.pending).toBe(0);
  });
});
