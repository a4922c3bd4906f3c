import type { ProxyManager } from 'paceline';
import { mockGateway } from 'paceline/testing';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pacedManager } from '../support/paced.ts';
import { isMissing, type RealServer, startNginx } from '../support/real-servers.ts';

// A real leaky bucket: nginx's limit_req, which knows nothing of windows. Evenly spaced requests fit through it.

describe.skipIf(isMissing('nginx'))('nginx limit_req', () => {
  let nginx: RealServer;
  beforeAll(async () => {
    nginx = await startNginx({
      lenient: { rate: '20r/s', options: 'burst=4 nodelay' },
      strict: { rate: '20r/s' },
    });
  });
  afterAll(() => nginx[Symbol.asyncDispose]());

  const url = (zone: string): string => `http://127.0.0.1:${nginx.port}/${zone}/page`;

  /** `limit` a second, evenly. */
  const paced = (zone: string, limit: number, gateway?: string): ProxyManager =>
    pacedManager({
      ...(gateway && { gateway }),
      targets: [{ match: `127.0.0.1/${zone}`, budget: { limit, windowMs: 1000, spacing: 'even' } }],
      retry: { attempts: 1 },
    });

  /** How often each status came. */
  async function statuses(proxies: ProxyManager, zone: string, count: number): Promise<Record<number, number>> {
    const counts: Record<number, number> = {};
    await Promise.all(
      Array.from({ length: count }, async () => {
        const response = await proxies.fetch(url(zone));
        await response.text();
        counts[response.status] = (counts[response.status] ?? 0) + 1;
      }),
    );
    await proxies.close();
    return counts;
  }

  it.each(['lenient', 'strict'])('refuses with 503 who is not paced (%s)', async (zone) => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const { statusCode, body } = await request(url(zone));
        await body.dump();
        return statusCode;
      }),
    );
    expect(answers.filter((status) => status === 503).length).toBeGreaterThanOrEqual(10);
    expect(answers.filter((status) => status === 200).length).toBeGreaterThanOrEqual(1);
  });

  it('lets the same number of requests through when they are paced at its rate, directly', async () => {
    const start = performance.now();
    // From here on, since the test before has filled the bucket: it takes a quarter of a second to drain.
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await statuses(paced('lenient', 20), 'lenient', 24)).toEqual({ 200: 24 });
    // 23 gaps of 50 ms or a little more: paced, and no slower than it has to be.
    expect(performance.now() - start).toBeGreaterThan(300 + 23 * 50 - 5);
    expect(performance.now() - start).toBeLessThan(300 + 2 * 23 * 50);
  });

  it('and through a gateway, for each exit: as many more as there are exits', async () => {
    await using gateway = await mockGateway({
      exits: ['127.0.11.1', '127.0.11.2', '127.0.11.3'],
      assign: 'round-robin',
    });
    const proxies = pacedManager({
      pools: { res: { gateway: gateway.url, maxSessions: 3 } },
      targets: [{ match: '127.0.0.1/lenient', budget: { limit: 20, windowMs: 1000, spacing: 'even' } }],
      retry: { attempts: 1 },
    });
    const start = performance.now();
    expect(await statuses(proxies, 'lenient', 60)).toEqual({ 200: 60 });
    expect(performance.now() - start).toBeLessThan(1000 + 1500);
    const log = await nginx.read('access.log');
    for (const exit of gateway.exits) expect(log).toContain(`${exit} - - `);
  });

  it('without any burst lets through what keeps some distance from its rate, since the way there takes its varying time', async () => {
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await statuses(paced('strict', 8), 'strict', 6)).toEqual({ 200: 6 });
    await using gateway = await mockGateway({ exits: ['127.0.12.1', '127.0.12.2'], assign: 'round-robin' });
    expect(await statuses(paced('strict', 8, gateway.url), 'strict', 12)).toEqual({ 200: 12 });
  });
});
