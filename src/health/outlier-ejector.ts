import { type Clock, systemClock } from '../clock.ts';
import { count, invalid, nonNegative, positive, within } from '../validate.ts';
import {
  DEFAULT_EJECTION,
  type EjectionPolicy,
  ejectedForMs,
  ejectionAfter,
  isEjected,
  MAX_COUNT,
  MAX_TIME_IN_BASES,
  mayEject,
  releaseProbe,
  startProbe,
} from './ejection.ts';
import type { HealthStats } from './registry.ts';
import { DEFAULT_WINDOW, recordOutcome } from './window.ts';

/** Options of {@link outlierEjector}. */
export interface OutlierEjectorOptions {
  /** The n-th ejection lasts n times as long; milliseconds, > 0. @default 30_000 */
  readonly baseMs?: number;
  /** The longest ejection; milliseconds, from `baseMs` to 63 × `baseMs`. @default 10 × baseMs */
  readonly maxMs?: number;
  /** The count of ejections goes down by one after this long without a bad outcome; milliseconds, > 0. @default baseMs */
  readonly healthyMs?: number;
  /** A probe that has not ended by then is lost, and another may go; milliseconds, > 0. @default 2 × baseMs */
  readonly probeTimeoutMs?: number;
  /** At most this share of the keys is out at once; 0 to 1. Of two or more keys one may always be, the only one never. @default 0.5 */
  readonly maxEjectedShare?: number;
  /** Fewer outcomes than this, of the last 20, eject nobody; an integer from 1 to 20. @default 10 */
  readonly minSamples?: number;
  /** A share of good outcomes under this ejects; 0 to 1. @default 0.4 */
  readonly threshold?: number;
  /** @default systemClock */
  readonly clock?: Clock;
}

/** The answer to {@link OutlierEjector.tryPass}. */
export type EjectorPass =
  | {
      readonly ok: true;
      /** It is the one request that an ejected key gets when its time is over. */
      readonly probe: boolean;
      /** How it ended; `'ignore'` when that says nothing about the key. Twice is as once. */
      done(ok: boolean | 'ignore'): void;
    }
  | {
      readonly ok: false;
      /** Milliseconds, rounded up to whole ones, until the key's next probe; at the latest, while one is under way. */
      readonly retryInMs: number;
    };

/** See {@link outlierEjector}. */
export interface OutlierEjector {
  /** Asks to make one request with the key; one that is not known yet becomes known. */
  tryPass(key: string): EjectorPass;
  isEjected(key: string): boolean;
  /** Keys known; `blocked` are out. O(1). */
  stats(): HealthStats;
  /** Forgets the keys that are in and were not asked for in the last `idleMs` (finite, ≥ 0); returns how many. O(keys). */
  forget(idleMs: number): number;
}

/**
 * Takes keys (egress IPs, as `egressKey` writes them) out of use when they go bad, and brings them back one request at a
 * time: under 40 % good of the last 20 outcomes, at least 10 of them, ejects for 30 s × how often that has happened, at
 * most 300 s. Then one probe decides: good, and the key is back with a clean record; bad, and it is out for longer. The
 * count goes down while the key is healthy.
 *
 * Never more than `maxEjectedShare` of the keys are out: when all look bad, it is not the keys.
 *
 * @throws {ConfigError} on a bad option.
 * @example
 * const ejector = outlierEjector();
 * const pass = ejector.tryPass(egress);
 * if (pass.ok) pass.done((await load(url, egress)).ok);
 * else rotate();
 */
export function outlierEjector(options: OutlierEjectorOptions = {}): OutlierEjector {
  const { clock = systemClock } = options;
  const policy = ejectionPolicy(options);
  const keys = new Map<string, { health: number; word: number; seenMs: number }>();
  let blocked = 0;

  function done(key: string, outcome: boolean | 'ignore', probe: boolean): void {
    const entry = keys.get(key);
    if (entry === undefined) return;
    const now = clock.now();
    const { word } = entry;
    if (outcome === 'ignore') {
      if (probe) entry.word = releaseProbe(word, policy, now);
      return;
    }
    entry.health = recordOutcome(entry.health, outcome);
    const room = mayEject(blocked, keys.size, policy);
    entry.word = ejectionAfter(word, entry.health, outcome, probe, room, policy, now);
    const moved = Number(isEjected(entry.word)) - Number(isEjected(word));
    if (moved !== 0) entry.health = 0;
    blocked += moved;
  }

  return {
    tryPass(key) {
      const now = clock.now();
      let entry = keys.get(key);
      if (entry === undefined) keys.set(key, (entry = { health: 0, word: 0, seenMs: now }));
      entry.seenMs = now;
      const waitMs = ejectedForMs(entry.word, policy, now);
      if (waitMs > 0) return { ok: false, retryInMs: Math.ceil(waitMs) };
      const probe = isEjected(entry.word);
      if (probe) entry.word = startProbe(entry.word, policy, now);
      let over = false;
      return {
        ok: true,
        probe,
        done(outcome) {
          if (!over) done(key, outcome, probe);
          over = true;
        },
      };
    },
    isEjected: (key) => isEjected(keys.get(key)?.word ?? 0),
    stats: () => ({ total: keys.size, blocked, active: keys.size - blocked }),
    forget(idleMs) {
      const lastMs = clock.now() - nonNegative('idleMs', idleMs, 'milliseconds');
      let removed = 0;
      for (const [key, { word, seenMs }] of keys) {
        if (seenMs <= lastMs && !isEjected(word) && keys.delete(key)) removed++;
      }
      return removed;
    },
  };
}

/** The numbers of {@link OutlierEjectorOptions}, checked and filled in. */
export function ejectionPolicy(options: OutlierEjectorOptions = {}): EjectionPolicy {
  const {
    maxEjectedShare = DEFAULT_EJECTION.maxEjectedShare,
    threshold = DEFAULT_EJECTION.threshold,
    minSamples = DEFAULT_EJECTION.minSamples,
  } = options;
  const baseMs = positive('baseMs', options.baseMs ?? DEFAULT_EJECTION.baseMs, 'milliseconds');
  const maxMs = within('maxMs', options.maxMs ?? 10 * baseMs, baseMs, MAX_COUNT * baseMs);
  const time = (option: string, value: number): number => {
    positive(option, value, 'milliseconds');
    return within(option, value, 0, MAX_TIME_IN_BASES * baseMs);
  };
  if (count('minSamples', minSamples) > DEFAULT_WINDOW) {
    throw invalid('minSamples', `at most ${DEFAULT_WINDOW}`, minSamples);
  }
  return {
    baseMs,
    maxMs,
    healthyMs: time('healthyMs', options.healthyMs ?? baseMs),
    probeTimeoutMs: time('probeTimeoutMs', options.probeTimeoutMs ?? 2 * baseMs),
    maxEjectedShare: within('maxEjectedShare', maxEjectedShare, 0, 1),
    minSamples,
    threshold: within('threshold', threshold, 0, 1),
  };
}
