import { ProxyManager } from 'paceline';
import { mockTarget } from 'paceline/testing';
import { expect, it } from 'vitest';

it('pace.tier: another budget, under the other limits of the rule, counted apart', async () => {
  let now = 0;
  let most = 0;
  await using target = await mockTarget({
    handler: async () => {
      most = Math.max(most, ++now);
      await new Promise((resolve) => setTimeout(resolve, 30));
      now--;
      return {};
    },
  });
  await using proxies = new ProxyManager({
    targets: [{ match: '127.0.0.1', name: 'site', concurrency: 1, budget: { limit: 1, windowMs: 3_600_000 } }],
  });
  const responses = await Promise.all(
    Array.from({ length: 4 }, () => proxies.fetch(target.url, { pace: { tier: 'open' } })),
  );
  await Promise.all(responses.map((response) => response.text()));

  expect(most).toBe(1);
  expect(proxies.exchange(responses[0])).toMatchObject({ target: 'site', tier: 'open' });
  const { targets } = await proxies.stats();
  expect(targets['site#open']).toMatchObject({ requests: 4, state: { target: 'site#open' } });
});
