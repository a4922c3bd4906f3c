/**
 * A polite API client, without any proxy: 30 requests in 2 s for the account, and 5 of them under /search, as the API's documentation would say.
 * The API counts, tells what is left in `x-ratelimit-*`, and would answer 429; it never has to.
 *
 *   node examples/api-client-rate-limits/main.ts
 */
import assert from 'node:assert/strict';
import { ProxyManager } from 'paceline';
import { limitedApi } from './api.ts';

const WINDOW_MS = 2000;
await using api = await limitedApi({ core: 30, search: 5, windowMs: WINDOW_MS });
const { host } = new URL(api.url);

// The part you would write:
await using github = new ProxyManager({
  headers: { 'user-agent': 'my-tool/1.0 (+https://my-tool.example)' },
  targets: [
    {
      match: host,
      name: 'api',
      // The budget is the account's, whatever address the requests leave from.
      scope: 'account',
      budget: { limit: 30, windowMs: WINDOW_MS, spacing: 'burst' },
      rate: [
        { limit: 30, windowMs: WINDOW_MS, burst: 10 },
        { limit: 5, windowMs: WINDOW_MS, path: '/search' },
      ],
    },
  ],
});

const started = performance.now();
const waits = { repos: [] as number[], search: [] as number[] };
async function get(kind: 'repos' | 'search', i: number): Promise<void> {
  const response = await github.fetch(`${api.url}/${kind}/${i}`);
  await response.text();
  assert.equal(response.status, 200);
  waits[kind].push(github.exchange(response)!.waitedMs);
}
await Promise.all([
  ...Array.from({ length: 60 }, (_, i) => get('repos', i)),
  ...Array.from({ length: 12 }, (_, i) => get('search', i)),
]);

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
for (const kind of ['repos', 'search'] as const) {
  const sorted = waits[kind].sort((a, b) => a - b);
  const median = sorted[sorted.length >> 1];
  console.log(
    `${sorted.length} of /${kind}: waited ${seconds(median)} in the middle, ${seconds(sorted.at(-1)!)} at most`,
  );
}
const { served, refused, least } = api.counts;
console.log(
  `${served} answers in ${seconds(performance.now() - started)}, ${refused} times 429; at the least ${least} were left`,
);
assert.equal(served, 72);
assert.equal(refused, 0);
