/**
 * Logs in and reads page after page, at a site that ties the login to the IP: one strict session, with its cookies. Then the exit
 * changes in the middle, and the session says so instead of going on from an address that the site would not know.
 *
 *   node examples/paginated-login-session/main.ts
 */
import assert from 'node:assert/strict';
import { ProxyManager, type Session, SessionLostError } from 'paceline';
import { mockGateway } from 'paceline/testing';
import { loginSite, PAGES } from './site.ts';

await using site = await loginSite();
await using gateway = await mockGateway({ exits: 20, hosts: { 'shop.test': site.url, 'www.shop.test': site.url } });
await using proxies = new ProxyManager({
  gateway: gateway.url,
  targets: [{ match: 'shop.test', budget: { limit: 600, windowMs: 60_000, spacing: 'burst' } }],
});

// The part you would write:
async function readOrders(session: Session): Promise<string[]> {
  const login = new URLSearchParams({ user: 'ada', password: 'lovelace' });
  let response = await session.fetch('http://shop.test/login', { method: 'POST', body: login });
  const orders: string[] = [];
  for (;;) {
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
    const { items, next } = (await response.json()) as { items: string[]; next?: string };
    orders.push(...items);
    if (next === undefined) return orders;
    response = await session.fetch(new URL(next, response.url));
  }
}

await using session = proxies.session({ strict: true });
const orders = await readOrders(session);
console.log(`logged in from ${session.egress} and read ${PAGES} pages: ${orders.length} orders`);
console.log(`  the site turned away ${site.refused.length} requests`);
assert.equal(orders.length, PAGES * 5);
assert.deepEqual(site.refused, []);

// The provider moves the session to another exit; the next tunnel comes up there.
gateway.rotate(session.id);
const lost = await session.fetch('http://www.shop.test/orders?page=1').catch((error: unknown) => error);
assert(lost instanceof SessionLostError);
console.log(`the exit changed: ${lost.message}`);

session.rotate();
const again = await readOrders(session);
console.log(`rotated, logged in again from ${session.egress}: ${again.length} orders`);
assert.deepEqual(again, orders);
assert.deepEqual(site.refused, []);
