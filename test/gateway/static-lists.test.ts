import { ProxyManager } from 'paceline';
import { mockGateway, mockTarget } from 'paceline/testing';
import { describe, expect, it } from 'vitest';

const budget = { limit: 3, windowMs: 800, spacing: 'burst' } as const;

describe('a list of proxies on one host, a port each', () => {
  for (const [egressHeader, exit] of [
    ['x-egress-ip', '127.0.8.2'],
    [false, '127.0.8.2'],
    // Both leave from one exit: the second is not needed, until the first one rests.
    ['x-egress-ip', '127.0.8.1'],
  ] as const) {
    it(`serves all requests when one of them stumbles (header: ${egressHeader}, second exit ${exit})`, async () => {
      await using shop = await mockTarget();
      const hosts = { 'shop.test': shop.url };
      await using first = await mockGateway({ exits: ['127.0.8.1'], hosts, egressHeader });
      await using second = await mockGateway({ exits: [exit], hosts, egressHeader });
      first.fault({ kind: 'rst', times: 3 });
      await using proxies = new ProxyManager({
        pools: { list: { proxies: [first.rotatingUrl, second.rotatingUrl] } },
        targets: [{ match: 'shop.test', budget }],
      });
      const statuses = await Promise.all(
        Array.from({ length: 12 }, async () => {
          const response = await proxies.fetch('http://shop.test/');
          await response.text();
          return response.status;
        }),
      );
      expect(statuses).toEqual(Array(12).fill(200));
      expect(shop.worst(budget.windowMs)).toBeLessThanOrEqual(budget.limit);
    });
  }

  it('uses both exits, and says that they are assumed where nobody names them', async () => {
    await using shop = await mockTarget();
    const hosts = { 'shop.test': shop.url };
    await using first = await mockGateway({ exits: ['127.0.8.3'], hosts, egressHeader: false });
    await using second = await mockGateway({ exits: ['127.0.8.4'], hosts, egressHeader: false });
    await using proxies = new ProxyManager({
      pools: { list: { proxies: [first.rotatingUrl, second.rotatingUrl] } },
      targets: [{ match: 'shop.test', budget }],
    });
    for (let i = 0; i < 6; i++) {
      const response = await proxies.fetch('http://shop.test/');
      await response.text();
      expect(proxies.exchange(response)).toMatchObject({ egressVerified: false });
    }
    expect(shop.ips().sort()).toEqual(['127.0.8.3', '127.0.8.4']);
    expect((await proxies.stats()).pools.list.egress).toBe('assumed');
  });
});

it("Node's own fetch takes proxies.dispatcher as it is", async () => {
  await using shop = await mockTarget();
  await using proxies = new ProxyManager();
  const response = await fetch(shop.url, { dispatcher: proxies.dispatcher } as RequestInit);
  expect(response.status).toBe(200);
  expect((await response.text()).length).toBeGreaterThan(0);
});
