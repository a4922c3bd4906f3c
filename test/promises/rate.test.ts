import { ProxyManager, seededRandom } from 'paceline';
import { virtualClock, worstWindow } from 'paceline/testing';
import { expect, it } from 'vitest';
import { SimulatedWorld } from '../support/simulated-world.ts';

/** Sends over all egresses in `windows` windows of a second, with a rate of 20 a second. */
async function sends(burst: number | undefined, windows: number): Promise<number[]> {
  const clock = virtualClock();
  const random = seededRandom(5);
  const world = new SimulatedWorld({ clock, random, exits: 8, dialMs: [1, 20], latencyMs: [1, 20], churn: 0 });
  const proxies = new ProxyManager({
    gateway: 'http://u-{session}:p@gw.test:1',
    targets: [
      {
        match: 'a.test',
        budget: { limit: 1000, windowMs: 1000, spacing: 'burst' },
        rate: { limit: 20, windowMs: 1000, ...(burst !== undefined && { burst }) },
      },
    ],
    clock,
    random,
    transport: world.transport,
  });
  let going = true;
  const workers = Promise.all(
    Array.from({ length: 30 }, async () => {
      while (going) await (await proxies.fetch('http://a.test/')).text();
    }),
  );
  await clock.advance(windows * 1000);
  going = false;
  await clock.runUntil(workers);
  await clock.runUntil(proxies.close());
  return world.passages.map(({ sentAt }) => sentAt).filter((at) => at <= windows * 1000);
}

it.each([
  [undefined, 20],
  [1, 20],
  [5, 16],
  [20, 1],
])(
  'a rate of 20 a second with burst %s: never more than 20 in a second, and %s a second for long',
  async (burst, steady) => {
    const windows = 20;
    const times = await sends(burst, windows);
    expect(worstWindow(times, 975)).toBeLessThanOrEqual(20); // dials differ by up to 20 ms
    expect(times.length).toBeGreaterThanOrEqual(0.95 * steady * windows);
  },
);
