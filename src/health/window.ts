/**
 * The last outcomes of one key in one number: the pure core under {@link healthRegistry} and the memory store.
 *
 * A word holds up to {@link MAX_WINDOW} outcomes, newest in bit 0 (1 = ok), and their count in the bits above: 31 bits in
 * all, so it fits a Uint32Array, an Int32Array and a small integer alike. 0 is the word of a key that was never seen.
 * Nothing here validates or allocates; the window must be an integer from 1 to {@link MAX_WINDOW} and the same on every
 * call for a word.
 */

/** The largest window a word can hold. */
export const MAX_WINDOW = 26;

/** The window that goes with the thresholds of the design: the last 20 outcomes. */
export const DEFAULT_WINDOW = 20;

const OUTCOMES = 2 ** MAX_WINDOW - 1;

/**
 * The word after one more outcome; the oldest one falls out of a full window.
 *
 * @example
 * let word = 0;
 * word = recordOutcome(word, true);
 * successShare(word); // 1
 */
export function recordOutcome(word: number, ok: boolean, window: number = DEFAULT_WINDOW): number {
  const outcomes = ((word << 1) | (ok ? 1 : 0)) & ((1 << window) - 1);
  const samples = word >>> MAX_WINDOW;
  return ((samples < window ? samples + 1 : window) << MAX_WINDOW) | outcomes;
}

/** How many outcomes the word holds. */
export function sampleCount(word: number): number {
  return word >>> MAX_WINDOW;
}

/** The share of good outcomes, 0 to 1; 1 for a word without any: nothing is known against it. */
export function successShare(word: number): number {
  const samples = word >>> MAX_WINDOW;
  return samples === 0 ? 1 : ones(word & OUTCOMES) / samples;
}

/** Whether at least `minSamples` outcomes are there and the share of good ones is under `threshold`. */
export function isUnhealthy(word: number, minSamples: number, threshold: number): boolean {
  return word >>> MAX_WINDOW >= minSamples && successShare(word) < threshold;
}

/** Bits set in a 32-bit number. Henry S. Warren, "Hacker's Delight", figure 5-2. */
function ones(bits: number): number {
  let n = bits - ((bits >>> 1) & 0x55555555);
  n = (n & 0x33333333) + ((n >>> 2) & 0x33333333);
  n = (n + (n >>> 4)) & 0x0f0f0f0f;
  return Math.imul(n, 0x01010101) >>> 24;
}
