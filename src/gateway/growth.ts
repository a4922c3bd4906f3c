/**
 * When a pool may mint its next session. Sessions that come up on an exit already known are futile: in a small pool
 * they become the rule. The first few are free, then the pauses grow, until a full pool is asked once a window.
 */
export const FREE_FUTILE = 8;
const FIRST_SHARE = 1 / 128;
const DOUBLES_EVERY = 16;

/** Pause before the next mint after `futile` ones in a row, in milliseconds. */
export function growthPauseMs(futile: number, windowMs: number): number {
  if (futile < FREE_FUTILE) return 0;
  return windowMs * Math.min(1, FIRST_SHARE * 2 ** ((futile - FREE_FUTILE) / DOUBLES_EVERY));
}
