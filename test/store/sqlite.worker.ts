import { appendFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { sqliteStore } from 'paceline/sqlite';
import type { Route } from '../../src/store/store.ts';
import { tell, workerArgs } from '../support/in-worker.ts';
import { storeRoute } from '../support/store-trace.ts';

// What `sqlite-processes.test.ts` starts: sends as much as it may, and writes down when.

export interface PacingArgs {
  readonly path: string;
  /** Each line: the egress, and when it was sent over, on the machine's monotonic clock. */
  readonly log: string;
  readonly egresses: number;
  readonly limit: number;
  readonly windowMs: number;
  readonly deadlineMs: number;
  readonly forMs: number;
}

const { path, log, egresses, limit, windowMs, deadlineMs, forMs } = workerArgs<PacingArgs>();
const routes: Route[] = Array.from({ length: egresses }, (_, i) => storeRoute(i + 1, { session: undefined }));
const store = sqliteStore(path);
const policy = { limit, windowMs, spacingMs: 0, rates: [], concurrency: undefined };
const now = (): number => Number(process.hrtime.bigint()) / 1e6;
const until = now() + forMs;
await tell('ready');
while (now() < until) {
  const { grants, retryInMs } = await store.reserve('shop.test', {
    count: 2,
    policy,
    pool: 'pool',
    ways: { key: 'pool', adopt: (id) => routes.find((route) => route.id === id), named: () => {} },
    offer: (after) => routes.find(({ seq }) => seq > after),
    patienceMs: 0,
    horizonMs: 0,
    deadlineMs,
  });
  for (const { egress } of grants) appendFileSync(log, `${egress} ${now()}\n`);
  // On its way.
  if (grants.length > 0) await sleep(1 + Math.random() * 4);
  const report = { outcome: 'ok', retryAfterMs: undefined, graceMs: 0, end: true } as const;
  if (grants.length > 0) {
    await store.settle(
      'shop.test',
      grants.map((grant) => ({ grant, ...report })),
    );
  } else await sleep(Math.min(retryInMs, 10));
}
await store.close();
