import { type Clock, type Random, systemClock } from '../clock.ts';
import { DEFAULT_WINDOW, recordOutcome, sampleCount } from '../health/window.ts';
import type { Outcome } from '../store/store.ts';
import { count, invalid, positive } from '../validate.ts';

/** The numbers of {@link EscalationOptions}. */
export interface EscalationPolicy {
  /** How many pools there are; their ranks go from 0, the cheapest. */
  readonly pools: number;
  readonly share: number;
  readonly minOutcomes: number;
  readonly probes: number;
  readonly probeAfterMs: number;
  readonly maxProbeAfterMs: number;
  readonly probeTimeoutMs: number;
}

/** All that is remembered of one target. `K` names an egress: an entry of a table, or a key. */
export interface EscalationState<K> {
  /** Rank of the pool in use. */
  pool: number;
  /** The last outcomes of the pool in use (a word of window.ts; 1 = not refused) and the egress of each, in a ring. */
  word: number;
  readonly egresses: (K | undefined)[];
  next: number;
  /** Time between two rounds of probes; when the next one begins. */
  intervalMs: number;
  probeAt: number;
  /** When the probe that is out counts as lost; `-Infinity` while none is. Good ones of this round. */
  probeUntil: number;
  passed: number;
  /** When the last round led down. */
  descendedAt: number;
}

/** A round of probes comes earlier by up to this share at random, so that many processes do not probe together. */
const INTERVAL_JITTER = 0.2;

/** The cheapest pool, and nothing known. */
export function escalationState<K>(): EscalationState<K> {
  return {
    pool: 0,
    word: 0,
    egresses: new Array<K | undefined>(DEFAULT_WINDOW).fill(undefined),
    next: 0,
    intervalMs: 0,
    probeAt: Number.POSITIVE_INFINITY,
    probeUntil: Number.NEGATIVE_INFINITY,
    passed: 0,
    descendedAt: Number.NEGATIVE_INFINITY,
  };
}

/** The rank of the pool for one request: the one in use, or the next cheaper for the one probe that is due. */
export function choosePool(state: EscalationState<unknown>, policy: EscalationPolicy, now: number): number {
  if (state.pool === 0 || state.probeAt > now || state.probeUntil > now) return state.pool;
  state.probeUntil = now + policy.probeTimeoutMs;
  return state.pool - 1;
}

/** The share of refusals among the last outcomes, each egress counting once, 0 to 1: one bad egress is not a bad pool. */
export function refusedShare(state: EscalationState<unknown>): number {
  const { word, egresses, next } = state;
  const length = egresses.length;
  const samples = sampleCount(word);
  const egressAt = (age: number): unknown => egresses[(next - 1 - age + 2 * length) % length];
  let distinct = 0;
  let sum = 0;
  for (let i = 0; i < samples; i++) {
    const egress = egressAt(i);
    let refused = 0;
    let all = 0;
    let counted = false;
    for (let j = 0; j < samples && !counted; j++) {
      if (egressAt(j) !== egress) continue;
      counted = j < i;
      all++;
      refused += 1 - ((word >>> j) & 1);
    }
    if (counted) continue;
    distinct++;
    sum += refused / all;
  }
  return distinct === 0 ? 0 : sum / distinct;
}

/**
 * Counts how a request through the pool of rank `pool` ended. Returns 1 when the target's requests climb by it, -1 when
 * they come down, else 0. What a pool left behind still reports is passed over.
 */
export function notePool<K>(
  state: EscalationState<K>,
  policy: EscalationPolicy,
  pool: number,
  egress: K,
  outcome: Outcome,
  now: number,
  random: Random,
): -1 | 0 | 1 {
  const refused = outcome === 'blocked' || outcome === 'challenged';
  const neutral = !refused && outcome !== 'ok';
  if (pool === state.pool) {
    if (neutral) return 0;
    state.word = recordOutcome(state.word, !refused);
    state.egresses[state.next] = egress;
    state.next = (state.next + 1) % state.egresses.length;
    if (!refused || pool + 1 >= policy.pools || sampleCount(state.word) < policy.minOutcomes) return 0;
    if (refusedShare(state) < policy.share - 1e-9) return 0;
    // Soon back up: the way down was a mistake, and is tried less often. Otherwise this is a new story.
    const soon = now - state.descendedAt < state.intervalMs;
    state.intervalMs = soon ? doubled(state, policy) : policy.probeAfterMs;
    move(state, pool + 1, now, random);
    return 1;
  }
  if (pool !== state.pool - 1 || state.probeUntil === Number.NEGATIVE_INFINITY) return 0;
  state.probeUntil = Number.NEGATIVE_INFINITY;
  if (!refused && !neutral) {
    if (++state.passed < policy.probes) return 0;
    state.descendedAt = now;
    move(state, pool, now, random);
    return -1;
  }
  if (refused) state.intervalMs = doubled(state, policy);
  state.passed = 0;
  state.probeAt = nextRound(state, now, random);
  return 0;
}

function doubled(state: EscalationState<unknown>, policy: EscalationPolicy): number {
  return Math.min(policy.maxProbeAfterMs, state.intervalMs * 2);
}

function nextRound(state: EscalationState<unknown>, now: number, random: Random): number {
  return now + state.intervalMs * (1 - INTERVAL_JITTER * random());
}

function move(state: EscalationState<unknown>, pool: number, now: number, random: Random): void {
  state.pool = pool;
  state.word = 0;
  state.egresses.fill(undefined);
  state.passed = 0;
  state.probeUntil = Number.NEGATIVE_INFINITY;
  state.probeAt = nextRound(state, now, random);
}

/** Options of {@link escalation}. */
export interface EscalationOptions {
  /** Names of the pools, cheapest first; at least one, none twice. */
  readonly pools: readonly string[];
  /** Climbs when this share of the last 20 outcomes was refused, each egress counting once; in (0, 1]. @default 0.5 */
  readonly share?: number;
  /** Fewer outcomes than this climb nowhere; an integer from 1 to 20. @default 10 */
  readonly minOutcomes?: number;
  /** So many good probes in a row lead down; an integer ≥ 1. @default 4 */
  readonly probes?: number;
  /** Time from a climb to the first round of probes, in milliseconds, > 0; doubled by every one that fails. @default 300_000 */
  readonly probeAfterMs?: number;
  /** The longest time between two rounds, in milliseconds, ≥ `probeAfterMs`. @default 3_600_000, or `probeAfterMs` if that is more */
  readonly maxProbeAfterMs?: number;
  /** A probe without an outcome by then is lost, and another may go; milliseconds, > 0. @default 60_000 */
  readonly probeTimeoutMs?: number;
  /** @default systemClock */
  readonly clock?: Clock;
  /** @default Math.random */
  readonly random?: Random;
}

/** See {@link escalation}. */
export interface Escalation {
  /** The pool for one request, whose outcome is to be recorded. */
  pool(): string;
  /** How that request ended. Without egresses to tell apart, the pool counts as one. */
  record(pool: string, outcome: Outcome, egress?: string): void;
}

/**
 * The cheapest pool that works for one target: it starts with the first and climbs when the target refuses (`blocked`,
 * `challenged`) half of the pool's egresses. Ejection deals with less than half, and at half a page costs two sends, so
 * that the next pool is usually cheaper per page. Other outcomes say nothing about the pool.
 *
 * Now and then a round of probes tries the next cheaper pool, one request at a time. Four good ones in a row lead down:
 * a pool that refuses half gets through by luck once in sixteen rounds. A failed round, or having to climb back soon
 * after a good one, doubles the time to the next, so it does not flap.
 *
 * @throws {ConfigError} on a bad option; `record` throws one on a pool that is not among them.
 * @example
 * const ladder = escalation({ pools: ['direct', 'datacenter', 'residential'] });
 * const pool = ladder.pool();
 * const { outcome, egress } = await send(url, pool);
 * ladder.record(pool, outcome, egress);
 */
export function escalation(options: EscalationOptions): Escalation {
  const { pools, clock = systemClock, random = Math.random } = options;
  if (!Array.isArray(pools) || pools.length === 0 || new Set(pools).size < pools.length) {
    throw invalid('pools', 'at least one name, none twice', pools);
  }
  const policy = escalationPolicy(options);
  const state = escalationState<string | undefined>();
  return {
    pool: () => pools[choosePool(state, policy, clock.now())],
    record(pool, outcome, egress) {
      const rank = pools.indexOf(pool);
      if (rank < 0) throw invalid('pool', `one of ${pools.join(', ')}`, pool);
      notePool(state, policy, rank, egress, outcome, clock.now(), random);
    },
  };
}

/** The numbers of {@link EscalationOptions}, checked and filled in. */
export function escalationPolicy(options: EscalationOptions): EscalationPolicy {
  const share = positive('share', options.share ?? 0.5);
  if (share > 1) throw invalid('share', 'a number > 0, at most 1', share);
  const minOutcomes = count('minOutcomes', options.minOutcomes ?? 10);
  if (minOutcomes > DEFAULT_WINDOW) throw invalid('minOutcomes', `at most ${DEFAULT_WINDOW}`, minOutcomes);
  const probeAfterMs = positive('probeAfterMs', options.probeAfterMs ?? 300_000, 'milliseconds');
  const longest = options.maxProbeAfterMs ?? Math.max(3_600_000, probeAfterMs);
  const maxProbeAfterMs = positive('maxProbeAfterMs', longest, 'milliseconds');
  if (maxProbeAfterMs < probeAfterMs) throw invalid('maxProbeAfterMs', `at least ${probeAfterMs}`, maxProbeAfterMs);
  return {
    pools: options.pools.length,
    share,
    minOutcomes,
    probes: count('probes', options.probes ?? 4),
    probeAfterMs,
    maxProbeAfterMs,
    probeTimeoutMs: positive('probeTimeoutMs', options.probeTimeoutMs ?? 60_000, 'milliseconds'),
  };
}
