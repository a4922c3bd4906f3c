/**
 * A site that turns robots away politely: status 200, a page that says nothing, and a header of its own. Only its visitors
 * know that, so they tell paceline, with `classify`; from then on such a page counts as `blocked` against the IP it came to.
 * Where blocked requests are tried again, they are from another IP; otherwise the caller gets the page and sees why.
 *
 *   node examples/own-block-detector/main.ts
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ProxyManager } from 'paceline';
import { mockGateway } from 'paceline/testing';

const PAGES = 24;

/** The first two IPs to come are suspects here, and get no goods to see. */
const suspects = new Set<string>();
const site = createServer((request, response) => {
  const ip = request.socket.remoteAddress ?? '';
  if (suspects.size < 2) suspects.add(ip);
  if (!suspects.has(ip)) return response.end(`goods at ${request.url}`);
  response.setHeader('x-shop-guard', 'robot');
  return response.end('Please come back later.');
});
await new Promise<void>((resolve) => site.listen(0, '127.0.0.1', resolve));

const shop = `127.0.0.1:${(site.address() as AddressInfo).port}`;
const gateway = await mockGateway({ exits: 8, hosts: { 'shop.test': shop } });
const proxies = new ProxyManager({
  gateway: gateway.url,
  targets: [{ match: 'shop.test', budget: { limit: 4, windowMs: 1000, spacing: 'burst' } }],
  classify: ({ headers }) => (headers['x-shop-guard'] === 'robot' ? 'blocked' : undefined),
});

const pages = await Promise.all(
  Array.from({ length: PAGES }, async (_, i) => {
    const response = await proxies.fetch(`http://shop.test/item/${i}`);
    await response.text();
    return { turnedAway: response.headers.has('x-shop-guard'), exchange: proxies.exchange(response) };
  }),
);

const { blocked, ok } = (await proxies.stats()).targets['shop.test'].outcomes;
const turnedAway = pages.filter((page) => page.turnedAway).length;
const elsewhere = pages.filter(({ exchange }) => exchange !== undefined && exchange.attempts > 1).length;
console.log(`${suspects.size} of the IPs are turned away with a 200 that is none`);
console.log(`outcomes, as paceline counts: ${ok} ok, ${blocked} blocked`);
console.log(`${PAGES} pages asked for: ${PAGES - turnedAway} came, ${elsewhere} requests took another IP`);
if (turnedAway > 0)
  console.log(`${turnedAway} were handed over as they were: exchange(response).outcome says 'blocked'`);

// Each page that was turned away was seen as such, and only those.
const known = pages.every(({ turnedAway, exchange }) => turnedAway === (exchange?.outcome === 'blocked'));
if (!known || blocked === 0 || ok !== PAGES - turnedAway) {
  console.error('the detector did not see what it should have');
  process.exitCode = 1;
}

await proxies.close();
await gateway.close();
site.close();
