import { setTimeout } from 'node:timers/promises';
import { type GatewayError, memoryStore, type ProxyManager, RetriesExhaustedError, SessionLostError } from 'paceline';
import { type MockTarget, mockGateway, mockTarget, virtualClock } from 'paceline/testing';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { failureOf, thrownBy } from '../support/failing.ts';
import { pacedManager, shopBudget } from '../support/paced.ts';
import { eventually } from '../support/resources.ts';

// A strict session ends rather than go on from another IP.

const URL_ = 'http://shop.test/';
/** The same target, but an origin of its own: it takes another tunnel. */
const OTHER = 'http://www.shop.test/';
let target: MockTarget;
beforeEach(async () => {
  target = await mockTarget();
});
afterEach(() => target.close());

const gatewayFor = () => mockGateway({ exits: 20, hosts: { '*.test': target.url } });
const get = async ({ fetch }: Pick<ProxyManager, 'fetch'>, url = URL_): Promise<void> => {
  await (await fetch(url)).text();
};

describe('a strict session whose exit changed', () => {
  it('sends nothing, says so, is not tried again, and stays lost until it is rotated', async () => {
    await using gateway = await gatewayFor();
    await using proxies = pacedManager({ gateway: gateway.url });
    const events: string[] = [];
    proxies.on('session', ({ session, state }) => events.push(`${session} ${state}`));
    const session = proxies.session({ id: 'one', strict: true });
    await get(session);
    const expected = session.egress;
    const actual = gateway.rotate('one');
    const lost = await failureOf(session.fetch(OTHER));
    expect(lost).toBeInstanceOf(SessionLostError);
    expect(lost).toMatchObject({
      ...{ name: 'SessionLostError', code: 'PACELINE_SESSION_LOST', reason: 'exit-changed' },
      ...{ session: 'one', expected, actual },
    });
    expect([target.arrivals.length, gateway.stats().connects]).toEqual([1, 2]);
    for (let i = 0; i < 3; i++) expect(await failureOf(session.fetch(URL_))).toBe(lost);
    expect([target.arrivals.length, gateway.stats().connects, session.egress]).toEqual([1, 2, expected]);
    session.rotate();
    await get(session);
    expect(target.arrivals[1].ip).toBe(gateway.exitOf(session.id));
    expect(events).toEqual(['one open', 'one lost', `${session.id} open`, 'one close']);
  });

  it('gives its permit back: neither exit has lost a slot', async () => {
    await using gateway = await gatewayFor();
    const store = memoryStore();
    const bind = vi.spyOn(store, 'bind');
    await using proxies = pacedManager({ gateway: gateway.url, targets: shopBudget(2, 60_000), store });
    const session = proxies.session({ strict: true });
    await get(session);
    const actual = gateway.rotate(session.id);
    expect(await failureOf(session.fetch(OTHER))).toBeInstanceOf(SessionLostError);
    expect(bind.mock.calls.map(([, , egress]) => egress)).not.toContain(actual);
    const { targets, pools, inFlight, waiting } = await proxies.stats();
    expect(targets['shop.test'].state?.active).toBe(0);
    const egresses = targets['shop.test'].state?.egresses.filter(({ busy, cooling }) => busy + cooling > 0);
    expect(egresses).toMatchObject([{ egress: session.egress, busy: 0, cooling: 1 }]);
    expect([pools.default.inUse, inFlight, waiting]).toEqual([0, 0, 0]);
    expect(targets['shop.test'].outcomes).toMatchObject({ ok: 1, 'gateway-error': 1, 'network-error': 0 });
  });

  it('takes those that wait for their turn with it, and those between two hops', async () => {
    const release = Promise.withResolvers<void>();
    await using slow = await mockTarget({
      async handler({ path }) {
        if (path !== '/hop') return undefined;
        await release.promise;
        return { redirect: 'http://third.test/' };
      },
    });
    await using gateway = await mockGateway({ exits: 20, hosts: { 'shop.test': slow.url, '*.test': target.url } });
    await using proxies = pacedManager({
      gateway: gateway.url,
      targets: [
        { match: 'shop.test', budget: { limit: 2, windowMs: 300, spacing: 'burst' } },
        { match: 'third.test', budget: { limit: 1, windowMs: 3_600_000 } },
      ],
    });
    const session = proxies.session({ strict: true });
    await get(session);
    await get(session, 'http://third.test/');
    const hopping = failureOf(session.fetch('http://shop.test/hop'));
    await slow.arrived(2);
    const waiting = [1, 2, 3].map(() => failureOf(session.fetch(URL_)));
    await eventually(async () => (await proxies.stats()).waiting).toBe(3);
    gateway.rotate(session.id);
    const lost = await failureOf(session.fetch('http://other.test/'));
    expect(lost).toBeInstanceOf(SessionLostError);
    release.resolve();
    for (const error of await Promise.all([hopping, ...waiting])) expect(error).toBe(lost);
    expect([slow.arrivals.length, target.arrivals.length]).toEqual([2, 1]);
    expect(await proxies.stats()).toMatchObject({ inFlight: 0, waiting: 0 });
  });

  it('is found out by the first of many', async () => {
    await using gateway = await gatewayFor();
    await using proxies = pacedManager({ gateway: gateway.url });
    const session = proxies.session({ strict: true });
    await get(session);
    gateway.rotate(session.id);
    const all = await Promise.all(Array.from({ length: 10 }, () => failureOf(session.fetch(OTHER))));
    expect(new Set(all).size).toBe(1);
    expect(target.arrivals).toHaveLength(1);
    await eventually(() => gateway.stats().tunnels).toBe(1);
  });

  it.each(['at once', 'late'])(
    'may be on two exits from the start: the second is refused, by a store that answers %s',
    async (when) => {
      await using gateway = await mockGateway({
        exits: 20,
        rotation: 'per-connection',
        hosts: { '*.test': target.url },
      });
      const store = memoryStore();
      const bind = store.bind.bind(store);
      // All tunnels are up before the first permit is bound.
      const late = (...ask: Parameters<typeof bind>) => setTimeout(50).then(() => bind(...ask));
      if (when === 'late') vi.spyOn(store, 'bind').mockImplementation(late as never);
      await using proxies = pacedManager({ gateway: gateway.url, store });
      const session = proxies.session({ strict: true });
      const exits: string[] = [];
      proxies.on('egress', ({ egress }) => exits.push(egress));
      const all = await Promise.allSettled(Array.from({ length: 8 }, () => get(session)));
      const failures = all.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []));
      expect(failures.length).toBeGreaterThan(0);
      for (const failure of failures) expect(failure).toBeInstanceOf(SessionLostError);
      expect(target.ips().length).toBeLessThanOrEqual(1);
      expect(exits).toEqual([session.egress]);
    },
  );
});

it('a session that is not strict goes on, and an event tells of the new exit', async () => {
  await using gateway = await gatewayFor();
  await using proxies = pacedManager({ gateway: gateway.url });
  const exits: string[] = [];
  proxies.on('egress', ({ egress }) => exits.push(egress));
  const session = proxies.session();
  await get(session);
  const before = session.egress!;
  const after = gateway.rotate(session.id);
  await get(session, OTHER);
  expect([session.egress, exits]).toEqual([after, [before, after]]);
});

it('a strict session goes on over new tunnels from the same exit', async () => {
  await using gateway = await gatewayFor();
  await using proxies = pacedManager({ gateway: gateway.url });
  const session = proxies.session({ strict: true });
  for (const url of [URL_, OTHER, 'http://api.shop.test/']) await get(session, url);
  expect([target.arrivals.length, target.ips().length, gateway.stats().connects]).toEqual([3, 1, 3]);
});

it('a strict session whose exit is gone fails after the usual attempts, on the same id; it may come back', async () => {
  await using gateway = await gatewayFor();
  await using proxies = pacedManager({ gateway: gateway.url, retry: { attempts: 3, ratio: 10 } });
  const session = proxies.session({ strict: true });
  await get(session);
  const restore = gateway.fault({ kind: 'status', status: 502, times: Infinity });
  const error = (await failureOf(session.fetch(OTHER))) as RetriesExhaustedError;
  expect(error).toBeInstanceOf(RetriesExhaustedError);
  expect([error.attempts, (error.cause as GatewayError).kind]).toEqual([3, 'exit-failed']);
  expect(gateway.log.slice(1).map((ask) => ask.session)).toEqual([session.id, session.id, session.id]);
  restore();
  await get(session, OTHER);
  expect(target.ips()).toHaveLength(1);
});

describe('when its time is over', () => {
  it('a strict session fails instead of taking a new id', async () => {
    const clock = virtualClock();
    await using gateway = await gatewayFor();
    await using proxies = pacedManager({ pools: { res: { gateway: gateway.url, sessionTtlMs: 60_000 } }, clock });
    const session = proxies.session({ id: 'short', strict: true });
    await get(session);
    await clock.advance(59_999);
    await get(session);
    expect(session.remainingMs).toBe(1);
    await clock.advance(1);
    const lost = await failureOf(session.fetch(URL_));
    expect(lost).toBeInstanceOf(SessionLostError);
    expect(lost).toMatchObject({ reason: 'expired', session: 'short', expected: session.egress, actual: undefined });
    expect(await failureOf(session.fetch(URL_))).toBe(lost);
    expect([session.id, session.remainingMs, target.arrivals.length]).toEqual(['short', 0, 2]);
    session.rotate();
    expect(session.remainingMs).toBe(60_000);
    await get(session);
    expect(target.arrivals).toHaveLength(3);
  });

  it('another one says so: a close with its reason', async () => {
    const clock = virtualClock();
    await using gateway = await gatewayFor();
    await using proxies = pacedManager({ pools: { res: { gateway: gateway.url, sessionTtlMs: 60_000 } }, clock });
    const events: object[] = [];
    proxies.on('session', (event) => events.push(event));
    const session = proxies.session({ id: 'a1' });
    await clock.advance(60_000);
    await get(session);
    const second = session.id;
    session.rotate();
    await session.close();
    expect(events).toEqual([
      { pool: 'res', session: 'a1', state: 'open' },
      { pool: 'res', session: second, state: 'open' },
      { pool: 'res', session: 'a1', state: 'close', reason: 'expire' },
      { pool: 'res', session: session.id, state: 'open' },
      { pool: 'res', session: second, state: 'close', reason: 'rotate' },
      { pool: 'res', session: session.id, state: 'close' },
    ]);
  });

  it('never comes in a pool of a single exit', async () => {
    const clock = virtualClock();
    await using gateway = await gatewayFor();
    const one = gateway.url.replace('{session}', 'one');
    await using proxies = pacedManager({
      pools: { isp: { proxies: [one], sessionTtlMs: 1000 }, own: { direct: true, sessionTtlMs: 1000 } },
      targets: [{ match: 'shop.test' }, { match: '127.0.0.1' }],
      clock,
    });
    for (const [pool, url] of [
      ['isp', URL_],
      ['own', target.url],
    ]) {
      const session = proxies.session({ pool, strict: true });
      const { id } = session;
      await get(session, url);
      session.cookies.set('a=1', url);
      await clock.advance(10_000);
      await get(session, url);
      expect([session.id, session.remainingMs, session.cookies.get(url)]).toEqual([id, Infinity, 'a=1']);
    }
  });
});

describe('in a list of proxies', () => {
  it('rotate() goes to another one, always', async () => {
    await using gateway = await gatewayFor();
    const others = await Promise.all([1, 2].map(() => gatewayFor()));
    const proxies_ = [gateway, ...others].map(({ url }) => url.replace('{session}', 'fixed'));
    await using proxies = pacedManager({ pools: { isp: { proxies: proxies_ } } });
    const all = [gateway, ...others];
    const asked = () => all.map(({ log }) => log.length);
    const session = proxies.session();
    let before = asked();
    let last = -1;
    const used = new Set<number>();
    for (let i = 0; i < 25; i++) {
      await get(session);
      const now = asked();
      const which = now.findIndex((count, at) => count > before[at]);
      expect(which).not.toBe(last);
      used.add((last = which));
      before = now;
      session.rotate();
    }
    expect(used.size).toBe(3);
    await proxies.close();
    await Promise.all(others.map((other) => other.close()));
  });
});

describe('strict is for exits that are named', () => {
  it.each([
    ['session' as const, 'does not name them'],
    [{ probeUrl: 'http://ip.test/' }, 'asks a probe page once a session'],
  ])('with egress: %j it is a ConfigError', async (egress, why) => {
    await using proxies = pacedManager({ pools: { res: { gateway: 'http://u-{session}:p@127.0.0.1:1', egress } } });
    const error = thrownBy(() => proxies.session({ strict: true }));
    expect(error).toMatchObject({ name: 'ConfigError', option: 'session.strict' });
    expect((error as Error).message).toContain(why);
    expect(proxies.session().egress).toBeUndefined();
  });

  it('a gateway that names none fails it, with nothing sent', async () => {
    await using gateway = await mockGateway({ egressHeader: false, hosts: { 'shop.test': target.url } });
    await using proxies = pacedManager({ gateway: gateway.url, retry: { attempts: 2 } });
    const error = await failureOf(proxies.session({ strict: true }).fetch(URL_));
    expect((error as Error).cause).toMatchObject({ code: 'PACELINE_GATEWAY', kind: 'protocol' });
    expect(target.arrivals).toHaveLength(0);
    await get(proxies.session());
    expect(target.arrivals).toHaveLength(1);
  });
});

describe('bad options', () => {
  it.each([
    [{ strict: 1 }, 'session.strict'],
    [{ strict: 'yes' }, 'session.strict'],
    [{ cookies: null }, 'session.cookies'],
    [{ cookies: {} }, 'session.cookies'],
    [{ cookieJar: true }, 'session.cookieJar'],
  ])('%j are a ConfigError', async (options, option) => {
    await using proxies = pacedManager({});
    expect(thrownBy(() => proxies.session(options as never))).toMatchObject({ name: 'ConfigError', option });
  });

  it.each([
    [{ keepCookies: 1 }, 'rotate.keepCookies'],
    [{ cookies: true }, 'rotate.cookies'],
    [5, 'rotate'],
  ])('rotate(%j) is a ConfigError, and rotates nothing', async (options, option) => {
    await using proxies = pacedManager({});
    const session = proxies.session();
    const { id } = session;
    expect(thrownBy(() => session.rotate(options as never))).toMatchObject({ name: 'ConfigError', option });
    expect(session.id).toBe(id);
  });
});
