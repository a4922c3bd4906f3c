import { fetch, ProxyAgent } from 'undici';
import { crawl, openWorld, type Result } from './world.ts';

/** The usual loop: a new session for every request, and up to three more tries when the site objects. */
export async function naive(progress: (done: number) => void): Promise<Result> {
  const world = await openWorld();
  const started = performance.now();
  let sessions = 0;
  const pages = await crawl(async (page) => {
    for (let attempt = 0; attempt < 4; attempt++) {
      const dispatcher = new ProxyAgent({
        uri: world.gateway.url.replace('{session}', `naive${sessions++}`),
        proxyTunnel: true,
      });
      try {
        const response = await fetch(`${world.target.url}/page/${page}`, { dispatcher });
        await response.arrayBuffer();
        if (response.ok) return true;
      } finally {
        await dispatcher.close();
      }
    }
    return false;
  }, progress);
  const ms = performance.now() - started;
  const { connects, bytesIn, bytesOut } = world.gateway.stats();
  const result = {
    name: 'naive rotation',
    pages,
    ms,
    limited: world.target.byStatus()[429] ?? 0,
    overBudget: world.target.overBudget(),
    tunnels: connects,
    bytes: bytesIn + bytesOut,
    latencyMs: 0,
  };
  await world.close();
  return result;
}
