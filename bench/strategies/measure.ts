import { createHash } from 'node:crypto';
import { type Contender, contenders } from './contenders.ts';
import { type Ending, HOST, HOURS, openWorld, run } from './world.ts';

/** A page that comes later than this after it was asked for is late: not a success. */
export const LATE_MS = 600_000;
const QUARTER_MS = 900_000;

/** What a strategy came to in one world, or in the mean of several. */
export interface Row {
  readonly name: string;
  /** Share of the pages got within {@link LATE_MS}, and of those got later. */
  readonly success: number;
  readonly late: number;
  /** Requests sent to the site, for each page got at all. */
  readonly sendsPerPage: number;
  readonly overBudget: number;
  readonly limited: number;
  readonly bans: number;
  /** Everything through the gateway, for each page got at all; kB. */
  readonly bytesPerPage: number;
  readonly dialsPerPage: number;
  readonly meanWaitS: number;
  /** Success of the pages asked for in each quarter of an hour. */
  readonly overTime: readonly number[];
  /** Of how and when every page ended: equal for equal runs. */
  readonly hash: string;
}

/** Runs one strategy in a world of its own. */
export async function measure(name: Contender, seed: number, urls: number): Promise<Row> {
  const world = openWorld(seed);
  const endings = await run(world, contenders[name](world), urls);
  const { counts } = world.site(HOST);
  const inTime = ({ ok, startedAt, endedAt }: Ending): boolean => ok && endedAt - startedAt <= LATE_MS;
  const got = Math.max(1, endings.filter(({ ok }) => ok).length);
  const success = endings.filter(inTime).length / urls;
  const overTime: number[] = [];
  for (let from = 0; from < HOURS * 3_600_000; from += QUARTER_MS) {
    const of = endings.filter(({ startedAt }) => startedAt >= from && startedAt < from + QUARTER_MS);
    if (of.length > 0) overTime.push(of.filter(inTime).length / of.length);
  }
  const hash = createHash('sha256');
  for (const { ok, startedAt, endedAt } of endings) hash.update(`${ok} ${startedAt} ${endedAt}\n`);
  return {
    name,
    success,
    late: got / urls - success,
    sendsPerPage: world.sends / got,
    overBudget: counts.overBudget,
    limited: counts.limited,
    bans: counts.bans,
    bytesPerPage: world.bytes / 1000 / got,
    dialsPerPage: world.dials / got,
    meanWaitS: endings.reduce((sum, { startedAt, endedAt }) => sum + endedAt - startedAt, 0) / endings.length / 1000,
    overTime,
    hash: hash.digest('hex').slice(0, 12),
  };
}
