import { getEventListeners } from 'node:events';
import { inspect } from 'node:util';
import fc from 'fast-check';
import {
  BudgetExceededError,
  ClosedError,
  ConfigError,
  GatewayError,
  type Lease,
  type LeaseOptions,
  memoryStore,
  type Outcome,
  type ProxyManager,
  QueueTimeoutError,
  type Store,
} from 'paceline';
import { type MockGateway, type MockTarget, mockGateway, mockTarget, virtualClock } from 'paceline/testing';
import { ProxyAgent, request, fetch as undiciFetch } from 'undici';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { failureOf, thrownBy } from '../support/failing.ts';
import { closeClean, pacedManager, shopBudget } from '../support/paced.ts';
import { connectVia } from '../support/proxy-client.ts';
import { eventually, resourceBaseline } from '../support/resources.ts';

// A lease is a permit in the caller's hands: it spends the budget that fetch spends, on the exit it names, and ends once.

const URL_ = 'http://shop.test/';

let target: MockTarget;
let gateway: MockGateway;
let proxies: ProxyManager;

beforeEach(async () => {
  target = await mockTarget({ handler: ({ path }) => ({ body: path }) });
  gateway = await mockGateway({ exits: 8, hosts: { 'shop.test': target.url, 'cdn.test': target.url } });
  proxies = pacedManager({ gateway: gateway.url, targets: shopBudget(1, 60_000) });
});
afterEach(async () => {
  await proxies.close({ force: true });
  await Promise.all([target.close(), gateway.close()]);
});

/** What a client of another make does with a lease: one request through its proxy. */
async function visit(lease: Lease, url: string = URL_): Promise<number> {
  const agent = new ProxyAgent({ uri: lease.proxyUrl!, proxyTunnel: true });
  try {
    const { statusCode, body } = await request(url, { dispatcher: agent });
    await body.dump();
    return statusCode;
  } finally {
    await agent.close();
  }
}

const waiting = async (): Promise<number> => (await proxies.stats()).waiting;

describe('a lease', () => {
  it('leads out through the exit it names, without having sent anything itself', async () => {
    const lease = await proxies.acquire(URL_);
    expect([gateway.stats().connects, target.arrivals.length]).toEqual([1, 0]);
    expect(lease).toMatchObject({ target: 'shop.test', tier: 'mid', pool: 'default', egressVerified: true });
    expect(lease.session).toMatch(/^[a-z0-9]{8}$/);
    expect(lease.startAt).toBeLessThanOrEqual(performance.now());
    await visit(lease);
    expect(target.arrivals.map(({ ip }) => ip)).toEqual([lease.egress]);
    expect(lease.settle('ok')).toBe(true);
  });

  it('spends the budget that fetch spends, as the target counts it', async () => {
    const LIMIT = 2;
    const WINDOW_MS = 400;
    await using few = await mockGateway({ exits: 2, hosts: { 'shop.test': target.url } });
    await using shared = pacedManager({ gateway: few.url, targets: shopBudget(LIMIT, WINDOW_MS) });
    const all = Array.from({ length: 16 }, async (_, i) => {
      if (i % 2 === 0) return (await shared.fetch(URL_)).text();
      await using lease = await shared.acquire(URL_);
      // Awaited here: the scope, and with it the lease, would end before the visit.
      return await visit(lease);
    });
    await Promise.all(all);
    expect(target.arrivals).toHaveLength(16);
    expect(new Set(target.arrivals.map(({ ip }) => ip)).size).toBe(2);
    expect(target.worst(WINDOW_MS)).toBe(LIMIT);
  });

  it('holds its slot: no one else gets it before it is settled and a window has passed', async () => {
    const clock = virtualClock();
    await using one = pacedManager({ clock, targets: [{ match: 'shop.test', budget: { limit: 1, windowMs: 1000 } }] });
    const first = await one.acquire(URL_, { holdMs: 50_000 });
    const order: string[] = [];
    const second = one.acquire(URL_).then((lease) => {
      order.push(`granted at ${clock.now()}`);
      return lease;
    });
    await clock.advance(20_000);
    order.push(`settled at ${clock.now()}`);
    first.settle('ok');
    await clock.advance(5000);
    expect(order).toEqual(['settled at 20000', 'granted at 21000']);
    (await second).settle('ok');
    expect((await second).startAt).toBe(21_000);
    expect((await second).waitedMs).toBe(21_000);
  });

  it('lasts as long as it was asked for, however much longer than a request that is', async () => {
    const clock = virtualClock();
    await using one = pacedManager({ clock, targets: [{ match: 'shop.test', budget: { limit: 1, windowMs: 1000 } }] });
    await one.acquire(URL_, { holdMs: 3_600_000 });
    let granted = false;
    const next = one.acquire(URL_).then((lease) => {
      granted = true;
      return lease;
    });
    await clock.advance(3_590_000);
    expect([granted, (await one.stats()).inFlight]).toEqual([false, 1]);
    await clock.advance(20_000);
    expect(granted).toBe(true);
    (await next).settle('ok');
  });

  it('is never given a permit that a remote store would take for lost while it is held', async () => {
    const clock = virtualClock();
    const inner = memoryStore({ clock });
    /** How long each permit lasts. */
    const given: number[] = [];
    const later: Store = {
      reserve: async (target, demand) => {
        const asked = { ...demand };
        await Promise.resolve();
        const reservation = inner.reserve(target, asked);
        if (reservation.grants.length > 0) given.push(asked.deadlineMs);
        return reservation;
      },
      bind: async (...args) => inner.bind(...args),
      settle: async (...args) => inner.settle(...args),
      cancel: async (...args) => inner.cancel(...args),
      inspect: async (...args) => inner.inspect(...args),
      close: async () => {},
    };
    const one = pacedManager({ clock, store: later, targets: shopBudget(1, 1000) });
    const first = one.acquire(URL_, { holdMs: 1 });
    // It comes while the store is being asked for the other, and goes before it.
    const long = await one.acquire(URL_, { holdMs: 3_600_000, priority: 1 });
    expect(given.map((deadlineMs) => deadlineMs > 3_600_000)).toEqual([false, true]);
    long.settle('gateway-error');
    expect((await first).settle('gateway-error')).toBe(true);
    // Who comes when nobody waits for so long a one any more gets the usual.
    (await one.acquire(URL_, { holdMs: 1 })).settle('ok');
    expect(given.at(-1)).toBe(given[0]);
    await one.close({ force: true });
  });

  it('has the caller take the direct way where there is no gateway', async () => {
    await using direct = pacedManager({});
    await using lease = await direct.acquire(target.url);
    expect([lease.proxyUrl, lease.proxy, lease.egress, lease.egressVerified]).toEqual([
      undefined,
      undefined,
      'direct',
      true,
    ]);
  });

  it('takes the session, tier, pool and priority it is asked for', async () => {
    await using lease = await proxies.acquire(new URL(URL_), { session: 'alice', tier: 'open', pool: 'default' });
    expect(lease).toMatchObject({ session: 'alice', tier: 'open', pool: 'default' });
    expect(lease.proxyUrl).toContain('alice');
    const ways = await Promise.all([1, 2].map(() => proxies.acquire(URL_, { session: 'bob', tier: 'open' })));
    expect(ways.map(({ session }) => session)).toEqual(['bob', 'bob']);
    expect(ways[0].egress).toBe(ways[1].egress);
  });

  it('gives its credentials to clients that ask, decoded for Playwright', async () => {
    const secret = await mockGateway({ username: 'user', password: 'p@ss:w/rd' });
    await using manager = pacedManager({ gateway: secret.url });
    const lease = await manager.acquire(target.url);
    const url = new URL(lease.proxyUrl!);
    expect(url.username).toBe(`user-session-${lease.session}`);
    expect(decodeURIComponent(url.password)).toBe('p@ss:w/rd');
    expect(lease.proxy).toEqual({
      server: `http://${url.host}`,
      username: `user-session-${lease.session}`,
      password: 'p@ss:w/rd',
    });
    const { status, socket } = await connectVia(lease.proxyUrl!, new URL(target.url).host);
    socket.destroy();
    expect(status).toBe(200);
    await secret.close();
  });

  it('shows no secret, whatever prints it', async () => {
    const secret = await mockGateway({ username: 'acme77', password: 's3cret' });
    await using manager = pacedManager({ gateway: secret.url });
    const lease = await manager.acquire(target.url);
    const { dispatcher, proxy } = lease;
    const prints = [lease, [lease], { lease }, dispatcher, { ...dispatcher }, { ...lease }, { proxy }].flatMap(
      (value) => [inspect(value, { depth: 10, showHidden: true, getters: true }), inspect(value), String(value)],
    );
    prints.push(JSON.stringify([lease, dispatcher, { ...lease }, { ...dispatcher }]), Object.keys(lease).join());
    expect(prints.join('\n')).not.toMatch(/s3cret|acme77/);
    expect(lease.proxyUrl).toMatch(/s3cret/);
    expect(prints.join('\n')).toContain(lease.egress);
    await secret.close();
  });
});

describe('the exit of a lease', () => {
  it('is learnt by one CONNECT, and only when it is not known yet', async () => {
    await using wide = pacedManager({ gateway: gateway.url, targets: shopBudget(10, 60_000) });
    const first = await wide.acquire(URL_);
    const second = await wide.acquire(URL_);
    expect([gateway.stats().connects, second.egress]).toEqual([1, first.egress]);
    await eventually(() => gateway.stats().tunnels).toBe(0);
  });

  it('is charged by its address: two sessions on one exit share its budget', async () => {
    await using one = await mockGateway({ exits: 1, hosts: { 'shop.test': target.url } });
    await using manager = pacedManager({ gateway: one.url, targets: shopBudget(1, 60_000) });
    const refused: string[] = [];
    manager.on('refuse', ({ egress }) => refused.push(egress));
    const lease = await manager.acquire(URL_, { session: 'a' });
    expect(await failureOf(manager.acquire(URL_, { session: 'b', maxWaitMs: 100 }))).toBeInstanceOf(QueueTimeoutError);
    expect(refused).toEqual([lease.egress]);
  });

  it('is asked of the probe page where there is one', async () => {
    await using ip = await mockTarget({ handler: ({ ip }) => ({ body: ip }) });
    const probing = await mockGateway({ exits: 3, egressHeader: false, hosts: { 'shop.test': target.url } });
    await using manager = pacedManager({
      pools: { res: { gateway: probing.url, egress: { probeUrl: ip.url } } },
      targets: shopBudget(1, 60_000),
    });
    const leases = await Promise.all([1, 2].map(() => manager.acquire(URL_)));
    for (const lease of leases) {
      expect(lease.egressVerified).toBe(true);
      await visit(lease);
    }
    expect(target.arrivals.map(({ ip }) => ip)).toEqual(leases.map(({ egress }) => egress));
    await manager.close({ force: true });
    await probing.close();
  });

  it('is assumed where no one names it, and the pool still grows', async () => {
    const silent = await mockGateway({ exits: 50, egressHeader: false, hosts: { 'shop.test': target.url } });
    await using manager = pacedManager({ gateway: silent.url, targets: shopBudget(1, 60_000) });
    const leases = await Promise.all(Array.from({ length: 12 }, () => manager.acquire(URL_)));
    expect(new Set(leases.map(({ egress }) => egress)).size).toBe(12);
    expect(leases[0]).toMatchObject({ egressVerified: false, egress: `default/${leases[0].session}` });
    expect(silent.stats().connects).toBeLessThan(12);
    await manager.close({ force: true });
    await silent.close();
  });

  it.each(['auth', 'down'])('cannot be learnt when the gateway is at fault: %s', async (fault) => {
    gateway.fault(fault === 'auth' ? { kind: 'status', status: 407, times: 1 } : { kind: 'rst', times: 1 });
    expect(await failureOf(proxies.acquire(URL_))).toBeInstanceOf(GatewayError);
    const lease = await proxies.acquire(URL_);
    expect(lease.egressVerified).toBe(true);
    expect((await proxies.stats()).pools.default.outcomes['gateway-error']).toBe(1);
  });
});

describe('waiting for a lease', () => {
  beforeEach(async () => {
    await proxies.acquire(URL_, { session: 'only', holdMs: 50_000 });
  });

  it('is refused at once when the slot is known to be too far', async () => {
    const lease = await proxies.acquire(URL_, { session: 'own' });
    lease.settle('ok');
    const error = await failureOf(proxies.acquire(URL_, { session: 'own', maxWaitMs: 1000 }));
    expect(error).toBeInstanceOf(BudgetExceededError);
  });

  it('ends after maxWaitMs, and after timeouts.queueMs', async () => {
    expect(await failureOf(proxies.acquire(URL_, { session: 'only', maxWaitMs: 30 }))).toBeInstanceOf(
      QueueTimeoutError,
    );
    await using impatient = pacedManager({ targets: shopBudget(1, 60_000), timeouts: { queueMs: 30 } });
    await impatient.acquire(URL_);
    expect(await failureOf(impatient.acquire(URL_))).toBeInstanceOf(QueueTimeoutError);
  });

  it('can be aborted, with the reason given, and leaves nothing behind', async () => {
    const controller = new AbortController();
    const aborted = proxies.acquire(URL_, { session: 'only', signal: controller.signal });
    await eventually(waiting).toBe(1);
    controller.abort('enough');
    expect(await failureOf(aborted)).toBe('enough');
    expect([await waiting(), (await proxies.stats()).inFlight]).toEqual([0, 1]);
    expect(await failureOf(proxies.acquire(URL_, { signal: controller.signal }))).toBe('enough');
  });

  it('can be aborted while the exit is being learnt: the slot is free again', async () => {
    gateway.fault({ kind: 'silence', times: 1 });
    const controller = new AbortController();
    const aborted = proxies.acquire(URL_, { session: 'slow', signal: controller.signal });
    const asked = gateway.log.length;
    await eventually(() => gateway.log.length > asked).toBe(true);
    controller.abort(new Error('enough'));
    expect(await failureOf(aborted)).toMatchObject({ message: 'enough' });
    await using lease = await proxies.acquire(URL_, { session: 'slow', maxWaitMs: 1000 });
    expect(lease.session).toBe('slow');
  });

  it('has no hold on the lease once that is there', async () => {
    const controller = new AbortController();
    const lease = await proxies.acquire(URL_, { session: 'free', signal: controller.signal });
    expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0);
    controller.abort();
    expect(lease.settle('ok')).toBe(true);
  });
});

describe('settle()', () => {
  it('counts once', async () => {
    const lease = await proxies.acquire(URL_);
    expect([lease.settle('ok'), lease.settle('blocked')]).toEqual([true, false]);
    const { inFlight, targets } = await proxies.stats();
    expect([inFlight, targets['shop.test'].requests, targets['shop.test'].outcomes.ok]).toEqual([0, 1, 1]);
  });

  it('is told like the end of a request, as the grant is', async () => {
    const events: unknown[] = [];
    proxies.on('admit', (event) => events.push(event));
    proxies.on('settle', (event) => events.push(event));
    const lease = await proxies.acquire(URL_);
    lease.settle('target-error', { status: 503 });
    const { egress, session } = lease;
    const same = { target: 'shop.test', pool: 'default', egress, session };
    expect(events).toEqual([
      expect.objectContaining({ ...same, tier: 'mid' }),
      expect.objectContaining({ ...same, outcome: 'target-error', status: 503 }),
    ]);
  });

  it('with a Retry-After keeps the egress out: the next request takes another', async () => {
    await using wide = pacedManager({ gateway: gateway.url, targets: shopBudget(100, 1000) });
    const cooled: unknown[] = [];
    wide.on('cooldown', ({ egress, forMs }) => cooled.push([egress, forMs]));
    const lease = await wide.acquire(URL_);
    lease.settle('rate-limited', { retryAfterMs: 60_000 });
    await (await wide.fetch(URL_)).text();
    expect(cooled).toEqual([[lease.egress, 60_000]]);
    expect(target.arrivals.map(({ ip }) => ip === lease.egress)).toEqual([false]);
  });

  it.each([
    [{ status: 200 }, 'ok', undefined],
    [{ status: 429, headers: { 'Retry-After': '7' } }, 'rate-limited', 7000],
    [{ status: 429, headers: new Headers({ 'retry-after': '7' }) }, 'rate-limited', 7000],
    [new Response('', { status: 403 }), 'blocked', undefined],
    [{ status: 403, headers: { 'cf-mitigated': 'challenge' } }, 'challenged', undefined],
    [{ status: 503, headers: {}, url: URL_, method: 'POST' }, 'target-error', undefined],
  ])('of the response %o means %s', async (response, outcome, forMs) => {
    const settled: unknown[] = [];
    proxies.on('settle', (event) => settled.push([event.outcome, event.status]));
    const cooled: number[] = [];
    proxies.on('cooldown', (event) => cooled.push(event.forMs));
    const lease = await proxies.acquire(URL_);
    expect(lease.settle(response)).toBe(true);
    expect(settled).toEqual([[outcome, response.status]]);
    if (forMs !== undefined) expect(cooled).toEqual([forMs]);
  });

  it('as gateway-error gives the slot back, and the way out up', async () => {
    const lease = await proxies.acquire(URL_);
    expect(lease.settle('gateway-error')).toBe(true);
    const { targets, inFlight } = await proxies.stats();
    const state = targets['shop.test'].state?.egresses.filter(({ busy, cooling }) => busy + cooling > 0);
    expect([inFlight, state, targets['shop.test'].outcomes['gateway-error']]).toEqual([0, [], 1]);
    const next = await proxies.acquire(URL_);
    expect(next.session).not.toBe(lease.session);
  });

  it('as gateway-error frees the slot for who waits', async () => {
    const lease = await proxies.acquire(URL_, { session: 'own' });
    const next = proxies.acquire(URL_, { session: 'own' });
    await eventually(waiting).toBe(1);
    lease.settle('gateway-error');
    expect((await next).egress).toBe(lease.egress);
  });

  it('refuses what is no outcome, and the lease goes on', async () => {
    const lease = await proxies.acquire(URL_);
    const bad: [unknown, unknown?][] = [
      ['fine'],
      [undefined],
      [null],
      [7],
      ['ok', { retryAfterMs: -1 }],
      ['ok', { retryAfterMs: Number.NaN }],
      ['ok', { status: 7 }],
      ['ok', { retryAfter: 7 }],
      [{}],
      [{ status: '200' }],
      [{ status: 200, headers: 'x' }],
      [{ status: 200, url: 7 }],
      [{ status: 200, method: 7 }],
    ];
    for (const args of bad) {
      const settle = lease.settle.bind(lease) as (...args: unknown[]) => boolean;
      expect([args, thrownBy(() => settle(...args))]).toEqual([args, expect.any(ConfigError)]);
    }
    expect(lease.settle('ok')).toBe(true);
  });

  it('happens by itself: as ok with the scope, as ignored when it was held for too long', async () => {
    const clock = virtualClock();
    await using one = pacedManager({ clock, targets: shopBudget(30, 1000) });
    const ends: unknown[] = [];
    one.on('settle', ({ outcome, latencyMs }) => ends.push([outcome, Math.round(latencyMs)]));
    {
      await using _scoped = await one.acquire(URL_);
      await using spoken = await one.acquire(URL_);
      spoken.settle('blocked');
    }
    // A block slows the budget down: the next one waits for a moment.
    const lost = await clock.runUntil(one.acquire(URL_, { holdMs: 700.5 }));
    await clock.advance(5000);
    expect(ends).toEqual([
      ['blocked', 0],
      ['ok', 0],
      ['ignored', 701],
    ]);
    expect([lost.settle('ok'), (await one.stats()).inFlight, clock.pending]).toEqual([false, 0, 0]);
  });
});

describe('the dispatcher of a lease', () => {
  it('sends its first request on the permit of the lease, and settles it', async () => {
    const admitted: unknown[] = [];
    proxies.on('admit', ({ egress }) => admitted.push(egress));
    const lease = await proxies.acquire(URL_, { session: 'own' });
    const { statusCode, body } = await request(`${URL_}a`, { dispatcher: lease.dispatcher });
    expect([statusCode, await body.text()]).toEqual([200, '/a']);
    expect(target.arrivals.map(({ ip }) => ip)).toEqual([lease.egress]);
    expect(admitted).toEqual([lease.egress]);
    expect(lease.settle('blocked')).toBe(false);
    const { inFlight, targets } = await proxies.stats();
    expect([inFlight, targets['shop.test'].requests, targets['shop.test'].outcomes.ok]).toEqual([0, 1, 1]);
  });

  it('lets every further request wait for a slot of its own, on the same exit', async () => {
    await using paced = pacedManager({ gateway: gateway.url, targets: shopBudget(1, 300) });
    const lease = await paced.acquire(URL_);
    const { dispatcher } = lease;
    const all = Array.from({ length: 3 }, async () => (await undiciFetch(URL_, { dispatcher })).text());
    await Promise.all(all);
    expect(new Set(target.arrivals.map(({ ip }) => ip))).toEqual(new Set([lease.egress]));
    expect(target.arrivals).toHaveLength(3);
    expect(target.worst(300)).toBe(1);
  });

  it('leaves the permit to the lease when a request is for another target', async () => {
    const lease = await proxies.acquire(URL_);
    const { body } = await request('http://cdn.test/', { dispatcher: lease.dispatcher });
    await body.dump();
    expect(target.arrivals.map(({ ip }) => ip)).toEqual([lease.egress]);
    expect(lease.settle('ok')).toBe(true);
  });

  it('is the same one each time, and its close() ends neither lease nor manager', async () => {
    const lease = await proxies.acquire(URL_);
    expect(lease.dispatcher).toBe(lease.dispatcher);
    await lease.dispatcher.close();
    await (await request(URL_, { dispatcher: lease.dispatcher })).body.dump();
    await lease.dispatcher.destroy();
    expect(target.arrivals).toHaveLength(1);
    await (await proxies.fetch(URL_)).text();
  });

  it('keeps the permit for the next when a request was aborted before it began', async () => {
    const lease = await proxies.acquire(URL_);
    const { dispatcher } = lease;
    expect(await failureOf(request(URL_, { dispatcher, signal: AbortSignal.abort(new Error('no')) }))).toBeTruthy();
    expect(target.arrivals).toHaveLength(0);
    await (await request(URL_, { dispatcher })).body.dump();
    expect(target.arrivals).toHaveLength(1);
  });
});

describe('a lease like a request', () => {
  it('costs as many slots as it is told', async () => {
    await using wide = pacedManager({ gateway: gateway.url, targets: shopBudget(3, 60_000) });
    const lease = await wide.acquire(URL_, { session: 'own', cost: 2 });
    const { state } = (await wide.stats()).targets['shop.test'] ?? { state: undefined };
    expect(state).toBeUndefined();
    lease.settle('ok');
    const cooling = (await wide.stats()).targets['shop.test'].state!.egresses.map((egress) => egress.cooling);
    expect(Math.max(...cooling)).toBe(2);
  });

  it('counts for the ladder of its pools: blocks lead to the dearer one', async () => {
    await using ladder = pacedManager({
      pools: { cheap: { direct: true }, dear: { gateway: gateway.url } },
      targets: [{ match: 'shop.test', pools: ['cheap', 'dear'], budget: { limit: 1000, windowMs: 1000 } }],
      adaptive: false,
      health: false,
    });
    const steps: string[] = [];
    ladder.on('escalate', ({ from, to }) => steps.push(`${from} to ${to}`));
    const pools: string[] = [];
    for (let i = 0; i < 40 && steps.length === 0; i++) {
      const lease = await ladder.acquire(URL_, { tier: 'open' });
      pools.push(lease.pool);
      lease.settle('blocked');
    }
    expect([pools[0], steps]).toEqual(['cheap', ['cheap to dear']]);
    expect(await ladder.acquire(URL_, { tier: 'open' })).toMatchObject({ pool: 'dear' });
    await ladder.close({ force: true });
  });

  it('does not lend its permit to a request under other rates', async () => {
    await using rated = pacedManager({
      gateway: gateway.url,
      targets: [
        {
          match: 'shop.test',
          budget: { limit: 100, windowMs: 60_000, spacing: 'burst' },
          rate: [{ limit: 1, windowMs: 300, burst: 1, path: '/search' }],
        },
      ],
    });
    await (await rated.fetch(`${URL_}search`)).text();
    const lease = await rated.acquire(URL_);
    await (await request(`${URL_}search`, { dispatcher: lease.dispatcher })).body.dump();
    const [first, second] = target.arrivals.map(({ at }) => at);
    expect(second - first).toBeGreaterThan(290);
    expect(lease.settle('ok')).toBe(true);
  });

  it('opens the circuit of a gateway that is down', async () => {
    gateway.fault({ kind: 'rst', times: Infinity });
    const opened: unknown[] = [];
    proxies.on('circuit', ({ pool, open }) => opened.push([pool, open]));
    for (let i = 0; i < 60 && opened.length === 0; i++) {
      expect(await failureOf(proxies.acquire(URL_, { maxWaitMs: 50 }))).toBeInstanceOf(GatewayError);
    }
    expect(opened).toEqual([['default', true]]);
  });
});

describe('close()', () => {
  it('waits for a lease, and lets it be used and settled', async () => {
    const lease = await proxies.acquire(URL_);
    let closed = false;
    const closing = proxies.close().then(() => {
      closed = true;
    });
    await (await request(URL_, { dispatcher: lease.dispatcher })).body.dump();
    expect(closed).toBe(false);
    await closing;
    expect(target.arrivals).toHaveLength(1);
    expect(await failureOf(request(URL_, { dispatcher: lease.dispatcher }))).toBeInstanceOf(ClosedError);
  });

  it.each([false, true])('settles one that is left open by force (force: %s), and frees everything', async (force) => {
    const released = resourceBaseline();
    const own = await mockTarget();
    const manager = pacedManager({ gateway: gateway.url });
    const ends: string[] = [];
    manager.on('settle', ({ outcome }) => ends.push(outcome));
    const lease = await manager.acquire(own.url);
    await manager.close({ force });
    expect([ends, lease.settle('ok')]).toEqual([['ignored'], false]);
    await closeClean(manager, { gateway, target: own });
    await own.close();
    await released();
  });

  it('leaves the slot of an open lease busy for as long as its holder may use it', async () => {
    const clock = virtualClock();
    const store = memoryStore({ clock });
    const manager = pacedManager({ clock, store, targets: shopBudget(1, 1000) });
    await manager.acquire(URL_, { holdMs: 40_000 });
    await clock.advance(10_000);
    await manager.close({ force: true });
    const [{ active, egresses }] = store.inspect().targets;
    expect([active, egresses[0].usableInMs]).toEqual([0, 30_000 + 1000 + 1000]);
  });

  it('fails who waits for one when it is forced, and who comes after', async () => {
    const clock = virtualClock();
    const manager = pacedManager({ clock, targets: shopBudget(1, 60_000) });
    await manager.acquire(URL_);
    const late = failureOf(manager.acquire(URL_));
    await manager.close({ force: true });
    expect(await late).toBeInstanceOf(ClosedError);
    expect(await failureOf(manager.acquire(URL_))).toBeInstanceOf(ClosedError);
    expect(clock.pending).toBe(0);
  });
});

describe('acquire() refuses', () => {
  it.each<[unknown, LeaseOptions | Record<string, unknown>, string]>([
    ['not a url', {}, 'url'],
    ['ftp://shop.test/', {}, 'url'],
    [undefined, {}, 'url'],
    [URL_, { holdMs: 0 }, 'acquire.holdMs'],
    [URL_, { holdMs: Number.POSITIVE_INFINITY }, 'acquire.holdMs'],
    [URL_, { maxWaitMs: -1 }, 'acquire.maxWaitMs'],
    [URL_, { session: 'a b' }, 'acquire.session'],
    [URL_, { tier: 'none' }, 'acquire.tier'],
    [URL_, { pool: 'none' }, 'acquire.pool'],
    [URL_, { priority: Number.NaN }, 'acquire.priority'],
    [URL_, { signal: {} }, 'acquire.signal'],
    [URL_, { signal: null }, 'acquire.signal'],
    [URL_, { cost: 0 }, 'acquire.cost'],
    [URL_, { hold: 5 }, 'acquire.hold'],
  ])('%s with %o', async (url, options, option) => {
    const error = await failureOf(proxies.acquire(url as string, options as LeaseOptions));
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as Error).message).toMatch(new RegExp(`^${option}: expected `));
    expect((await proxies.stats()).inFlight).toBe(0);
  });

  it('a pool whose exit is another one for every tunnel', async () => {
    await using rotating = pacedManager({
      pools: { r: { gateway: gateway.rotatingUrl, rotation: 'per-request', egress: { header: 'x-egress-ip' } } },
    });
    expect(await failureOf(rotating.acquire(URL_))).toMatchObject({ code: 'PACELINE_CONFIG', option: 'acquire.pool' });
  });
});

it('whatever the order of leases, ends and waits: never over budget, and nothing is left', async () => {
  const LIMIT = 2;
  const WINDOW_MS = 1000;
  const outcomes: Outcome[] = ['ok', 'blocked', 'target-error', 'network-error', 'ignored', 'gateway-error'];
  const step = fc.record({
    afterMs: fc.integer({ min: 0, max: 700 }),
    useAtMs: fc.integer({ min: 0, max: 900 }),
    holdMs: fc.integer({ min: 1, max: 1500 }),
    outcome: fc.option(fc.constantFrom(...outcomes)),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
      const clock = virtualClock();
      const budget = { limit: LIMIT, windowMs: WINDOW_MS, spacing: 'burst' as const };
      const manager = pacedManager({ clock, targets: [{ match: 'shop.test', budget }] });
      const uses: number[] = [];
      const all = steps.map(async ({ afterMs, useAtMs, holdMs, outcome }) => {
        await new Promise<void>((resolve) => clock.setTimeout(resolve, afterMs));
        const lease = await manager.acquire(URL_, { holdMs });
        const used = Math.min(useAtMs, holdMs);
        await new Promise<void>((resolve) => clock.setTimeout(resolve, used));
        if (outcome !== 'gateway-error') uses.push(clock.now());
        if (outcome !== null) lease.settle(outcome);
      });
      await clock.runUntil(Promise.all(all));
      await clock.advance(5000);
      const over = uses.filter((at) => uses.filter((t) => t > at - WINDOW_MS && t <= at).length > LIMIT);
      expect(over).toEqual([]);
      expect([(await manager.stats()).inFlight, clock.pending]).toEqual([0, 0]);
      await manager.close();
    }),
    { numRuns: 60 },
  );
});
