import { ConfigError, type GatewayFunction, ProxyManager } from 'paceline';
import { type MockTarget, mockGateway, mockTarget } from 'paceline/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { failureOf, thrownBy } from '../support/failing.ts';
import { pacedManager } from '../support/paced.ts';

// What makes no sense in one request fails that request, at once and clearly, and no other.

let target: MockTarget;
beforeAll(async () => {
  target = await mockTarget();
});
afterAll(() => target.close());

describe('bad pace options are a ConfigError that names them', () => {
  const CASES: [unknown, string][] = [
    [{ pool: 'nowhere' }, 'pace.pool'],
    [{ pool: 5 }, 'pace.pool'],
    [{ tier: 'extreme' }, 'pace.tier'],
    [{ tier: '' }, 'pace.tier'],
    [{ priority: Number.NaN }, 'pace.priority'],
    [{ inspectBody: 1 }, 'pace.inspectBody'],
    [{ priority: 'high' }, 'pace.priority'],
    [{ maxWaitMs: -1 }, 'pace.maxWaitMs'],
    [{ maxWaitMs: Number.POSITIVE_INFINITY }, 'pace.maxWaitMs'],
    [{ maxWaitMs: '5' }, 'pace.maxWaitMs'],
    [{ sesion: 'a' }, 'pace.sesion'],
    [{ session: 'a b' }, 'pace.session'],
    ['protected', 'pace'],
    [null, 'pace'],
    [[], 'pace'],
  ];

  it.each(CASES)('%j', async (pace, option) => {
    await using proxies = pacedManager({});
    const before = target.arrivals.length;
    for (const fetch of [proxies.fetch, proxies.wrap(globalThis.fetch)]) {
      const error = await failureOf(fetch(target.url, { pace: pace as never }));
      expect(error).toBeInstanceOf(ConfigError);
      expect(error).toMatchObject({ option, message: expect.stringContaining(`${option}: expected `) });
    }
    expect(target.arrivals).toHaveLength(before);
    expect((await proxies.fetch(target.url)).status).toBe(200);
  });
});

describe('a URL that is none for fetch is a TypeError of fetch, with pace options too', () => {
  it.each(['/relative', 'nonsense', 'http://', 'ftp://ftp.test/x', 'file:///etc/hosts', 'http://user:word@a.test/'])(
    '%s',
    async (url) => {
      await using proxies = pacedManager({});
      expect(await failureOf(proxies.fetch(url))).toBeInstanceOf(TypeError);
      expect(await failureOf(proxies.fetch(url, { pace: { session: 'a', tier: 'open' } }))).toBeInstanceOf(TypeError);
    },
  );
});

describe('a gateway function', () => {
  const FAULTS: [string, GatewayFunction, RegExp][] = [
    [
      'throws',
      () => {
        throw new Error('no more sessions');
      },
      /it threw/,
    ],
    ['gives nothing', () => undefined as never, /something of type undefined/],
    ['gives null', () => null as never, /got null/],
    ['gives an object', () => ({ url: 'http://gw.test' }) as never, /something of type object/],
    ['gives a promise', (async () => 'http://gw.test') as never, /a promise/],
    ['gives no URL', () => 'nonsense', /unparsable/],
    ['gives a URL of another protocol', () => 'ftp://gw.test', /got another/],
    ['gives a URL with a line break in it', () => 'http://u%0d%0a:p@gw.test', /control characters/],
  ];

  it.each(FAULTS)('that %s fails the request with a ConfigError, and no later one', async (_name, fault, expected) => {
    await using gateway = await mockGateway({ hosts: { 'shop.test': target.url } });
    let faults = 3;
    await using proxies = pacedManager({
      gateway: (params) => (faults-- > 0 ? fault(params) : gateway.url.replace('{session}', params.session!)),
    });
    const url = 'http://shop.test/';
    const attempts = [
      await failureOf(proxies.fetch(url)),
      await failureOf(proxies.fetch(url, { pace: { session: 'a' } })),
      thrownBy(() => proxies.session()),
    ];
    for (const error of attempts) {
      expect(error).toBeInstanceOf(ConfigError);
      expect(error).toMatchObject({ option: 'gateway', message: expect.stringMatching(expected) });
    }
    expect((await proxies.fetch(url)).status).toBe(200);
    expect((await proxies.fetch(url, { pace: { session: 'a' } })).status).toBe(200);
    const { waiting, inFlight } = await proxies.stats();
    expect([waiting, inFlight]).toEqual([0, 0]);
  });

  it('gets the session and the params, and may give a URL object', async () => {
    await using gateway = await mockGateway({ hosts: { 'shop.test': target.url } });
    const asked: unknown[] = [];
    await using proxies = pacedManager({
      params: { country: 'de' },
      gateway(params) {
        asked.push(params);
        return new URL(gateway.url.replace('{session}', `${params.session}-country-${params.params.country}`));
      },
    });
    await proxies.fetch('http://shop.test/', { pace: { session: 'a' } });
    expect(asked).toEqual([{ session: 'a', params: { country: 'de' } }]);
    expect(gateway.log[0]).toMatchObject({ session: 'a', params: { country: 'de' } });
  });

  it('that throws keeps its own error as the cause', async () => {
    const own = new Error('mine');
    await using proxies = new ProxyManager({
      gateway: () => {
        throw own;
      },
    });
    expect(await failureOf(proxies.fetch('http://shop.test/'))).toMatchObject({ name: 'ConfigError', cause: own });
  });
});

describe('over a tunnel that is open, a request that says nothing of itself goes straight on; one with headers does not escape', () => {
  it.each([
    ['an object', { 'Proxy-Authorization': 'Basic x' }],
    ['pairs', [['PROXY-authorization', 'Basic x']] as [string, string][]],
    ['Headers', new Headers({ 'proxy-authorization': 'Basic x' })],
  ])('credentials for a proxy, as %s, do not reach the target', async (_what, headers) => {
    await using gateway = await mockGateway({ exits: 1, hosts: { 'shop.test': target.url } });
    await using proxies = pacedManager({ gateway: gateway.url });
    const before = target.arrivals.length;
    for (const init of [undefined, { headers }, undefined, { headers }]) {
      const done = proxies.fetch('http://shop.test/', init);
      if (init === undefined) await (await done).arrayBuffer();
      else expect(await failureOf(done)).toMatchObject({ cause: { code: 'UND_ERR_INVALID_ARG' } });
    }
    expect(target.arrivals.length).toBe(before + 2);
    expect(gateway.stats().connects).toBe(1);
  });
});
