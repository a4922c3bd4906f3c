import { type PacelineEvents, seededRandom } from 'paceline';
import { virtualClock } from 'paceline/testing';
import { describe, expect, it } from 'vitest';
import { pacedManager } from '../support/paced.ts';
import { SimulatedWorld } from '../support/simulated-world.ts';

describe('the egresses as a whole', () => {
  it('are told every 500 requests; a neighbourhood that is refused is named', async () => {
    const clock = virtualClock();
    const refused = { now: true };
    const world = new SimulatedWorld({
      clock,
      random: seededRandom(1),
      exits: 12,
      dialMs: [0, 0],
      latencyMs: [1, 5],
      churn: 0,
      // Of the twelve of 10.0.0.0/24 three are served.
      answer: ({ egress }) => ({ status: refused.now && Number(egress.split('.')[3]) > 3 ? 403 : 200 }),
    });
    const proxies = pacedManager({
      pools: { res: { gateway: 'http://u-{session}:p@gw.test:1', egress: { header: 'x-egress-ip' } } },
      targets: [{ match: 'shop.test', budget: { limit: 50, windowMs: 60_000, spacing: 'burst' } }],
      random: seededRandom(2),
      clock,
      transport: world.transport,
    });
    const told: PacelineEvents['health'][] = [];
    proxies.on('health', (event) => told.push(event));
    const load = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) await clock.runUntil(proxies.fetch('http://shop.test/').then((r) => r.text()));
    };
    await load(499);
    expect((await proxies.stats()).suspectSubnets).toEqual(['10.0.0.0/24']);
    expect((await proxies.stats()).blocked).toBeGreaterThan(0);
    const { requests } = (await proxies.stats()).targets['shop.test'];
    expect(told).toHaveLength(Math.floor(requests / 500));
    refused.now = false;
    await load(1500);
    const { requests: later } = (await proxies.stats()).targets['shop.test'];
    expect(told).toHaveLength(Math.floor(later / 500));
    const { total, blocked, active, suspectSubnets } = told.at(-1)!;
    expect([blocked, active, suspectSubnets]).toEqual([0, total, []]);
  });
});
