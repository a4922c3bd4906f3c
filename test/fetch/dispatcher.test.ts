import { Writable } from 'node:stream';
import { ClosedError, ProxyManager } from 'paceline';
import { type MockGateway, type MockTarget, mockGateway, mockTarget } from 'paceline/testing';
import {
  Agent,
  getGlobalDispatcher,
  interceptors,
  request,
  setGlobalDispatcher,
  stream,
  fetch as undiciFetch,
} from 'undici';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { failureOf } from '../support/failing.ts';
import { pacedManager, shopBudget } from '../support/paced.ts';

// `proxies.dispatcher` is for everything that takes an undici Dispatcher. It paces; it does not try again.

let target: MockTarget;
let gateway: MockGateway;
let proxies: ProxyManager;

const URL_ = 'http://shop.test';

beforeEach(async () => {
  let flaky = 0;
  target = await mockTarget({
    handler({ path, body, headers }) {
      if (path === '/flaky') return { status: ++flaky % 3 === 0 ? 200 : 503 };
      if (path === '/hop') return { redirect: '/landed' };
      return { body: { path, body: body.toString(), cookie: headers.cookie } };
    },
  });
  gateway = await mockGateway({ exits: 4, hosts: { 'shop.test': target.url } });
  proxies = pacedManager({ gateway: gateway.url });
});
afterEach(async () => {
  await proxies.close();
  await Promise.all([target.close(), gateway.close()]);
});

describe('the dispatcher carries', () => {
  it('undici.request, from an exit of the gateway', async () => {
    const { dispatcher } = proxies;
    const { statusCode, headers, body } = await request(`${URL_}/a`, { dispatcher, method: 'POST', body: 'text' });
    expect([statusCode, await body.json()]).toEqual([200, { path: '/a', body: 'text' }]);
    expect(gateway.exits).toContain(headers['x-peer-ip']);
  });

  it('undici.stream', async () => {
    let text = '';
    const into = new Writable({
      write(chunk, _encoding, done) {
        text += chunk;
        done();
      },
    });
    await stream(`${URL_}/s`, { dispatcher: proxies.dispatcher, method: 'GET' }, () => into);
    expect(JSON.parse(text)).toMatchObject({ path: '/s' });
  });

  it("undici's fetch", async () => {
    const response = await undiciFetch(`${URL_}/f`, { dispatcher: proxies.dispatcher });
    expect(await response.json()).toMatchObject({ path: '/f' });
    expect(gateway.stats().connects).toBe(1);
  });

  it('everything, once it is the global dispatcher', async () => {
    const before = getGlobalDispatcher();
    setGlobalDispatcher(proxies.dispatcher);
    try {
      await (await request(`${URL_}/g`)).body.dump();
      expect(target.arrivals[0].ip).toMatch(/^127\.0\.1\./);
    } finally {
      setGlobalDispatcher(before);
    }
  });

  it("undici's retry and redirect interceptors: each send is admitted", async () => {
    const admitted: string[] = [];
    proxies.on('admit', ({ target }) => admitted.push(target));
    const retrying = proxies.dispatcher.compose(
      interceptors.retry({ minTimeout: 1, maxTimeout: 1, statusCodes: [503] }),
      interceptors.redirect({ maxRedirections: 3 }),
    );
    const flaky = await request(`${URL_}/flaky`, { dispatcher: retrying });
    expect([flaky.statusCode, target.arrivals.length, admitted.length]).toEqual([200, 3, 3]);
    await flaky.body.dump();
    const landed = await request(`${URL_}/hop`, { dispatcher: retrying });
    expect(await landed.body.json()).toMatchObject({ path: '/landed' });
    expect([target.arrivals.length, admitted.length]).toEqual([5, 5]);
  });
});

describe('the dispatcher', () => {
  it('tries nothing again by itself', async () => {
    const { statusCode, body } = await request(`${URL_}/flaky`, { dispatcher: proxies.dispatcher });
    await body.dump();
    expect([statusCode, target.arrivals.length]).toEqual([503, 1]);
  });

  it('is paced: the target sees no IP go beyond the budget', async () => {
    await using paced = pacedManager({ gateway: gateway.url, targets: shopBudget(2, 300) });
    const { dispatcher } = paced;
    const all = Array.from({ length: 20 }, async () => (await request(URL_, { dispatcher })).body.dump());
    await Promise.all(all);
    expect(target.arrivals).toHaveLength(20);
    expect(target.worst(300)).toBeLessThanOrEqual(2);
  });

  it('lets a wait be aborted: the target never sees the request', async () => {
    await using paced = pacedManager({ targets: [{ match: '127.0.0.1', budget: { limit: 1, windowMs: 60_000 } }] });
    const { dispatcher } = paced;
    await (await request(target.url, { dispatcher })).body.dump();
    const controller = new AbortController();
    const waiting = request(target.url, { dispatcher, signal: controller.signal });
    controller.abort(new Error('enough'));
    expect(await failureOf(waiting)).toMatchObject({ message: 'enough' });
    expect([target.arrivals.length, (await paced.stats()).waiting]).toEqual([1, 0]);
  });

  it('refuses after its close() with a ClosedError, and takes callbacks as undici does', async () => {
    const { dispatcher } = proxies;
    await new Promise<void>((resolve) => dispatcher.close(resolve));
    expect(await failureOf(request(URL_, { dispatcher }))).toBeInstanceOf(ClosedError);
    expect(await failureOf(undiciFetch(URL_, { dispatcher }))).toMatchObject({ cause: { code: 'PACELINE_CLOSED' } });
    await dispatcher.destroy();
    await new Promise<void>((resolve) => dispatcher.destroy(null, resolve));
  });

  it('closes when composed, too', async () => {
    const composed = proxies.dispatcher.compose(interceptors.dump());
    await (await request(URL_, { dispatcher: composed })).body.dump();
    await composed.close();
    expect(await failureOf(proxies.fetch(URL_))).toBeInstanceOf(ClosedError);
  });

  it('is an undici Dispatcher, the same one each time', () => {
    expect(proxies.dispatcher).toBe(proxies.dispatcher);
    expect(proxies.dispatcher.dispatch).toBeTypeOf('function');
    expect(Object.getPrototypeOf(Object.getPrototypeOf(proxies.dispatcher))).toBe(
      Object.getPrototypeOf(Object.getPrototypeOf(Agent.prototype)),
    );
  });
});

it('shows nothing of the manager when it is printed, spread or turned into JSON', async () => {
  const proxies = new ProxyManager({ headers: { authorization: 'Bearer hidden' } });
  const { dispatcher } = proxies;
  expect(JSON.stringify([dispatcher, { ...dispatcher }])).not.toContain('hidden');
  expect(Object.keys(dispatcher)).not.toContain('engine');
  await proxies.close();
});
