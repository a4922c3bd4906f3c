import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { workers } from '../support/workers.ts';
import type { OpeningArgs } from './sqlite-opening.worker.ts';

it('several processes make a new file at the same moment, and none takes it for another program’s', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'paceline-'));
  try {
    await using crew = workers<OpeningArgs>(new URL('./sqlite-opening.worker.ts', import.meta.url));
    const startsAt = Number(process.hrtime.bigint()) / 1e6 + 1500;
    for (let i = 0; i < 4; i++) crew.start({ directory, files: 150, startsAt, everyMs: 15 });
    await crew.ended();
    expect(readdirSync(directory).filter((name) => name.endsWith('.sqlite'))).toHaveLength(150);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
