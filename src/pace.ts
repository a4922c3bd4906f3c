import type { PaceOptions } from './call.ts';
import { checkSessionId } from './gateway/template.ts';
import type { ResolvedOptions } from './options.ts';
import { count, invalid, knownOnly, nonNegative } from './validate.ts';

const NAMES = ['session', 'tier', 'pool', 'priority', 'maxWaitMs', 'cost', 'inspectBody'];
const NONE: PaceOptions = Object.freeze({});

/** Checks what a request says of its own pacing. `fixed`: it runs on a session's route, so session and pool are settled. `at`: what they are options of. */
export function checkPace(
  pace: PaceOptions | undefined,
  options: ResolvedOptions,
  fixed: boolean,
  at = 'pace',
): PaceOptions {
  if (pace === undefined) return NONE;
  knownOnly(at, pace, NAMES);
  const { session, pool, tier, maxWaitMs, priority, cost, inspectBody } = pace;
  if (fixed && (session !== undefined || pool !== undefined)) {
    const name = session === undefined ? 'pool' : 'session';
    throw invalid(`${at}.${name}`, 'none on a request of a session, which has its own', pace[name]);
  }
  if (session !== undefined) checkSessionId(`${at}.session`, session);
  if (pool !== undefined && !options.pools.some(({ name }) => name === pool)) {
    throw invalid(`${at}.pool`, `one of ${options.pools.map(({ name }) => name).join(', ')}`, pool);
  }
  if (tier !== undefined && !options.tierNames.has(tier)) {
    throw invalid(`${at}.tier`, `one of the tiers ${[...options.tierNames].join(', ')}`, tier);
  }
  if (maxWaitMs !== undefined) nonNegative(`${at}.maxWaitMs`, maxWaitMs, 'milliseconds');
  if (cost !== undefined) count(`${at}.cost`, cost);
  if (priority !== undefined && !Number.isFinite(priority)) {
    throw invalid(`${at}.priority`, 'a finite number', priority);
  }
  if (inspectBody !== undefined && typeof inspectBody !== 'boolean') {
    throw invalid(`${at}.inspectBody`, 'true or false', inspectBody);
  }
  return pace;
}
