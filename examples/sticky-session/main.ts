/**
 * Sticky sessions beside per-request ones, in one program: what belongs together leaves from one IP.
 *
 *   node examples/sticky-session/main.ts
 */
import { ProxyManager } from 'paceline';
import { mockGateway, mockTarget } from 'paceline/testing';

await using target = await mockTarget({
  handler: ({ path, ip }) => ({ body: `${path} seen from ${ip}` }),
});
await using gateway = await mockGateway({ exits: 20 });
await using proxies = new ProxyManager({
  pools: {
    sessions: { gateway: gateway.url },
    rotating: { gateway: gateway.rotatingUrl, rotation: 'per-request', egress: { header: 'x-egress-ip' } },
  },
  targets: [{ match: '127.0.0.1', budget: { limit: 60, windowMs: 60_000, spacing: 'burst' } }],
});
const show = async (path: string, load: typeof proxies.fetch): Promise<void> => {
  console.log(`  ${await (await load(target.url + path)).text()}`);
};

console.log('one session, one IP:');
await using session = proxies.session({ pool: 'sessions' });
for (const path of ['/login', '/account', '/orders']) await show(path, session.fetch);
console.log(`  session ${session.id} leaves from ${session.egress}`);

session.rotate();
console.log('after rotate(), another one:');
for (const path of ['/login', '/account']) await show(path, session.fetch);

console.log('a session named by the request:');
for (const path of ['/cart', '/checkout']) {
  await show(path, (url) => proxies.fetch(url, { pace: { session: 'alice', pool: 'sessions' } }));
}

console.log('a new IP for every request:');
for (const path of ['/a', '/b', '/c']) await show(path, (url) => proxies.fetch(url, { pace: { pool: 'rotating' } }));
