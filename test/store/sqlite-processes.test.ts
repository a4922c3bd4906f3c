import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sqliteStore } from 'paceline/sqlite';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { workers } from '../support/workers.ts';
import type { PacingArgs } from './sqlite.worker.ts';

const EGRESSES = 3;
const LIMIT = 6;
const WINDOW_MS = 300;
const FOR_MS = 4000;
const DEADLINE_MS = 400;

describe('several processes on one file', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'paceline-'));
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  it('keep one budget together, also when one of them is killed', async () => {
    const path = join(directory, 'pace.db');
    await using crew = workers<PacingArgs>(new URL('./sqlite.worker.ts', import.meta.url));
    const rules = { egresses: EGRESSES, limit: LIMIT, windowMs: WINDOW_MS, deadlineMs: DEADLINE_MS, forMs: FOR_MS };
    const logs = [0, 1, 2, 3].map((i) => join(directory, `log-${i}`));
    for (const log of logs) crew.start({ path, log, ...rules });
    await Promise.all(crew.all.map((worker) => worker.message()));
    await sleep(FOR_MS / 3);
    await crew.all[3].kill();
    const killedAt = Number(process.hrtime.bigint()) / 1e6;
    await crew.ended();

    const sends = logs
      .flatMap((log) => readFileSync(log, 'utf8').trim().split('\n'))
      .map((line) => line.split(' '))
      .map(([egress, at]) => ({ egress, at: Number(at) }))
      .sort((a, b) => a.at - b.at);
    expect(new Set(sends.map(({ egress }) => egress)).size).toBe(EGRESSES);
    for (const [i, { egress, at }] of sends.entries()) {
      const inWindow = sends.slice(i).filter((one) => one.egress === egress && one.at < at + WINDOW_MS);
      expect(inWindow.length).toBeLessThanOrEqual(LIMIT);
    }
    // They are not merely careful: most of the budget is used, and what the killed one held comes back.
    expect(sends.length).toBeGreaterThan(0.6 * ((EGRESSES * LIMIT * FOR_MS) / WINDOW_MS));
    const after = sends.filter(({ at }) => at > killedAt + DEADLINE_MS + WINDOW_MS);
    const leftMs = FOR_MS - FOR_MS / 3 - DEADLINE_MS - WINDOW_MS;
    expect(after.length).toBeGreaterThan(0.6 * ((EGRESSES * LIMIT * leftMs) / WINDOW_MS));

    // Its permits are lost by now, and not before they could no longer be used.
    const store = sqliteStore(path);
    const policy = { limit: LIMIT, windowMs: WINDOW_MS, spacingMs: 0, rates: [], concurrency: undefined };
    await store.reserve('shop.test', {
      count: 1,
      policy,
      pool: 'other',
      patienceMs: 0,
      horizonMs: 0,
      deadlineMs: DEADLINE_MS,
    });
    expect((await store.inspect('shop.test')).targets[0].active).toBe(0);
    await store.close();
  });
});
