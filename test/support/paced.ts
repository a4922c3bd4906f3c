import { ProxyManager, type ProxyManagerOptions, type TargetRule } from 'paceline';
import type { MockGateway, MockTarget } from 'paceline/testing';
import { eventually } from './resources.ts';

/** No budget to speak of: for tests of the ways out, not of the pacing. */
export const UNPACED: TargetRule[] = [
  { match: 'shop.test', budget: { limit: 10_000, windowMs: 1000, spacing: 'burst' } },
  { match: '127.0.0.1', budget: { limit: 10_000, windowMs: 1000, spacing: 'burst' } },
  { match: '[::1]', budget: { limit: 10_000, windowMs: 1000, spacing: 'burst' } },
  { match: 'localhost', budget: { limit: 10_000, windowMs: 1000, spacing: 'burst' } },
];

/** A budget for shop.test, spent as requests come. */
export function shopBudget(limit: number, windowMs: number): TargetRule[] {
  return [{ match: 'shop.test', budget: { limit, windowMs, spacing: 'burst' } }];
}

/** A manager for tests: unpaced, impatient and quick to try again, unless told otherwise. */
export function pacedManager(options: ProxyManagerOptions): ProxyManager {
  return new ProxyManager({
    targets: UNPACED,
    ...options,
    timeouts: { connectMs: 2000, headersMs: 2000, bodyMs: 2000, ...options.timeouts },
    retry: { baseMs: 1, capMs: 2, ...options.retry },
  });
}

/** `count` requests, `concurrency` at a time; their bodies, read. */
export async function fetchMany(
  proxies: ProxyManager,
  url: string,
  count: number,
  concurrency: number = count,
): Promise<number[]> {
  const statuses: number[] = [];
  let next = 0;
  const one = async (): Promise<void> => {
    while (next < count) {
      next++;
      const response = await proxies.fetch(url);
      await response.arrayBuffer();
      statuses.push(response.status);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, one));
  return statuses;
}

/** Closes the manager and waits until neither end has a socket left. */
export async function closeClean(
  proxies: ProxyManager,
  ends: { readonly gateway?: { stats(): { open: number; tunnels: number } }; readonly target?: MockTarget },
): Promise<void> {
  await proxies.close();
  await eventually(() => {
    const gateway = ends.gateway?.stats();
    return [gateway?.open ?? 0, gateway?.tunnels ?? 0, ends.target?.connections ?? 0];
  }).toEqual([0, 0, 0]);
}

/** How often each exit of the gateway was asked for a tunnel, refused ones included. */
export function exitsOf(gateway: MockGateway): string[] {
  return [...new Set(gateway.log.map((ask) => ask.exit).filter((exit) => exit !== ''))];
}
