import { batcher, type CacheOptions, type ProxyManager, type ProxyManagerOptions } from 'paceline';
import {
  type MockGateway,
  type MockTarget,
  mockGateway,
  mockTarget,
  type TargetReply,
  type TargetRequest,
} from 'paceline/testing';
import { request } from 'undici';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { failureOf } from '../support/failing.ts';
import { closeClean, pacedManager, shopBudget } from '../support/paced.ts';
import { eventually } from '../support/resources.ts';

// Equal requests under way at the same time are sent once. Nothing here may be kept: what is shared is shared in flight.

let target: MockTarget;
let gateway: MockGateway;
let seen: TargetRequest[] = [];
let reply: (request: TargetRequest) => TargetReply | undefined;
const managers: ProxyManager[] = [];

const URL_ = 'http://shop.test';
const BIG = Buffer.alloc(4_000_000, 'abcdefg');

beforeEach(async () => {
  seen = [];
  reply = ({ path }) => ({ body: `${path} ${seen.length}`, delayMs: 30 });
  target = await mockTarget({
    handler(request) {
      seen.push(request);
      return reply(request);
    },
  });
  gateway = await mockGateway({ exits: 4, hosts: { 'shop.test': target.url } });
});
afterEach(async () => {
  await Promise.all(managers.splice(0).map((proxies) => proxies.close({ force: true })));
  await Promise.all([target.close(), gateway.close()]);
});

function joining(dedupe: CacheOptions['dedupe'] = true, options: ProxyManagerOptions = {}): ProxyManager {
  const proxies = pacedManager({ ...(!options.pools && { gateway: gateway.url }), cache: { dedupe }, ...options });
  managers.push(proxies);
  return proxies;
}

type Fetch = (input: string, init?: object) => Promise<{ text(): Promise<string> }>;
const textOf = async (fetch: Fetch, path = '/a', init?: object) => (await fetch(URL_ + path, init)).text();
const times = <T>(count: number, work: (i: number) => Promise<T>) =>
  Promise.all(Array.from({ length: count }, (_, i) => work(i)));

describe('equal requests under way', () => {
  it('are sent once: 100 of them, one arrival, one slot', async () => {
    const proxies = joining(true, { targets: shopBudget(1, 60_000) });
    const bodies = await times(100, () => textOf(proxies.fetch));
    expect(new Set(bodies)).toEqual(new Set(['/a 1']));
    const { cache, targets } = await proxies.stats();
    expect(cache).toEqual({ hits: 0, misses: 1, revalidated: 0, joined: 99 });
    expect([target.arrivals.length, targets['shop.test'].requests]).toEqual([1, 1]);
  });

  it('come from one exit, and cost one send in all', async () => {
    const proxies = joining();
    const all = await times(5, async () => {
      const response = await proxies.fetch(`${URL_}/a`);
      await response.text();
      return proxies.exchange(response);
    });
    expect(all.map((exchange) => exchange?.sends)).toEqual([1, 0, 0, 0, 0]);
    expect(new Set(all.map((exchange) => exchange?.egress)).size).toBe(1);
    expect(all.map((exchange) => exchange!.bytesReceived > 0)).toEqual([true, false, false, false, false]);
    expect(all[4]).toMatchObject({ target: 'shop.test', attempts: 1, outcome: 'ok', cached: false, waitedMs: 0 });
  });

  it('through fetch, wrap() and the dispatcher alike; the headers are each its own', async () => {
    const proxies = joining({
      excludeHeaderNames: ['user-agent', 'accept-language', 'accept', 'sec-fetch-mode', 'accept-encoding'],
    });
    const { dispatcher } = proxies;
    const one = async () => (await request(`${URL_}/a`, { dispatcher })).body.text();
    const wrapped = proxies.wrap(globalThis.fetch) as Fetch;
    const bodies = await Promise.all([textOf(proxies.fetch), textOf(wrapped), one(), one(), textOf(wrapped)]);
    expect(new Set(bodies)).toEqual(new Set(['/a 1']));
    expect(target.arrivals).toHaveLength(1);
  });

  it('follow a redirect together, and so do those who want to see it', async () => {
    reply = ({ path }) =>
      path === '/hop' ? { redirect: '/landed', body: 'moved', delayMs: 30 } : { body: path, delayMs: 30 };
    const proxies = joining();
    const manual = proxies
      .fetch(`${URL_}/hop`, { redirect: 'manual' })
      .then(async (r) => `${r.status} ${await r.text()}`);
    const all = await Promise.all([textOf(proxies.fetch, '/hop'), manual, textOf(proxies.fetch, '/hop')]);
    expect(all).toEqual(['/landed', '302 moved', '/landed']);
    expect(target.arrivals.map(({ path }) => path)).toEqual(['/hop', '/landed']);
  });

  it('follow a redirect with a long body, and keep its tunnel', async () => {
    const moved = 'moved '.repeat(20_000);
    reply = ({ path }) => (path === '/hop' ? { redirect: '/landed', body: moved } : { body: path });
    const proxies = joining();
    for (let i = 0; i < 3; i++) await times(2, () => textOf(proxies.fetch, '/hop'));
    // The next hop does not wait for the end of the body; without its tunnel each hop would take another one.
    expect(target.arrivals).toHaveLength(6);
    expect(gateway.stats().connects).toBeLessThanOrEqual(2);
  });

  it('are no longer joined once the answer is there', async () => {
    const proxies = joining();
    expect([await textOf(proxies.fetch), await textOf(proxies.fetch)]).toEqual(['/a 1', '/a 2']);
  });
});

describe('sent each on its own are', () => {
  const apart = async (proxies: ProxyManager, ...inits: object[]) => {
    await Promise.all(inits.map((init) => textOf(proxies.fetch, '/a', init)));
    return target.arrivals.length;
  };

  it('all, without dedupe', async () => {
    expect(await apart(joining(false), {}, {})).toBe(2);
  });

  it.each<[string, object]>([
    ['on a session', { pace: { session: 'alice' } }],
    ['with an authorization', { headers: { authorization: 'x' } }],
    ['with a cookie', { headers: { cookie: 'x' } }],
    ['with a longest wait of their own', { pace: { maxWaitMs: 5000 } }],
    ["with fetch's cache: 'no-store'", { cache: 'no-store' }],
    ['of another method', { method: 'HEAD' }],
    ['that send something', { method: 'POST', body: 'x' }],
  ])('requests %s', async (_, init) => {
    expect(await apart(joining(), init, init)).toBe(2);
  });

  it('requests that differ in a header, a priority or a tier', async () => {
    const inits = [
      {},
      { headers: { 'x-page': '1' } },
      { pace: { priority: 1 } },
      { pace: { tier: 'mid' } },
      { pace: { cost: 2 } },
    ];
    expect(await apart(joining(), ...inits)).toBe(5);
  });

  it('requests with a header to be skipped; not those that differ in one to be left out', async () => {
    const init = (id: number) => ({ headers: { 'X-Request-Id': `${id}` } });
    expect(await apart(joining({ skipHeaderNames: ['X-Request-ID'] }), init(1), init(1))).toBe(2);
    expect(await apart(joining({ excludeHeaderNames: ['X-Request-ID'] }), init(1), init(2))).toBe(3);
  });

  it('HEADs, unless they are among the methods', async () => {
    const head = { method: 'HEAD' };
    expect(await apart(joining({ methods: ['GET', 'HEAD'] }), head, head)).toBe(1);
  });
});

describe('who leaves, leaves alone', () => {
  it.each([0, 1])('number %i aborts before the answer', async (leaver) => {
    const proxies = joining();
    const controller = new AbortController();
    const all = [0, 1, 2].map((i) => textOf(proxies.fetch, '/a', i === leaver ? { signal: controller.signal } : {}));
    await target.arrived(1);
    controller.abort(new Error('enough'));
    expect(await failureOf(all[leaver])).toMatchObject({ message: 'enough' });
    all.splice(leaver, 1);
    expect(await Promise.all(all)).toEqual(['/a 1', '/a 1']);
    expect(target.arrivals).toHaveLength(1);
  });

  it.each([0, 1])('number %i cancels its body, or leaves it unread', async (leaver) => {
    reply = () => ({ body: BIG, delayMs: 30 });
    for (const leave of [(r: Response) => r.body?.cancel(), () => {}]) {
      const proxies = joining();
      const all = await times(3, () => proxies.fetch(`${URL_}/a`));
      const left = all.splice(leaver, 1)[0];
      await leave(left as never);
      for (const response of all) expect(Buffer.compare(await response.bytes(), BIG)).toBe(0);
      await left.body?.cancel();
    }
    expect(target.arrivals).toHaveLength(2);
  });

  it('everybody aborts: the request is given up, in the queue or under way', async () => {
    const proxies = joining(true, {
      pools: { one: { proxies: [gateway.url.replace('{session}', 'one')] } },
      targets: shopBudget(1, 60_000),
    });
    for (const inFlight of [1, 0]) {
      const controller = new AbortController();
      const all = times(3, () => failureOf(proxies.fetch(`${URL_}/${inFlight}`, { signal: controller.signal })));
      if (inFlight === 1) await target.arrived(1);
      else await eventually(async () => (await proxies.stats()).waiting).toBe(1);
      expect(await proxies.stats()).toMatchObject({ inFlight, waiting: 1 - inFlight });
      controller.abort(new Error('enough'));
      for (const error of await all) expect(error).toMatchObject({ message: 'enough' });
      await eventually(async () => (await proxies.stats()).inFlight).toBe(0);
      expect((await proxies.stats()).waiting).toBe(0);
    }
    expect(target.arrivals).toHaveLength(1);
  });
});

describe('a reader', () => {
  it('that is slower than the others gets all of it; far behind, only its own body fails', async () => {
    reply = () => ({ body: BIG, delayMs: 30 });
    const patient = joining();
    const [a, b] = await times(2, () => patient.fetch(`${URL_}/a`));
    expect((await a.bytes()).length).toBe(BIG.length);
    expect((await b.bytes()).length).toBe(BIG.length);
    const strict = joining({ maxBufferSize: 1_000_000 });
    const [c, d] = await times(2, () => strict.fetch(`${URL_}/a`));
    expect((await c.bytes()).length).toBe(BIG.length);
    expect(await failureOf(d.bytes())).toMatchObject({ cause: { message: expect.stringContaining('too slowly') } });
    await closeClean(patient, {});
  });

  it('that stops holds the target back, when there is no other', async () => {
    const huge = Buffer.alloc(60_000_000);
    reply = () => ({ body: huge });
    const proxies = joining({ maxBufferSize: 1_000_000 });
    const response = await proxies.fetch(`${URL_}/a`);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(proxies.exchange(response)?.bytesReceived).toBeLessThan(20_000_000);
    expect((await response.bytes()).length).toBe(huge.length);
  });
});

describe('what fails, fails for all of them', () => {
  it('and is tried again by all of them, together: a 429 costs one more send', async () => {
    reply = () =>
      seen.length === 1 ? { status: 429, headers: { 'retry-after': '60' }, delayMs: 30 } : { body: 'ok', delayMs: 30 };
    const proxies = joining(true, { retry: { ratio: 0 } });
    const bodies = await times(300, () => textOf(proxies.fetch));
    expect(new Set(bodies)).toEqual(new Set(['ok']));
    expect(target.arrivals).toHaveLength(2);
  });

  it('a reset, a 503: each goes on within the retry budget', async () => {
    for (const trouble of [{ reset: true }, { status: 503 }]) {
      target.reset();
      seen = [];
      reply = () => ({ ...trouble, delayMs: 20 });
      const proxies = joining(true, { retry: { ratio: 0.2, attempts: 4, baseMs: 20, capMs: 50 } });
      const results = await times(40, (i) => textOf(proxies.fetch, '/a').catch(() => `failed ${i}`));
      expect(results).toHaveLength(40);
      // All sends ≤ requests × (1 + ratio) + the floor of ten a second.
      expect(target.arrivals.length).toBeLessThanOrEqual(40 * 1.2 + 20);
    }
  });

  it('the whole of an error page is there for those who get it in the end', async () => {
    const page = 'down '.repeat(20_000);
    reply = () => ({ status: 503, body: page, delayMs: 20 });
    const proxies = joining(true, { retry: { attempts: 1 } });
    expect(await times(3, () => textOf(proxies.fetch))).toEqual([page, page, page]);
    const twice = joining(true, { retry: { attempts: 2 } });
    expect(await times(3, () => textOf(twice.fetch))).toEqual([page, page, page]);
  });

  it('a gateway that refuses for good is not asked by each', async () => {
    gateway.fault({ kind: 'status', status: 407, times: 100 });
    const proxies = joining();
    const errors = await times(10, () => failureOf(proxies.fetch(`${URL_}/a`)));
    expect(new Set(errors.map((error) => (error as { code: string }).code))).toEqual(new Set(['PACELINE_GATEWAY']));
    expect(gateway.log).toHaveLength(1);
  });

  it('close({ force })', async () => {
    reply = () => ({ delayMs: 5000 });
    const proxies = joining();
    const all = times(5, () => failureOf(proxies.fetch(`${URL_}/a`)));
    await target.arrived(1);
    await proxies.close({ force: true });
    for (const error of await all) expect(error).toMatchObject({ code: 'PACELINE_CLOSED' });
    await closeClean(proxies, { gateway, target });
  });
});

describe('batcher', () => {
  it('collects keys into one paced request', async () => {
    reply = ({ path }) => ({
      body: new URL(path, URL_).searchParams
        .get('ids')!
        .split(',')
        .map((id) => ({ id })),
    });
    const proxies = joining();
    const user = batcher({
      maxDelayMs: 5,
      fetchMany: async (ids: readonly string[], { signal }) => {
        const response = await proxies.fetch(`${URL_}/users?ids=${ids}`, { signal });
        return (await response.json()) as { id: string }[];
      },
    });
    const users = await Promise.all(['1', '2', '3', '2'].map((id) => user(id)));
    expect(users).toEqual([{ id: '1' }, { id: '2' }, { id: '3' }, { id: '2' }]);
    expect(target.arrivals.map(({ path }) => path)).toEqual(['/users?ids=1,2,3']);
  });

  it('hands a failure of the fetch to all keys, and an abort of all of them to the fetch', async () => {
    reply = () => ({ delayMs: 5000 });
    const proxies = joining();
    const user = batcher({
      maxDelayMs: 1,
      fetchMany: async (ids: readonly string[], { signal }) => {
        const response = await proxies.fetch(`${URL_}/users?ids=${ids}`, { signal });
        return (await response.json()) as string[];
      },
    });
    const controller = new AbortController();
    const all = ['1', '2'].map((id) => failureOf(user(id, { signal: controller.signal })));
    await target.arrived(1);
    controller.abort(new Error('enough'));
    expect(await Promise.all(all)).toMatchObject([{ message: 'enough' }, { message: 'enough' }]);
    await eventually(async () => (await proxies.stats()).inFlight).toBe(0);
  });
});
