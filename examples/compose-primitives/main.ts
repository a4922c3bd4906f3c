/**
 * The primitives on their own, without a manager: a polite client for one API, put together by hand.
 *
 *   node examples/compose-primitives/main.ts
 */
import {
  concurrencyLimit,
  egressKey,
  fullJitter,
  healthRegistry,
  parseRetryAfter,
  retryBudget,
  slidingWindow,
  targetClassifier,
} from 'paceline';
import { mockTarget } from 'paceline/testing';

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

await using target = await mockTarget({ budget: { limit: 5, windowMs: 1000 }, latencyMs: [5, 40] });

const window = slidingWindow({ limit: 5, windowMs: 1000 }); // never more than 5 in any second, as the target counts
const slots = concurrencyLimit({ limit: 3 });
const backoff = fullJitter({ baseMs: 100, capMs: 2000 });
const retries = retryBudget({ ratio: 0.2 });
const health = healthRegistry();

async function get(path: string): Promise<number> {
  retries.deposit();
  for (let attempt = 0; ; attempt++) {
    using _ = await slots.acquire();
    const slot = await window.acquire();
    const response = await fetch(target.url + path).finally(() => slot.release());
    await response.arrayBuffer();
    health.record(egressKey('127.0.0.1'), response.ok);
    if (response.status !== 429 || attempt === 4 || !retries.tryWithdraw()) return response.status;
    await sleep(parseRetryAfter(response.headers.get('retry-after'), Date.now()) ?? backoff(attempt));
  }
}

const started = performance.now();
const statuses = await Promise.all(Array.from({ length: 16 }, (_, i) => get(`/item/${i}`)));
console.log(
  `16 requests at 5 a second: ${statuses.join(' ')} in ${((performance.now() - started) / 1000).toFixed(2)} s`,
);
console.log(`over budget, as the target counts: ${target.overBudget()}`);
console.log('health:', health.stats());

const classifier = targetClassifier({ rules: [{ match: 'shop.example', tier: 'protected' }] });
for (const url of ['https://www.shop.example/item/1', 'https://unknown.example/']) {
  const { name, tier, budget } = classifier.classify(url);
  console.log(`${url} → target ${name}, tier ${tier}, ${budget.limit} per ${budget.windowMs / 1000} s and IP`);
}
console.log('one key for one address:', egressKey('2001:DB8::1'), '=', egressKey('[2001:db8:0:0::ffff]'));
