import { type MockGateway, type MockTarget, mockGateway, mockTarget, type TargetRequest } from 'paceline/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fetchMany, pacedManager } from '../support/paced.ts';
import { eventually } from '../support/resources.ts';

// Which way a request goes, how many go at once, and what is added to each. Counted at the target.

let target: MockTarget;
let gateways: { datacenter: MockGateway; residential: MockGateway };
let seen: TargetRequest[] = [];

beforeEach(async () => {
  seen = [];
  target = await mockTarget({
    handler(request) {
      seen.push(request);
      return request.path === '/banned' ? { body: 'banned' } : undefined;
    },
  });
  const hosts = { '*.test': target.url };
  gateways = {
    datacenter: await mockGateway({ exits: ['127.0.8.1', '127.0.8.2'], hosts }),
    residential: await mockGateway({ exits: ['127.0.9.1', '127.0.9.2'], hosts }),
  };
});
afterEach(() => Promise.all([target, ...Object.values(gateways)].map((end) => end.close())));

const poolsOf = (concurrency?: number) => ({
  dc: { type: 'datacenter' as const, gateway: gateways.datacenter.url, ...(concurrency && { concurrency }) },
  res: { gateway: gateways.residential.url },
});
const kindOf = (ip: string): string => (ip.startsWith('127.0.8.') ? 'dc' : 'res');

describe('the pool', () => {
  const CASES: [string, string, object, string][] = [
    ['is of the type that the tier prefers: open', 'http://open.test/', {}, 'dc'],
    ['is of the type that the tier prefers: protected', 'http://protected.test/', {}, 'res'],
    ['is of the type that the default tier prefers', 'http://other.test/', {}, 'res'],
    ['is the one that the rule names', 'http://named.test/', {}, 'dc'],
    ['is the one that the request names', 'http://protected.test/', { pool: 'dc' }, 'dc'],
    ['follows the tier that the request names', 'http://protected.test/', { tier: 'open' }, 'dc'],
  ];

  it.each(CASES)('%s', async (_name, url, pace, expected) => {
    await using proxies = pacedManager({
      pools: poolsOf(),
      targets: [
        { match: 'open.test', tier: 'open' },
        { match: 'protected.test', tier: 'protected' },
        { match: 'named.test', tier: 'protected', pools: ['dc'] },
      ],
    });
    const response = await proxies.fetch(url, { pace });
    expect([kindOf(seen[0].ip), proxies.exchange(response)?.pool]).toEqual([expected, expected]);
  });

  it('is the first one, where none is of the type', async () => {
    await using proxies = pacedManager({ pools: { dc: poolsOf().dc }, targets: [] });
    await proxies.fetch('http://other.test/');
    expect(kindOf(seen[0].ip)).toBe('dc');
  });

  it('is the machine itself without a gateway', async () => {
    await using proxies = pacedManager({});
    const response = await proxies.fetch(target.url);
    expect(seen[0].ip).toBe('127.0.0.1');
    expect(proxies.exchange(response)).toMatchObject({ pool: 'direct', egress: 'direct', session: undefined });
  });

  it('takes params into its template', async () => {
    const { url } = gateways.residential;
    await using proxies = pacedManager({
      gateway: url.replace('{session}', '{session}-country-{country}'),
      params: { country: 'de' },
    });
    await proxies.fetch('http://shop.test/');
    expect(gateways.residential.log[0].params).toEqual({ country: 'de' });
  });
});

describe('at a time', () => {
  /** The most requests that the target held at once. */
  async function held(run: (slow: MockTarget) => Promise<void>): Promise<number> {
    let now = 0;
    let most = 0;
    await using slow = await mockTarget({
      async handler() {
        most = Math.max(most, ++now);
        await new Promise((resolve) => setTimeout(resolve, 15));
        now--;
        return undefined;
      },
    });
    await run(slow);
    return most;
  }

  it('no more requests use a pool than its concurrency says', async () => {
    const most = await held(async (slow) => {
      await using proxies = pacedManager({ pools: { direct: { direct: true, concurrency: 3 } } });
      expect(await fetchMany(proxies, slow.url, 20)).toHaveLength(20);
    });
    expect(most).toBe(3);
  });

  it('no more requests are at a target than its rule says, whatever the pools', async () => {
    const most = await held(async (slow) => {
      await using proxies = pacedManager({
        targets: [{ match: '127.0.0.1', concurrency: 4, budget: { limit: 1000, windowMs: 1000, spacing: 'burst' } }],
        pools: { a: { direct: true }, b: { direct: true } },
      });
      const one = async (pool: string): Promise<void> => {
        await (await proxies.fetch(slow.url, { pace: { pool } })).text();
      };
      await Promise.all(Array.from({ length: 24 }, (_, i) => one(i % 2 ? 'a' : 'b')));
    });
    expect(most).toBe(4);
  });

  it('a body that is still being read counts', async () => {
    await using large = await mockTarget({ bodyBytes: 4_000_000 });
    await using proxies = pacedManager({ pools: { direct: { direct: true, concurrency: 1 } } });
    const first = await proxies.fetch(large.url);
    const second = proxies.fetch(large.url);
    await eventually(async () => (await proxies.stats()).waiting).toBe(1);
    expect(large.arrivals).toHaveLength(1);
    await first.arrayBuffer();
    await (await second).arrayBuffer();
    expect(large.arrivals).toHaveLength(2);
  });

  it('those of a higher priority go first, equals as they came', async () => {
    await using proxies = pacedManager({
      targets: [{ match: '127.0.0.1', budget: { limit: 1, windowMs: 25, spacing: 'burst' } }],
    });
    await (await proxies.fetch(`${target.url}/first`)).text();
    const priorities = [0, 5, -1, 5, 0];
    const all = priorities.map((priority, i) => proxies.fetch(`${target.url}/${i}`, { pace: { priority } }));
    await Promise.all(all);
    expect(seen.map(({ path }) => path)).toEqual(['/first', '/1', '/3', '/0', '/4', '/2']);
  });
});

describe('`headers`', () => {
  it('go out with every request that does not set them itself, whatever its kind', async () => {
    await using proxies = pacedManager({ headers: { 'User-Agent': 'mine/1', 'X-Default': 'd' } });
    await proxies.fetch(target.url);
    await proxies.fetch(target.url, { headers: { 'x-default': 'own', 'x-other': '1' } });
    await proxies.fetch(new Request(target.url, { headers: { 'X-DEFAULT': 'request' } }));
    await proxies.fetch(target.url, { method: 'POST', body: new URLSearchParams({ a: '1' }) });
    expect(seen.map(({ headers }) => headers['x-default'])).toEqual(['d', 'own', 'request', 'd']);
    expect(seen.every(({ headers }) => headers['user-agent'] === 'mine/1')).toBe(true);
    expect(seen[1].headers['x-other']).toBe('1');
    expect(seen[3].headers['content-type']).toBe('application/x-www-form-urlencoded;charset=UTF-8');
  });
});

describe('`classify`', () => {
  it('has the first word over the outcome; undefined leaves it to the built-in', async () => {
    const facts: unknown[] = [];
    await using proxies = pacedManager({
      classify(exchange) {
        facts.push(exchange);
        const { pathname } = new URL(exchange.url);
        return pathname === '/banned' ? 'challenged' : undefined;
      },
    });
    const outcomes = [];
    for (const path of ['/banned', '/fine']) {
      outcomes.push(proxies.exchange(await proxies.fetch(target.url + path))?.outcome);
    }
    expect(outcomes).toEqual(['challenged', 'ok']);
    expect(facts[0]).toMatchObject({
      url: `${target.url}/banned`,
      method: 'GET',
      status: 200,
      headers: { 'x-peer-ip': '127.0.0.1' },
    });
  });

  it.each<[string, () => unknown]>([
    ['throws', () => JSON.parse('a bug of the caller')],
    ['is async', async () => 'blocked'],
    ['returns what is no outcome', () => 'nonsense'],
  ])('that %s costs no permit and no response; the error surfaces by itself', async (_, classify) => {
    const thrown: unknown[] = [];
    const before = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => thrown.push(error));
    try {
      await using proxies = pacedManager({ classify: classify as () => undefined });
      expect(await fetchMany(proxies, target.url, 3, 1)).toEqual([200, 200, 200]);
      await eventually(() => thrown.length).toBe(3);
      expect((await proxies.stats()).targets['127.0.0.1']).toMatchObject({ outcomes: { ok: 3 }, state: { active: 0 } });
    } finally {
      process.removeAllListeners('uncaughtException');
      for (const listener of before) process.on('uncaughtException', listener);
    }
  });
});
