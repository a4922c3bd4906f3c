import { ClosedError, ConfigError } from 'paceline';
import { type MockTarget, mockGateway, mockTarget, virtualClock } from 'paceline/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { failureOf, thrownBy } from '../support/failing.ts';
import { pacedManager, shopBudget } from '../support/paced.ts';
import { eventually } from '../support/resources.ts';

let target: MockTarget;
beforeEach(async () => {
  target = await mockTarget();
});
afterEach(() => target.close());

const URL_ = 'http://shop.test/';
const gatewayFor = (exits = 20) => mockGateway({ exits, hosts: { 'shop.test': target.url } });

describe('a session', () => {
  it('leaves from one exit, for as long as it lives; two sessions have two', async () => {
    await using gateway = await gatewayFor();
    await using proxies = pacedManager({ gateway: gateway.url });
    await using first = proxies.session();
    await using second = proxies.session({ id: 'Second9' });
    const { fetch } = first;
    for (let i = 0; i < 3; i++) {
      await (await fetch(URL_)).text();
      await (await second.fetch(URL_)).text();
    }
    const ips = target.arrivals.map(({ ip }) => ip);
    expect(ips).toEqual([ips[0], ips[1], ips[0], ips[1], ips[0], ips[1]]);
    expect(second.id).toBe('Second9');
    expect(gateway.stats().sessions).toMatchObject({ [first.id]: first.egress, [second.id]: second.egress });
  });

  it('knows its egress once the gateway has named it', async () => {
    await using gateway = await gatewayFor();
    await using proxies = pacedManager({ gateway: gateway.url });
    const session = proxies.session();
    expect(session.egress).toBeUndefined();
    await session.fetch(URL_);
    expect(session.egress).toBe(target.arrivals[0].ip);
  });

  it('rotates to another exit under another id, and the egress is unknown again', async () => {
    await using gateway = await gatewayFor(200);
    await using proxies = pacedManager({ gateway: gateway.url });
    const states: string[] = [];
    proxies.on('session', ({ session, state, pool }) => states.push(`${pool} ${session} ${state}`));
    const session = proxies.session({ id: 'one' });
    await (await session.fetch(URL_)).text();
    session.rotate();
    const { id } = session;
    expect([id === 'one', session.egress]).toEqual([false, undefined]);
    await (await session.fetch(URL_)).text();
    expect(new Set(target.ips()).size).toBe(2);
    await session.close();
    await session.close();
    expect(states).toEqual(['default one open', `default ${id} open`, 'default one close', `default ${id} close`]);
  });

  it('takes a new id when its time is over', async () => {
    const clock = virtualClock();
    await using gateway = await gatewayFor(200);
    await using proxies = pacedManager({ pools: { res: { gateway: gateway.url, sessionTtlMs: 60_000 } }, clock });
    const session = proxies.session({ id: 'short' });
    await (await session.fetch(URL_)).text();
    await clock.advance(59_999);
    await (await session.fetch(URL_)).text();
    expect(session.id).toBe('short');
    await clock.advance(1);
    await (await session.fetch(URL_)).text();
    expect(session.id).not.toBe('short');
    expect(target.arrivals.map(({ ip }) => ip)).toEqual([target.ips()[0], target.ips()[0], target.ips()[1]]);
    expect((await proxies.stats()).pools.res.sessions).toBe(1);
  });

  it('closed, lets its requests end, refuses new ones, and frees its tunnel', async () => {
    await using slow = await mockTarget({ latencyMs: 60 });
    await using gateway = await mockGateway({ hosts: { 'shop.test': slow.url } });
    await using proxies = pacedManager({ gateway: gateway.url });
    const session = proxies.session();
    const running = session.fetch(URL_);
    await slow.arrived(1);
    await session.close();
    expect((await running).status).toBe(200);
    const error = await failureOf(session.fetch(URL_));
    expect(error).toBeInstanceOf(ClosedError);
    expect(error).toMatchObject({ message: 'the session is closed' });
    expect(() => session.rotate()).toThrow(ClosedError);
    await (await running).text();
    await eventually(() => gateway.stats().tunnels).toBe(0);
    expect((await proxies.stats()).pools.default.sessions).toBe(0);
  });

  it('closed while requests wait on it, lets them have their turn, and keeps no tunnel after', async () => {
    await using gateway = await gatewayFor();
    await using proxies = pacedManager({ gateway: gateway.url, targets: shopBudget(1, 100) });
    const session = proxies.session();
    const all = Promise.all([1, 2, 3].map(async () => (await session.fetch(URL_)).text()));
    await target.arrived(1);
    await session.close();
    await all;
    expect([target.arrivals.length, target.ips().length, target.worst(100)]).toEqual([3, 1, 1]);
    await eventually(() => gateway.stats().tunnels).toBe(0);
  });

  it('keeps to the budget of its exit, which it shares with everybody else there', async () => {
    await using gateway = await gatewayFor(1);
    await using proxies = pacedManager({ gateway: gateway.url, targets: shopBudget(2, 200) });
    const sessions = [proxies.session(), proxies.session(), proxies.session()];
    const fetches = [proxies.fetch, ...sessions.map(({ fetch }) => fetch)];
    await Promise.all([...fetches, ...fetches].map(async (fetch) => (await fetch(URL_)).text()));
    expect(target.arrivals).toHaveLength(8);
    expect(target.worst(200)).toBeLessThanOrEqual(2);
  });

  it('may come from a pool that is asked for, static proxies and direct ones too', async () => {
    await using gateway = await gatewayFor();
    const fixed = gateway.url.replace('{session}', 'fixed');
    await using proxies = pacedManager({
      pools: { res: { gateway: gateway.url }, isp: { proxies: [fixed] }, direct: { direct: true } },
      targets: [{ match: 'shop.test' }, { match: '127.0.0.1' }],
    });
    await proxies.session({ pool: 'isp' }).fetch(URL_);
    expect(target.arrivals[0].ip).toBe(gateway.exitOf('fixed'));
    const direct = proxies.session({ pool: 'direct' });
    await direct.fetch(target.url);
    expect(target.arrivals[1].ip).toBe('127.0.0.1');
    expect(direct.egress).toBe('direct');
  });
});

describe('pace.session', () => {
  it('names a session that lives from request to request', async () => {
    await using gateway = await gatewayFor();
    await using proxies = pacedManager({ gateway: gateway.url });
    for (const session of ['a', 'b', 'a', 'b']) await (await proxies.fetch(URL_, { pace: { session } })).text();
    const ips = target.arrivals.map(({ ip }) => ip);
    expect(ips).toEqual([gateway.exitOf('a'), gateway.exitOf('b'), gateway.exitOf('a'), gateway.exitOf('b')]);
    expect(gateway.stats().connects).toBe(2);
  });

  it('is given up when its time is over, whoever comes next; a pool holds maxSessions of them, those used last', async () => {
    await using gateway = await gatewayFor(60);
    const clock = virtualClock();
    const pools = { res: { gateway: gateway.url, maxSessions: 5, sessionTtlMs: 60_000 } };
    await using proxies = pacedManager({ pools, clock });
    const get = async (session?: string): Promise<string> => {
      const response = await proxies.fetch(URL_, session === undefined ? {} : { pace: { session } });
      await response.text();
      return proxies.exchange(response)!.egress;
    };
    const first = await get('kept');
    for (let i = 0; i < 20; i++) {
      await get(`s${i}`);
      // The gateway knows it by its name: also after it was given up it is the same exit.
      if (i % 4 === 0) expect(await get('kept')).toBe(first);
    }
    const sessions = async (): Promise<number> => (await proxies.stats()).pools.res.sessions;
    expect(await sessions()).toBe(5);
    await eventually(() => gateway.stats().open).toBe(5);
    await clock.advance(60_001);
    await get();
    expect(await sessions()).toBe(1);
  });

  it('opens it anew when its time is over, and those that are over are forgotten', async () => {
    const clock = virtualClock();
    await using gateway = await gatewayFor();
    await using proxies = pacedManager({ pools: { res: { gateway: gateway.url, sessionTtlMs: 60_000 } }, clock });
    const events: string[] = [];
    proxies.on('session', ({ session, state }) => events.push(`${session} ${state}`));
    for (let i = 0; i < 30; i++) await (await proxies.fetch(URL_, { pace: { session: `s${i}` } })).text();
    await clock.advance(60_001);
    await (await proxies.fetch(URL_, { pace: { session: 's0' } })).text();
    expect((await proxies.stats()).pools.res.sessions).toBe(1);
    expect(events.filter((event) => event.endsWith('close'))).toHaveLength(30);
    await eventually(() => gateway.stats().tunnels).toBe(1);
  });
});

describe('bad sessions are a ConfigError', () => {
  const BAD_IDS = ['', 'a b', 'a\r\nb', 'a:b', 'a@b', 'a%b', 'a/b', 'ü', 'x'.repeat(65), 5, null, {}];

  it.each(BAD_IDS)('id %j', async (id) => {
    await using gateway = await gatewayFor();
    await using proxies = pacedManager({ gateway: gateway.url });
    const thrown = thrownBy(() => proxies.session({ id: id as string }));
    expect(thrown).toBeInstanceOf(ConfigError);
    expect(thrown).toMatchObject({ option: 'session.id', message: expect.stringContaining('1 to 64 of') });
    const rejected = await failureOf(proxies.fetch(URL_, { pace: { session: id as string } }));
    expect(rejected).toBeInstanceOf(ConfigError);
    expect(rejected).toMatchObject({ option: 'pace.session' });
    expect(gateway.log).toEqual([]);
  });

  it('a pool that is not there, or has no sessions, or an option that is none', async () => {
    await using gateway = await gatewayFor();
    await using proxies = pacedManager({
      pools: { rotating: { gateway: gateway.rotatingUrl, rotation: 'per-request', poolSize: 10 } },
    });
    for (const options of [{ pool: 'other' }, { pool: 'rotating' }, {}]) {
      expect(thrownBy(() => proxies.session(options))).toMatchObject({ name: 'ConfigError', option: 'session.pool' });
    }
    expect(thrownBy(() => proxies.session({ name: 'x' } as never))).toMatchObject({ option: 'session.name' });
    expect(thrownBy(() => proxies.session('x' as never))).toBeInstanceOf(ConfigError);
    const named = await failureOf(proxies.fetch(URL_, { pace: { session: 'a' } }));
    expect(named).toMatchObject({ name: 'ConfigError', option: 'session.pool' });
  });

  it('session or pool in the pace options of a session’s own request', async () => {
    await using gateway = await gatewayFor();
    await using proxies = pacedManager({ gateway: gateway.url });
    const session = proxies.session();
    for (const pace of [{ session: 'other' }, { pool: 'default' }]) {
      expect(await failureOf(session.fetch(URL_, { pace }))).toBeInstanceOf(ConfigError);
    }
    expect((await session.fetch(URL_, { pace: { priority: 1 } })).status).toBe(200);
  });
});
