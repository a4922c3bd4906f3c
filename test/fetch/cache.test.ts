import { type CacheOptions, ConfigError, ProxyManager, type ProxyManagerOptions } from 'paceline';
import {
  type MockGateway,
  type MockTarget,
  mockGateway,
  mockTarget,
  type TargetReply,
  type TargetRequest,
} from 'paceline/testing';
import { cacheStores, interceptors, request, fetch as undiciFetch } from 'undici';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { failureOf, thrownBy } from '../support/failing.ts';
import { closeClean, pacedManager, shopBudget } from '../support/paced.ts';
import { eventually, resourceBaseline } from '../support/resources.ts';

// The cache above the pacing: a hit spends nothing. Arrivals are counted at the target, slots by the store.

let target: MockTarget;
let gateway: MockGateway;
let seen: TargetRequest[] = [];
let reply: (request: TargetRequest) => TargetReply | undefined;
const managers: ProxyManager[] = [];

const URL_ = 'http://shop.test';
const FRESH = { 'cache-control': 'max-age=60' };

beforeEach(async () => {
  // Ages go by Date; the timers stay real.
  vi.useFakeTimers({ toFake: ['Date'], now: Math.ceil(Date.now() / 1000) * 1000 });
  seen = [];
  reply = ({ path }) => ({ headers: FRESH, body: `${path} ${seen.length}` });
  target = await mockTarget({
    handler(request) {
      seen.push(request);
      const answer = reply(request);
      // Node's own Date is read off its timers, which do not jump.
      return { ...answer, headers: { date: new Date().toUTCString(), ...answer?.headers } };
    },
  });
  gateway = await mockGateway({ exits: 4, hosts: { 'shop.test': target.url } });
});
afterEach(async () => {
  vi.useRealTimers();
  await Promise.all(managers.splice(0).map((proxies) => proxies.close({ force: true })));
  await Promise.all([target.close(), gateway.close()]);
});

function cached(cache: boolean | CacheOptions = true, options: ProxyManagerOptions = {}): ProxyManager {
  const proxies = pacedManager({ gateway: gateway.url, cache, ...options });
  managers.push(proxies);
  return proxies;
}

type Fetch = (input: string, init?: object) => Promise<{ text(): Promise<string> }>;
const textOf = async (fetch: Fetch, path = '/a', init?: object) => (await fetch(URL_ + path, init)).text();
/** Lets what undici stores behind a response get there. */
const stored = () => new Promise((resolve) => setImmediate(resolve));

describe('a hit', () => {
  it('spends nothing: no arrival, no permit, no slot, no wait', async () => {
    const proxies = cached(true, { targets: shopBudget(1, 60_000) });
    let admitted = 0;
    proxies.on('admit', () => admitted++);
    expect(await textOf(proxies.fetch)).toBe('/a 1');
    for (let i = 0; i < 20; i++) expect(await textOf(proxies.fetch)).toBe('/a 1');
    const { cache, targets, waiting } = await proxies.stats();
    expect([target.arrivals.length, admitted, waiting, gateway.stats().connects]).toEqual([1, 1, 0, 1]);
    expect(targets['shop.test'].requests).toBe(1);
    expect(targets['shop.test'].state?.egresses.map(({ busy, cooling }) => busy + cooling).sort()).toEqual([0, 1]);
    expect(cache).toEqual({ hits: 20, misses: 1, revalidated: 0, joined: 0 });
  });

  it('says so in exchange(), and has an age', async () => {
    const proxies = cached();
    const first = await proxies.fetch(`${URL_}/a`);
    await first.text();
    expect(proxies.exchange(first)).toMatchObject({ cached: false, sends: 1, outcome: 'ok' });
    vi.setSystemTime(Date.now() + 7000);
    const hit = await proxies.fetch(`${URL_}/a`);
    expect([hit.status, hit.headers.get('age'), hit.headers.get('x-peer-ip')]).toEqual([
      200,
      '7',
      first.headers.get('x-peer-ip'),
    ]);
    await hit.text();
    const spent = { sends: 0, attempts: 1, waitedMs: 0, bytesSent: 0, bytesReceived: 0, egress: '' };
    expect(proxies.exchange(hit)).toMatchObject({ cached: true, outcome: 'ok', target: 'shop.test', ...spent });
  });

  it('is a hit through wrap(), the dispatcher and its fetch too', async () => {
    const proxies = cached();
    expect(await textOf(proxies.wrap(globalThis.fetch) as Fetch)).toBe('/a 1');
    // Another user-agent and accept, but no Vary.
    expect(await textOf(proxies.wrap(globalThis.fetch) as Fetch)).toBe('/a 1');
    expect(await textOf(proxies.fetch)).toBe('/a 1');
    const { dispatcher } = proxies;
    const { body, headers } = await request(`${URL_}/a`, { dispatcher });
    expect([await body.text(), headers.age]).toEqual(['/a 1', '0']);
    expect(await textOf(undiciFetch as Fetch, '/a', { dispatcher })).toBe('/a 1');
    expect(target.arrivals).toHaveLength(1);
  });

  it('may come in the middle of redirects', async () => {
    reply = ({ path }) => (path === '/hop' ? { redirect: '/a' } : { headers: FRESH, body: 'landed' });
    const proxies = cached();
    await textOf(proxies.fetch);
    const response = await proxies.fetch(`${URL_}/hop`);
    expect([await response.text(), response.redirected]).toEqual(['landed', true]);
    expect(proxies.exchange(response)).toMatchObject({ cached: true, sends: 1 });
    expect(target.arrivals).toHaveLength(2);
  });

  it('of a large body comes whole, and can be cancelled', async () => {
    const page = Buffer.alloc(3_000_000, 'abcdefg');
    reply = () => ({ headers: FRESH, body: page });
    const proxies = cached();
    for (let i = 0; i < 3; i++) {
      const body = await (await proxies.fetch(`${URL_}/a`)).bytes();
      expect(Buffer.compare(body, page)).toBe(0);
      await stored();
    }
    await (await proxies.fetch(`${URL_}/a`)).body?.cancel();
    expect(target.arrivals).toHaveLength(1);
  });
});

describe('kept is', () => {
  const keeps = async (headers: Record<string, string>, cache: boolean | CacheOptions = true, init?: object) => {
    reply = () => ({ headers, body: 'x' });
    const proxies = cached(cache);
    await textOf(proxies.fetch, '/a', init);
    await stored();
    await textOf(proxies.fetch, '/a', init);
    return target.arrivals.length === 1;
  };

  it.each([
    ['public, max-age=1', true],
    ['s-maxage=5', true],
    ['no-store', false],
    ['private, max-age=60', false],
    ['max-age=0', false],
    ['', false],
  ])('what is cacheable: %o', async (control, expected) => {
    expect(await keeps({ 'cache-control': control })).toBe(expected);
  });

  it('what is private, for a private cache alone', async () => {
    expect(await keeps({ 'cache-control': 'private, max-age=60' }, { type: 'private' })).toBe(true);
  });

  it('what says nothing, for defaultMaxAgeMs', async () => {
    expect(await keeps({}, { defaultMaxAgeMs: 2000 })).toBe(true);
    vi.setSystemTime(Date.now() + 2001);
    await textOf(managers[0].fetch);
    expect(target.arrivals).toHaveLength(2);
  });

  it('not what sets a cookie', async () => {
    expect(await keeps({ ...FRESH, 'set-cookie': 'a=1' })).toBe(false);
  });

  it('only what comes from `origins`', async () => {
    expect(await keeps(FRESH, { origins: ['http://other.test'] })).toBe(false);
    target.reset();
    expect(await keeps(FRESH, { origins: ['http://shop.test'] })).toBe(true);
    target.reset();
    expect(await keeps(FRESH, { origins: [/shop/] })).toBe(true);
  });

  it('a HEAD when it is among the methods; apart from the GET', async () => {
    expect(await keeps(FRESH, true, { method: 'HEAD' })).toBe(false);
    target.reset();
    expect(await keeps(FRESH, { methods: ['GET', 'HEAD'] }, { method: 'HEAD' })).toBe(true);
    expect(await textOf(managers[1].fetch)).toBe('x');
    expect(target.arrivals).toHaveLength(2);
  });

  it('each variant of a response that varies', async () => {
    reply = ({ headers }) => ({ headers: { ...FRESH, vary: 'accept-language' }, body: headers['accept-language'] });
    const proxies = cached();
    for (let i = 0; i < 2; i++) {
      for (const language of ['de', 'en']) {
        expect(await textOf(proxies.fetch, '/a', { headers: { 'accept-language': language } })).toBe(language);
      }
    }
    expect(target.arrivals).toHaveLength(2);
  });

  it('a 404, and then handed over at once', async () => {
    reply = () => ({ status: 404, headers: FRESH });
    const proxies = cached();
    for (let i = 0; i < 3; i++) expect((await proxies.fetch(`${URL_}/a`)).status).toBe(404);
    expect(target.arrivals).toHaveLength(1);
  });

  it('up to its age, and no longer', async () => {
    const proxies = cached();
    await textOf(proxies.fetch);
    vi.setSystemTime(Date.now() + 59_000);
    expect(await textOf(proxies.fetch)).toBe('/a 1');
    vi.setSystemTime(Date.now() + 2000);
    expect(await textOf(proxies.fetch)).toBe('/a 2');
    expect(await textOf(proxies.fetch)).toBe('/a 2');
    expect(target.arrivals).toHaveLength(2);
  });

  it('nothing that is no more than a refusal, whatever its headers say', async () => {
    for (const refusal of [{ status: 403 }, { status: 429 }, { status: 503 }, { headers: { 'x-guard': 'robot' } }]) {
      target.reset();
      const proxies = cached(true, {
        retry: { attempts: 1 },
        classify: ({ headers }) => (headers['x-guard'] ? 'blocked' : undefined),
      });
      reply = () => ({ ...refusal, headers: { ...FRESH, ...refusal.headers } });
      await textOf(proxies.fetch);
      await stored();
      reply = () => ({ headers: FRESH, body: 'the page' });
      for (let i = 0; i < 2; i++) expect(await textOf(proxies.fetch)).toBe('the page');
      expect(target.arrivals).toHaveLength(2);
    }
  });

  it('what was kept, past a refusal in its place', async () => {
    const proxies = cached(true, { retry: { attempts: 1 } });
    reply = () => ({ headers: { 'cache-control': 'max-age=60', etag: '"1"' }, body: 'page' });
    await textOf(proxies.fetch);
    vi.setSystemTime(Date.now() + 61_000);
    reply = () => ({ status: 403, headers: { 'cache-control': 'no-store' } });
    expect((await proxies.fetch(`${URL_}/a`)).status).toBe(403);
    reply = ({ headers }) => (headers['if-none-match'] === '"1"' ? { status: 304 } : { body: 'again' });
    expect(await textOf(proxies.fetch)).toBe('page');
  });
});

describe('not from the cache is', () => {
  const twice = async (proxies: ProxyManager, fetch: Fetch, init?: object) => {
    await textOf(proxies.fetch);
    for (let i = 0; i < 2; i++) await textOf(fetch, '/a', init);
    return target.arrivals.length - 1;
  };

  it('anything on a session', async () => {
    const proxies = cached();
    await using session = proxies.session();
    expect(await twice(proxies, session.fetch as Fetch)).toBe(2);
    expect(await twice(proxies, proxies.fetch, { pace: { session: 'alice' } })).toBe(4);
  });

  it.each(['authorization', 'cookie', 'range', 'if-none-match'])('a request with %s', async (name) => {
    const proxies = cached({ type: 'private' });
    expect(await twice(proxies, proxies.fetch, { headers: { [name]: 'bytes=0-1' } })).toBe(2);
    // Nor did they leave anything there.
    expect(await textOf(proxies.fetch)).toBe('/a 1');
  });

  it('a request through another pool than the usual one', async () => {
    const pools = { one: { gateway: gateway.url }, two: { gateway: gateway.url } };
    const proxies = pacedManager({ pools, cache: true });
    managers.push(proxies);
    expect(await twice(proxies, proxies.fetch, { pace: { pool: 'two' } })).toBe(2);
    expect(await twice(proxies, proxies.fetch, { pace: { pool: 'one', tier: 'open' } })).toBe(2);
  });

  it("a request that asks for the network: fetch's `cache`", async () => {
    const proxies = cached();
    expect(await twice(proxies, proxies.fetch, { cache: 'no-store' })).toBe(2);
    expect(await twice(proxies, proxies.fetch, { cache: 'reload' })).toBe(4);
  });

  it('a POST: it drops what it may have changed, on a session too', async () => {
    const proxies = cached();
    const post = { method: 'POST', body: 'x' };
    expect(await textOf(proxies.fetch)).toBe('/a 1');
    expect(await textOf(proxies.fetch, '/a', post)).toBe('/a 2');
    expect(await textOf(proxies.fetch, '/a', post)).toBe('/a 3');
    expect(await textOf(proxies.fetch)).toBe('/a 4');
    await using session = proxies.session();
    await textOf(session.fetch as Fetch, '/a', post);
    expect(await textOf(proxies.fetch)).toBe('/a 6');
    expect(seen[1].body.toString()).toBe('x');
  });

  it('a POST that was refused: it changed nothing', async () => {
    const proxies = cached(true, { retry: { attempts: 1 } });
    await textOf(proxies.fetch);
    reply = () => ({ status: 403 });
    expect((await proxies.fetch(`${URL_}/a`, { method: 'POST' })).status).toBe(403);
    expect(await textOf(proxies.fetch)).toBe('/a 1');
  });
});

describe('a stale entry', () => {
  const ETAGGED = { ...FRESH, etag: '"1"' };
  const confirm = (headers: Record<string, string> = {}) => {
    reply = ({ headers: { 'if-none-match': etag } }) =>
      etag === '"1"' ? { status: 304, headers } : { headers: ETAGGED, body: 'page' };
  };

  it.each([
    ['bare', {}],
    ['with its caching headers', ETAGGED],
  ])('that a 304 (%s) confirms costs one send, and is fresh again', async (_, headers) => {
    confirm(headers);
    const proxies = cached();
    await textOf(proxies.fetch);
    for (let i = 1; i <= 3; i++) {
      vi.setSystemTime(Date.now() + 61_000);
      const confirmed = await proxies.fetch(`${URL_}/a`);
      expect([confirmed.status, await confirmed.text(), confirmed.headers.get('warning')]).toEqual([200, 'page', null]);
      expect(proxies.exchange(confirmed)).toMatchObject({ sends: 1, cached: false, outcome: 'ok' });
      await stored();
      for (let j = 0; j < 3; j++) expect(await textOf(proxies.fetch)).toBe('page');
      expect(target.arrivals.map(({ status }) => status)).toEqual([200, ...Array(i).fill(304)]);
    }
    expect((await proxies.stats()).cache).toMatchObject({ hits: 9, misses: 4, revalidated: 3 });
  });

  it('that has changed is replaced', async () => {
    reply = () => ({ headers: { ...FRESH, etag: `"${seen.length}"` }, body: `v${seen.length}` });
    const proxies = cached();
    await textOf(proxies.fetch);
    vi.setSystemTime(Date.now() + 61_000);
    expect(await textOf(proxies.fetch)).toBe('v2');
    expect(await textOf(proxies.fetch)).toBe('v2');
    expect(seen[1].headers['if-none-match']).toBe('"1"');
  });

  it('of another etag than the 304 names is fetched anew', async () => {
    confirm({ etag: '"2"' });
    const proxies = cached();
    await textOf(proxies.fetch);
    vi.setSystemTime(Date.now() + 61_000);
    expect(await textOf(proxies.fetch)).toBe('page');
    expect(target.arrivals.map(({ status }) => status)).toEqual([200, 304, 200]);
  });

  it('stands in for a target in trouble where it may (stale-if-error); nothing is tried again', async () => {
    reply = () => ({ headers: { 'cache-control': 'max-age=1, stale-if-error=600' }, body: 'old' });
    const proxies = cached();
    await textOf(proxies.fetch);
    vi.setSystemTime(Date.now() + 5000);
    for (const trouble of [{ status: 503 }, { reset: true }]) {
      reply = () => trouble;
      const response = await proxies.fetch(`${URL_}/a`);
      expect([response.status, await response.text()]).toEqual([200, 'old']);
      expect(proxies.exchange(response)).toMatchObject({ sends: 1, attempts: 1, outcome: 'ok' });
    }
  });

  it('is brought up to date behind the answer (stale-while-revalidate), once', async () => {
    reply = () => ({ headers: { 'cache-control': 'max-age=1, stale-while-revalidate=600' }, body: `v${seen.length}` });
    const proxies = cached();
    await textOf(proxies.fetch);
    vi.setSystemTime(Date.now() + 5000);
    const answer = reply;
    reply = (request) => ({ ...answer(request), delayMs: 100 });
    for (let i = 0; i < 5; i++) expect(await textOf(proxies.fetch)).toMatch(/v[12]/);
    await eventually(() => textOf(proxies.fetch)).toBe('v2');
    expect(target.arrivals).toHaveLength(2);
  });

  it('can be given up while it is being confirmed', async () => {
    confirm();
    const proxies = cached(true, { targets: shopBudget(1, 60_000) });
    await textOf(proxies.fetch);
    vi.setSystemTime(Date.now() + 61_000);
    for (let i = 0; i < 3; i++) await textOf(proxies.fetch, `/${i}`);
    const controller = new AbortController();
    const waiting = proxies.fetch(`${URL_}/a`, { signal: controller.signal });
    await eventually(async () => (await proxies.stats()).waiting).toBe(1);
    controller.abort(new Error('enough'));
    expect(await failureOf(waiting)).toMatchObject({ message: 'enough' });
    expect(await proxies.stats()).toMatchObject({ waiting: 0, inFlight: 0 });
  });
});

describe('a store of your own', () => {
  it.each([
    ['undici in memory', () => new cacheStores.MemoryCacheStore()],
    ['one that takes its time', () => slow(new cacheStores.MemoryCacheStore())],
  ])('%s: outlives the manager', async (_, make) => {
    const store = make();
    const first = cached({ store });
    await textOf(first.fetch);
    await stored();
    await first.close();
    expect(await textOf(cached({ store }).fetch)).toBe('/a 1');
    expect(target.arrivals).toHaveLength(1);
  });

  it('with a refusal in it: handed over, not tried again for ever', async () => {
    const store = new cacheStores.MemoryCacheStore();
    const now = Date.now();
    const times = { cachedAt: now, staleAt: now + 60_000, deleteAt: now + 60_000 };
    const key = { origin: URL_, path: '/a', method: 'GET', headers: {} };
    store.createWriteStream(key, { statusCode: 503, statusMessage: '', headers: {}, ...times })?.end('down');
    await stored();
    const proxies = cached({ store });
    const response = await proxies.fetch(`${URL_}/a`);
    expect([response.status, await response.text(), target.arrivals.length]).toEqual([503, 'down', 0]);
    expect(proxies.exchange(response)).toMatchObject({ attempts: 1, cached: true });
  });

  it('that fails is one that has nothing; it says so', async () => {
    const broken = () => {
      throw new Error('disk full');
    };
    const rejecting = () => Promise.reject(new Error('disk full'));
    for (const get of [broken, rejecting]) {
      const proxies = cached({ store: { get, createWriteStream: broken, delete: broken } });
      const errors: string[] = [];
      proxies.on('store-error', ({ error }) => errors.push(error.message));
      expect(await textOf(proxies.fetch)).toMatch(/^\/a/);
      expect((await proxies.fetch(`${URL_}/a`, { method: 'POST' })).status).toBe(200);
      expect(errors).toContain('the store failed: disk full');
    }
  });
});

function slow(inner: InstanceType<typeof cacheStores.MemoryCacheStore>): NonNullable<CacheOptions['store']> {
  return {
    get: async (key) => inner.get(key),
    createWriteStream: (key, value) => inner.createWriteStream(key, value),
    delete: async (key) => inner.delete(key),
  };
}

describe('the manager', () => {
  it('has no layer without the option: dispatches go straight to the engine', async () => {
    for (const cache of [undefined, false]) {
      await using proxies = pacedManager({ gateway: gateway.url, ...(cache === false && { cache }) });
      await textOf(proxies.fetch);
      expect((await proxies.stats()).cache).toBeUndefined();
    }
    expect(target.arrivals).toHaveLength(2);
    expect(Object.keys(seen[0].headers)).toEqual(Object.keys(seen[1].headers));
  });

  it('sends the same headers with a cache as without', async () => {
    const headers = { 'X-Odd': 'Case' };
    await textOf(cached(false).fetch, '/a', { headers });
    await textOf(cached(true).fetch, '/a', { headers });
    expect(seen[1].headers).toEqual(seen[0].headers);
  });

  it('lets go of everything on close()', async () => {
    const proxies = cached();
    await textOf(proxies.fetch);
    const { dispatcher } = proxies;
    await closeClean(proxies, { gateway, target });
    expect(await failureOf(proxies.fetch(`${URL_}/a`))).toMatchObject({ code: 'PACELINE_CLOSED' });
    expect(await failureOf(request(`${URL_}/a`, { dispatcher }))).toMatchObject({ code: 'PACELINE_CLOSED' });
  });

  it('leaks nothing: hits, joins, aborts and refusals', async () => {
    vi.useRealTimers();
    const check = resourceBaseline();
    const proxies = cached();
    await Promise.all(Array.from({ length: 20 }, (_, i) => textOf(proxies.fetch, `/${i % 4}`)));
    const controller = new AbortController();
    const aborted = proxies.fetch(`${URL_}/x`, { signal: controller.signal });
    controller.abort();
    await failureOf(aborted);
    await closeClean(proxies, { gateway, target });
    await check();
  });

  it("takes undici's interceptors above it", async () => {
    reply = ({ path }) => (path === '/hop' ? { redirect: '/a' } : { headers: FRESH, body: 'landed' });
    const proxies = cached();
    const dispatcher = proxies.dispatcher.compose(interceptors.redirect({ maxRedirections: 2 }));
    for (let i = 0; i < 2; i++) {
      expect(await (await request(`${URL_}/hop`, { dispatcher })).body.text()).toBe('landed');
    }
    expect(target.arrivals.map(({ path }) => path)).toEqual(['/hop', '/a', '/hop']);
  });
});

describe('a bad option', () => {
  it.each([
    ['cache', 5, /a boolean or an object, got 5/],
    ['cache', null, /a boolean or an object/],
    ['cache', [], /an object/],
    ['cache.ttl', { ttl: 5 }, /an unknown option/],
    ['cache.store', { store: {} }, /get, createWriteStream, delete/],
    ['cache.store', { store: null }, /get, createWriteStream, delete/],
    ['cache.maxCount', { maxCount: -1 }, /an integer ≥ 0, got -1/],
    ['cache.maxSize', { maxSize: 1.5 }, /an integer ≥ 0/],
    ['cache.maxEntrySize', { maxEntrySize: '5' }, /an integer ≥ 0/],
    ['cache.maxCount', { store: new cacheStores.MemoryCacheStore(), maxCount: 5 }, /none beside cache.store/],
    ['cache.methods', { methods: ['POST'] }, /one or more of GET, HEAD, OPTIONS, TRACE, got 'POST'/],
    ['cache.methods', { methods: 'GET' }, /one or more of/],
    ['cache.methods', { methods: [] }, /one or more of/],
    ['cache.type', { type: 'public' }, /'shared' or 'private'/],
    ['cache.origins', { origins: 'http://a.test' }, /an array/],
    ['cache.origins', { origins: ['a.test'] }, /origins as/],
    ['cache.origins', { origins: ['http://a.test/'] }, /origins as/],
    ['cache.origins', { origins: [5] }, /origins as/],
    ['cache.defaultMaxAgeMs', { defaultMaxAgeMs: 0 }, /milliseconds > 0/],
    ['cache.dedupe', { dedupe: 1 }, /a boolean or an object/],
    ['cache.dedupe', { dedupe: null }, /a boolean or an object/],
    ['cache.dedupe.key', { dedupe: { key: 1 } }, /an unknown option/],
    ['cache.dedupe.methods', { dedupe: { methods: ['PUT'] } }, /one or more of/],
    ['cache.dedupe.skipHeaderNames', { dedupe: { skipHeaderNames: 'x' } }, /header names/],
    ['cache.dedupe.excludeHeaderNames', { dedupe: { excludeHeaderNames: ['a b'] } }, /header names/],
    ['cache.dedupe.maxBufferSize', { dedupe: { maxBufferSize: 0 } }, /bytes > 0/],
  ])('%s: %j', (option, cache, message) => {
    const error = thrownBy(() => new ProxyManager({ cache } as never));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error).toMatchObject({ option, message: expect.stringMatching(message) });
  });
});
