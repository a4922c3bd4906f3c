import type { PaceOptions } from './call.ts';
import { checkSessionId } from './gateway/template.ts';
import type { ResolvedOptions } from './options.ts';
import { invalid, knownOnly, nonNegative } from './validate.ts';

const NAMES = ['session', 'tier', 'pool', 'priority', 'maxWaitMs'];
const NONE: PaceOptions = Object.freeze({});

/** Checks what a request says of its own pacing. `fixed`: it runs on a session's route, so session and pool are settled. */
export function checkPace(pace: PaceOptions | undefined, options: ResolvedOptions, fixed: boolean): PaceOptions {
  if (pace === undefined) return NONE;
  knownOnly('pace', pace, NAMES);
  const { session, pool, tier, maxWaitMs, priority } = pace;
  if (fixed && (session !== undefined || pool !== undefined)) {
    const name = session === undefined ? 'pool' : 'session';
    throw invalid(`pace.${name}`, 'none on a request of a session, which has its own', pace[name]);
  }
  if (session !== undefined) checkSessionId('pace.session', session);
  if (pool !== undefined && !options.pools.some(({ name }) => name === pool)) {
    throw invalid('pace.pool', `one of ${options.pools.map(({ name }) => name).join(', ')}`, pool);
  }
  if (tier !== undefined && !options.tierNames.has(tier)) {
    throw invalid('pace.tier', `one of the tiers ${[...options.tierNames].join(', ')}`, tier);
  }
  if (maxWaitMs !== undefined) nonNegative('pace.maxWaitMs', maxWaitMs, 'milliseconds');
  if (priority !== undefined && !Number.isFinite(priority)) {
    throw invalid('pace.priority', 'a finite number', priority);
  }
  return pace;
}
