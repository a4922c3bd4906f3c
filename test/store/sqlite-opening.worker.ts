import { join } from 'node:path';
import { sqliteStore } from 'paceline/sqlite';
import { workerArgs } from '../support/in-worker.ts';

// What `sqlite-opening.test.ts` starts: opens new files, one after another, each at the same moment as all others do.

export interface OpeningArgs {
  readonly directory: string;
  readonly files: number;
  /** When the first is opened, and how long after each the next: milliseconds on the machine's monotonic clock. */
  readonly startsAt: number;
  readonly everyMs: number;
}

const { directory, files, startsAt, everyMs } = workerArgs<OpeningArgs>();
const now = (): number => Number(process.hrtime.bigint()) / 1e6;
for (let i = 0; i < files; i++) {
  while (now() < startsAt + i * everyMs);
  await sqliteStore(join(directory, `${i}.sqlite`)).close();
}
