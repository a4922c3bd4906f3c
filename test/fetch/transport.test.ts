import { expect, it } from 'vitest';
import { failureOf } from '../support/failing.ts';
import { pacedManager } from '../support/paced.ts';

// A transport of the caller's own.

it('that throws ends the request it was for, and no other; nothing stays behind', async () => {
  let opened = 0;
  await using proxies = pacedManager({
    transport: () => {
      throw new Error(`no way out, ${++opened}`);
    },
    pools: { p: { gateway: 'http://u-{session}:p@gw.test:1', concurrency: 1 } },
    retry: { attempts: 1 },
  });
  const causes = await Promise.all(
    [1, 2, 3].map(async (n) => {
      const error = await failureOf(proxies.fetch(`http://shop.test/${n}`));
      return String((error as Error).cause ?? error);
    }),
  );
  expect(causes).toEqual([1, 2, 3].map((n) => `Error: no way out, ${n}`));
  const { inFlight, waiting } = await proxies.stats();
  expect([inFlight, waiting]).toEqual([0, 0]);
});
