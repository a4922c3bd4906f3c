import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface LimitedApi extends AsyncDisposable {
  readonly url: string;
  /** Answers, refusals, and the least that was ever left of any limit. */
  readonly counts: { served: number; refused: number; least: number };
}

/** An API with a limit in all and a second one under /search, over sliding windows; it tells of them as GitHub's does. */
export async function limitedApi(limits: { core: number; search: number; windowMs: number }): Promise<LimitedApi> {
  const { windowMs } = limits;
  const counts = { served: 0, refused: 0, least: Infinity };
  const seen: Record<'core' | 'search', number[]> = { core: [], search: [] };

  const server = createServer((request, response) => {
    const now = performance.now();
    const all = request.url?.startsWith('/search') ? (['core', 'search'] as const) : (['core'] as const);
    for (const name of all) seen[name] = seen[name].filter((at) => at > now - windowMs);
    const full = all.find((name) => seen[name].length >= limits[name]);
    // The one that is told is the narrower one.
    const told = full ?? all.at(-1)!;
    if (full === undefined) for (const name of all) seen[name].push(now);
    const remaining = limits[told] - seen[told].length;
    const resetMs = seen[told][0] + windowMs - now;
    response.setHeader('x-ratelimit-limit', limits[told]);
    response.setHeader('x-ratelimit-remaining', remaining);
    response.setHeader('x-ratelimit-reset', Math.ceil((Date.now() + resetMs) / 1000));
    response.setHeader('x-ratelimit-resource', told);
    if (full === undefined) {
      counts.served++;
      counts.least = Math.min(counts.least, remaining);
      response.end('{}');
    } else {
      counts.refused++;
      response.writeHead(429, { 'retry-after': String(Math.ceil(resetMs / 1000)) }).end('{}');
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    counts,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
