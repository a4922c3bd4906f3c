/**
 * A rule with two pools: the cheap one first, the dear one when it must be. The site lets the cheap pool's addresses in for a while, then turns
 * them away; all pages come, and nearly all of what could be cheap was.
 *
 *   node examples/escalate-on-block/main.ts
 */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ProxyManager } from 'paceline';
import { mockGateway } from 'paceline/testing';

const PAGES = 200;
const TOLERATED = 60;

// The site knows the addresses of data centres: here 127.0.8.x.
let fromCheap = 0;
let turnedAway = 0;
const site = createServer((request, response) => {
  const cheap = request.socket.remoteAddress?.startsWith('127.0.8.') === true;
  if (cheap && ++fromCheap > TOLERATED) {
    turnedAway++;
    response.writeHead(403).end('no robots, please');
  } else response.end(`page ${request.url}`);
});
await new Promise<void>((resolve) => site.listen(0, '127.0.0.1', resolve));
const hosts = { 'shop.test': `http://127.0.0.1:${(site.address() as AddressInfo).port}` };
await using datacenter = await mockGateway({ exits: ['127.0.8.1', '127.0.8.2', '127.0.8.3', '127.0.8.4'], hosts });
await using residential = await mockGateway({ exits: 20, hosts });

// The part you would write:
const proxies = new ProxyManager({
  pools: {
    datacenter: { type: 'datacenter', gateway: datacenter.url },
    residential: { gateway: residential.url },
  },
  targets: [
    {
      match: 'shop.test',
      pools: ['datacenter', 'residential'],
      budget: { limit: 20, windowMs: 1000, spacing: 'burst' },
    },
  ],
});
proxies.on('escalate', ({ target, from, to }) => console.log(`${target}: ${from} is turned away, on to ${to}`));

const pages = await Promise.all(
  Array.from({ length: PAGES }, async (_, i) => {
    const response = await proxies.fetch(`http://shop.test/${i}`);
    await response.text();
    return { status: response.status, pool: proxies.exchange(response)?.pool };
  }),
);
await proxies.close();
site.closeAllConnections();
site.close();

const by = (pool: string): number => pages.filter((page) => page.status === 200 && page.pool === pool).length;
console.log(`${by('datacenter')} pages by the cheap pool, ${by('residential')} by the dear one`);
console.log(`  the site turned away ${turnedAway} requests`);
assert.equal(by('datacenter') + by('residential'), PAGES);
assert.equal(by('datacenter'), TOLERATED);
assert(turnedAway < 60);
