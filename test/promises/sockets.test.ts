import { ProxyManager, seededRandom } from 'paceline';
import { countOver, mockGateway, mockTarget } from 'paceline/testing';
import { describe, expect, it } from 'vitest';

/** Arrivals beyond `limit` in any window, from any one address, counted from the target's own log. */
function overBudget(arrivals: readonly { at: number; ip: string }[], limit: number, windowMs: number): number {
  const byIp = Map.groupBy(arrivals, ({ ip }) => ip);
  let over = 0;
  for (const times of byIp.values()) {
    over += countOver(
      times.map(({ at }) => at),
      limit,
      windowMs,
    );
  }
  return over;
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe.concurrent('on real sockets, with latency of 0–300 ms, slow dials, aborts, redirects and retries', () => {
  for (const seed of [1, 2, 3, 4]) {
    it(`P1: no window of any egress at either target holds more arrivals than the limit (seed ${seed})`, async () => {
      const random = seededRandom(seed);
      const [limit, windowMs] = [4, 800];
      await using second = await mockTarget({ latencyMs: [0, 300], seed });
      await using first = await mockTarget({
        latencyMs: [0, 300],
        seed,
        handler: () => {
          const dice = random();
          if (dice < 0.1) return { status: 503 };
          if (dice < 0.15) return { status: 429, headers: { 'retry-after': '1' } };
          if (dice < 0.35) return { status: 302, headers: { location: 'http://second.test/' } };
          return undefined;
        },
      });
      await using gateway = await mockGateway({
        exits: 6,
        seed,
        connectDelayMs: [0, 200],
        hosts: { 'first.test': new URL(first.url).host, 'second.test': new URL(second.url).host },
      });
      const budget = { limit, windowMs, spacing: 'burst' } as const;
      const proxies = new ProxyManager({
        gateway: gateway.url,
        targets: [
          { match: 'first.test', budget },
          { match: 'second.test', budget },
        ],
        retry: { baseMs: 50, capMs: 500 },
        random: seededRandom(seed),
      });
      const results = await Promise.allSettled(
        Array.from({ length: 120 }, async (_, i) => {
          const controller = new AbortController();
          if (i % 5 === 0) void sleep(random() * 2000).then(() => controller.abort(new Error('enough')));
          const response = await proxies.fetch(`http://${i % 4 === 0 ? 'second' : 'first'}.test/${i}`, {
            signal: controller.signal,
          });
          return response.text();
        }),
      );
      await proxies.close();
      expect(results.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThan(80);
      expect(first.arrivals.length + second.arrivals.length).toBeGreaterThan(80);
      expect(overBudget(first.arrivals, limit, windowMs)).toBe(0);
      expect(overBudget(second.arrivals, limit, windowMs)).toBe(0);
    });
  }
});
