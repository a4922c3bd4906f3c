import { type Clock, systemClock } from '../clock.ts';
import { count, invalid, nonNegative, within } from '../validate.ts';
import { DEFAULT_WINDOW, isUnhealthy, MAX_WINDOW, recordOutcome, successShare } from './window.ts';

/** Options of {@link healthRegistry}. */
export interface HealthRegistryOptions {
  /** How many of the last outcomes count; an integer from 1 to 26. @default 20 */
  readonly window?: number;
  /** Fewer outcomes than this retire nobody; an integer from 1 to `window`. @default 10, or `window` if that is less */
  readonly minSamples?: number;
  /** A share of good outcomes under this retires; 0 to 1. @default 0.4 */
  readonly threshold?: number;
  /** Only `forget` looks at it. @default systemClock */
  readonly clock?: Clock;
}

/** See {@link healthRegistry}. */
export interface HealthRegistry {
  /** Counts an outcome; a key that is not known yet becomes known. */
  record(key: string, ok: boolean): void;
  /** The share of good outcomes among the last ones, 0 to 1; undefined for a key that is not known. */
  score(key: string): number | undefined;
  /** Whether the key is retired. False for one that is not known. */
  isRetired(key: string): boolean;
  /** Keys known, retired and not. `total = blocked + active`. O(1). */
  stats(): HealthStats;
  /** Starts a key afresh. False if it was not known. */
  delete(key: string): boolean;
  /** Deletes the keys without an outcome for `idleMs` (finite, ≥ 0) or longer, so that the registry need not grow for ever; returns how many. O(keys). */
  forget(idleMs: number): number;
}

/** Counts of a {@link HealthRegistry}. */
export interface HealthStats {
  readonly total: number;
  readonly blocked: number;
  readonly active: number;
}

/**
 * Which keys (egress IPs, as `egressKey` writes them) still work, by their last outcomes: a key is retired while there are
 * at least `minSamples` and the share of good ones is under `threshold`. With the defaults: under 40 % of the last 20, at
 * least 10 of them.
 *
 * It is only a count. A retired key comes back by good outcomes of probes, or by `delete`; when to probe is for others to say.
 *
 * @throws {ConfigError} on a bad option.
 * @example
 * const health = healthRegistry();
 * health.record('192.0.2.1', response.ok);
 * if (health.isRetired('192.0.2.1')) rotate();
 */
export function healthRegistry(options: HealthRegistryOptions = {}): HealthRegistry {
  const { window = DEFAULT_WINDOW, threshold = 0.4, clock = systemClock } = options;
  count('window', within('window', window, 1, MAX_WINDOW));
  const minSamples = count('minSamples', options.minSamples ?? Math.min(10, window));
  if (minSamples > window) throw invalid('minSamples', `at most window (${window})`, minSamples);
  within('threshold', threshold, 0, 1);

  const keys = new Map<string, { word: number; seenMs: number }>();
  let blocked = 0;

  const retired = (word: number): boolean => isUnhealthy(word, minSamples, threshold);

  function remove(key: string): boolean {
    const entry = keys.get(key);
    if (entry === undefined) return false;
    if (retired(entry.word)) blocked--;
    return keys.delete(key);
  }

  return {
    record(key, ok) {
      const seenMs = clock.now();
      const entry = keys.get(key);
      const before = entry?.word ?? 0;
      const word = recordOutcome(before, ok, window);
      if (entry === undefined) keys.set(key, { word, seenMs });
      else {
        entry.word = word;
        entry.seenMs = seenMs;
      }
      blocked += Number(retired(word)) - Number(retired(before));
    },
    score(key) {
      const entry = keys.get(key);
      return entry && successShare(entry.word);
    },
    isRetired: (key) => retired(keys.get(key)?.word ?? 0),
    stats: () => ({ total: keys.size, blocked, active: keys.size - blocked }),
    delete: remove,
    forget(idleMs) {
      const lastMs = clock.now() - nonNegative('idleMs', idleMs, 'milliseconds');
      let removed = 0;
      for (const [key, entry] of keys) {
        if (entry.seenMs <= lastMs && remove(key)) removed++;
      }
      return removed;
    },
  };
}
