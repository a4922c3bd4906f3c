/**
 * A scraper's unit tests: a mock gateway and a mock shop on real sockets, no network, no waiting for real windows.
 *
 *   node --test examples/unit-test-your-scraper/scraper.test.ts
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ProxyManager } from 'paceline';
import { mockGateway, mockTarget } from 'paceline/testing';
import { scrapePrices } from './scraper.ts';

const windowMs = 500;
const shopRule = { match: 'shop.test', budget: { limit: 4, windowMs, spacing: 'burst' } } as const;
const page = ({ path }: { path: string }) => ({ body: JSON.stringify({ price: Number(path.split('/').pop()) * 10 }) });

test('gets every price, and the shop never sees one IP too often', async () => {
  await using shop = await mockTarget({ budget: { limit: 4, windowMs }, handler: page });
  await using gateway = await mockGateway({ exits: 3, hosts: { 'shop.test': new URL(shop.url).host } });
  await using proxies = new ProxyManager({ gateway: gateway.url, targets: [shopRule] });

  const prices = await scrapePrices(proxies, 'http://shop.test', 20);

  assert.deepEqual(
    prices,
    Array.from({ length: 20 }, (_, i) => i * 10),
  );
  assert.equal(shop.overBudget(), 0);
  assert.equal(shop.byStatus()[429] ?? 0, 0);
});

test('survives a gateway that drops a third of its tunnels', async () => {
  await using shop = await mockTarget({ handler: page });
  await using gateway = await mockGateway({ exits: 3, seed: 3, hosts: { 'shop.test': new URL(shop.url).host } });
  gateway.fault({ kind: 'rst', probability: 0.33, times: 1000 });
  await using proxies = new ProxyManager({
    gateway: gateway.url,
    targets: [shopRule],
    retry: { baseMs: 10, capMs: 50 },
  });

  const prices = await scrapePrices(proxies, 'http://shop.test', 10);

  assert.equal(prices.length, 10);
});

test('reports wrong credentials at once, without their password', async () => {
  await using gateway = await mockGateway({ password: 'right' });
  await using proxies = new ProxyManager({ gateway: gateway.url.replace('right', 'wr0ng-s3cret') });

  await assert.rejects(scrapePrices(proxies, 'http://shop.test', 1), (error: Error & { kind?: string }) => {
    assert.equal(error.kind, 'auth');
    assert.doesNotMatch(`${error.stack}`, /wr0ng-s3cret/);
    return true;
  });
});
