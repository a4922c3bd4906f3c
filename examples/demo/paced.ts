import { ProxyManager } from 'paceline';
import { CONCURRENCY, crawl, LIMIT, openWorld, type Result, WINDOW_MS } from './world.ts';

/** The same crawl through paceline: one rule for the site, and `proxies.fetch` in the place of `fetch`. */
export async function paced(progress: (done: number) => void): Promise<Result> {
  const world = await openWorld();
  const proxies = new ProxyManager({
    pools: { residential: { gateway: world.gateway.url, concurrency: CONCURRENCY } },
    targets: [{ match: '127.0.0.1', budget: { limit: LIMIT, windowMs: WINDOW_MS, spacing: 'burst' } }],
  });
  let latencyMs = 0;
  let answers = 0;
  proxies.on('settle', (event) => {
    latencyMs += event.latencyMs;
    answers++;
  });
  const started = performance.now();
  const pages = await crawl(async (page) => {
    const response = await proxies.fetch(`${world.target.url}/page/${page}`);
    await response.arrayBuffer();
    return response.ok;
  }, progress);
  const ms = performance.now() - started;
  await proxies.close();
  const { connects, bytesIn, bytesOut } = world.gateway.stats();
  const result = {
    name: 'paceline',
    pages,
    ms,
    limited: world.target.byStatus()[429] ?? 0,
    overBudget: world.target.overBudget(),
    tunnels: connects,
    bytes: bytesIn + bytesOut,
    latencyMs: latencyMs / answers,
  };
  await world.close();
  return result;
}
