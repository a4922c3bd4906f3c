import { BEGIN } from './begin.ts';
import { withConstants } from './constants.ts';
import { EGRESSES } from './egresses.ts';
import { EJECTION } from './ejection.ts';
import { END } from './end.ts';
import { COUNTS, GATE } from './gate.ts';
import { HEADS } from './heads.ts';
import { HOT } from './hot.ts';
import { LANES } from './lanes.ts';
import { BIND, IMPORT, INSPECT } from './others.ts';
import { PERMITS } from './permits.ts';
import { RECORDS } from './records.ts';
import { RESERVE } from './reserve.ts';
import { SETTLE } from './settle.ts';
import { USUAL } from './usual.ts';

/** All that is not usual: with functions for everything. */
const GENERAL = [
  '\nreturn (function(lost, known, permitsBefore, egressesBefore)\n',
  RECORDS,
  COUNTS,
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
];

/**
 * The one script: takes the steps of a batch on one target, as one decision. It decides exactly like `takeBatch`, in the
 * same arithmetic, so the numbers come out the same to the last digit.
 */
export const STEP_SCRIPT: string = withConstants([BEGIN, USUAL, ...GENERAL].join(''));
