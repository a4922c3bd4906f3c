/**
 * A program that has its own fetch keeps it: `proxies.wrap` paces any fetch that takes a `dispatcher`, Node's own included.
 * Libraries on undici take `proxies.dispatcher`.
 *
 *   node examples/wrap-existing-fetch/main.ts
 */
import { ProxyManager } from 'paceline';
import { mockGateway, mockTarget } from 'paceline/testing';
import { request } from 'undici';

await using target = await mockTarget({ budget: { limit: 3, windowMs: 1000 } });
await using gateway = await mockGateway({ exits: 2 });
await using proxies = new ProxyManager({
  gateway: gateway.url,
  targets: [{ match: '127.0.0.1', budget: { limit: 3, windowMs: 1000, spacing: 'burst' } }],
});

/** Somebody else's code: it takes the fetch to use, as most API clients do. */
async function titles(fetchLike: typeof fetch, count: number): Promise<string[]> {
  const pages = Array.from({ length: count }, (_, i) => fetchLike(`${target.url}/page/${i}`));
  return Promise.all(pages.map(async (page) => `${(await page).status}`));
}

const started = performance.now();
const statuses = await titles(proxies.wrap(globalThis.fetch), 12);
console.log(`12 pages at 2 IPs × 3 a second: ${statuses.join(' ')} in ${Math.round(performance.now() - started)} ms`);

const { statusCode, body } = await request(`${target.url}/through-undici`, { dispatcher: proxies.dispatcher });
await body.dump();
console.log(`undici.request through proxies.dispatcher: ${statusCode}`);
console.log(`over budget, as the target counts: ${target.overBudget()}`);
