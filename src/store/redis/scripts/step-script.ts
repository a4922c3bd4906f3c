import { BEGIN } from './begin.ts';
import { EGRESSES } from './egresses.ts';
import { EJECTION } from './ejection.ts';
import { END } from './end.ts';
import { GATE } from './gate.ts';
import { HEADS } from './heads.ts';
import { HOT } from './hot.ts';
import { LANES } from './lanes.ts';
import { BIND, IMPORT, INSPECT } from './others.ts';
import { PERMITS } from './permits.ts';
import { RESERVE } from './reserve.ts';
import { SETTLE } from './settle.ts';

/**
 * The one script: takes the steps of a batch on one target, as one decision. It decides exactly like `takeBatch`, in the
 * same arithmetic, so the numbers come out the same to the last digit.
 */
export const STEP_SCRIPT: string = [
  BEGIN,
  EGRESSES,
  EJECTION,
  LANES,
  HEADS,
  GATE,
  PERMITS,
  HOT,
  RESERVE,
  SETTLE,
  BIND,
  IMPORT,
  INSPECT,
  END,
].join('');
