import { isUnhealthy } from './window.ts';

/**
 * Outlier ejection for one egress at one target, in one number beside the word of its last outcomes (window.ts): the pure
 * core under {@link outlierEjector} and the stores. After Envoy's outlier detection, with the decay of gRPC's (A50).
 *
 * *In* → (unhealthy) → *out* for 30 s × count → one *probe* → in again, or out for longer. The count of ejections goes
 * down by one for every `healthyMs` without a bad outcome.
 *
 * A word is 31 bits, so it fits a Uint32Array, an Int32Array and a small integer alike: phase, count (6 bits) and a time
 * (23 bits, in 32nds of `baseMs`, modular: unambiguous for 2¹⁷ × `baseMs` either way, 45 days by default). Times are
 * rounded so that nothing ends early. 0 is the word of an egress that was never ejected. Nothing here validates.
 */
export interface EjectionPolicy {
  /** The first ejection; milliseconds. */
  readonly baseMs: number;
  /** The longest ejection; milliseconds, from `baseMs` to {@link MAX_COUNT} × `baseMs`. */
  readonly maxMs: number;
  /** The count goes down by one after this long without a bad outcome; milliseconds. */
  readonly healthyMs: number;
  /** A probe that has not ended by then is lost, and another may go; milliseconds. */
  readonly probeTimeoutMs: number;
  /** At most this share of a pool is out of one target at once; 0 to 1. See {@link mayEject}. */
  readonly maxEjectedShare: number;
  /** Unhealthy is at least so many outcomes, of which less than a share of `threshold` were good. */
  readonly minSamples: number;
  readonly threshold: number;
}

/**
 * 30 s × count up to 300 s are Envoy's `base_ejection_time` and `max_ejection_time`. Its cap on the share, 10 %, is for
 * the replicas of one service; exits of a provider are banned by the block, so here it is a half.
 */
export const DEFAULT_EJECTION: EjectionPolicy = {
  baseMs: 30_000,
  maxMs: 300_000,
  healthyMs: 30_000,
  probeTimeoutMs: 60_000,
  maxEjectedShare: 0.5,
  minSamples: 10,
  threshold: 0.4,
};

/** The highest count a word can hold. */
export const MAX_COUNT = 63;

/** No time of a policy may be longer than this many `baseMs`. */
export const MAX_TIME_IN_BASES: number = 2 ** 17 - 1;

const TICKS_PER_BASE = 32;
const TIME_BITS = 23;
const TIME = 2 ** TIME_BITS - 1;
const PHASE_SHIFT = 29;

const IN = 0;
const OUT = 1;
const PROBING = 2;

const phaseOf = (word: number): number => word >>> PHASE_SHIFT;

/** How often the egress has been ejected, less what has decayed. */
export function ejectionCount(word: number): number {
  return (word >>> TIME_BITS) & MAX_COUNT;
}

/** Whether it is out, be it that its probe is due or under way. */
export function isEjected(word: number): boolean {
  return phaseOf(word) !== IN;
}

/** How long the ejection of that count lasts: `min(maxMs, baseMs × count)`. */
export function ejectionMs(count: number, policy: EjectionPolicy = DEFAULT_EJECTION): number {
  return Math.min(policy.maxMs, policy.baseMs * count);
}

/**
 * Milliseconds until a request may go over this egress as far as its health is concerned: 0 when it is in, or when its
 * probe is due ({@link startProbe}). While a probe is under way, the time until that counts as lost.
 */
export function ejectedForMs(word: number, policy: EjectionPolicy, now: number): number {
  if (phaseOf(word) === IN) return 0;
  const left = -ticksSince(word, policy, now);
  if (left <= 0) return 0;
  return Math.max(Number.MIN_VALUE, ((tickOf(now, policy) + left) * policy.baseMs) / TICKS_PER_BASE - now);
}

/**
 * Whether one more may be ejected when `ejected` are, of the `total` egresses that the pool has at that target; count one
 * more where it can open another. The last one is never ejected: with nothing to go to, an outage would be made of what
 * may be a few bad answers. Of two or more one may always be, unless the share is 0.
 */
export function mayEject(ejected: number, total: number, policy: EjectionPolicy = DEFAULT_EJECTION): boolean {
  if (total < 2 || policy.maxEjectedShare === 0) return false;
  // 0.29 × 100 is 28.999999999999996 in floating point; it is meant to be 29.
  return ejected + 1 <= Math.max(1, Math.floor(policy.maxEjectedShare * total + 1e-9));
}

/** The word after the egress was ejected once more. */
export function eject(word: number, policy: EjectionPolicy, now: number): number {
  // A count beyond what the longest time needs would only delay the decay.
  const highest = Math.min(MAX_COUNT, Math.ceil(policy.maxMs / policy.baseMs));
  const count = Math.min(highest, ejectionCount(word) + 1);
  return pack(OUT, count, now + ejectionMs(count, policy), policy);
}

/** The word after the one probe left, at `now`. Only to be called when {@link ejectedForMs} is 0 for an ejected one. */
export function startProbe(word: number, policy: EjectionPolicy, now: number): number {
  return pack(PROBING, ejectionCount(word), now + policy.probeTimeoutMs, policy);
}

/**
 * The word after a probe ended without saying anything about the egress: another may go at once, though not before this
 * one was to leave (`startAt`).
 */
export function releaseProbe(word: number, policy: EjectionPolicy, now: number, startAt: number = now): number {
  if (phaseOf(word) !== PROBING) return word;
  // A tick back, since times are rounded up.
  const dueAt = startAt > now ? startAt : now - policy.baseMs / TICKS_PER_BASE;
  return pack(OUT, ejectionCount(word), dueAt, policy);
}

/**
 * The word after an outcome, which `health` already holds. `probe`: it was the probe's own; `room`: what {@link mayEject}
 * says. Outcomes of requests that were under way when the egress was ejected change nothing.
 *
 * When {@link isEjected} changes by it, the health word starts afresh: what it held led to the ejection, and must not lead
 * to the next one.
 *
 * @example
 * health[i] = recordOutcome(health[i], ok);
 * const before = words[i];
 * words[i] = ejectionAfter(before, health[i], ok, probe, mayEject(out, total), policy, now);
 * if (isEjected(words[i]) !== isEjected(before)) {
 *   health[i] = 0;
 *   out += isEjected(words[i]) ? 1 : -1;
 * }
 */
export function ejectionAfter(
  word: number,
  health: number,
  ok: boolean,
  probe: boolean,
  room: boolean,
  policy: EjectionPolicy,
  now: number,
): number {
  const phase = phaseOf(word);
  const count = ejectionCount(word);
  if (phase === IN) {
    if (!ok && room && isUnhealthy(health, policy.minSamples, policy.threshold)) return eject(word, policy, now);
    if (count === 0) return 0;
    if (!ok) return pack(IN, count, now, policy);
    const healthyMs = (ticksSince(word, policy, now) * policy.baseMs) / TICKS_PER_BASE;
    if (healthyMs < policy.healthyMs) return word;
    return count === 1 ? 0 : pack(IN, count - 1, now, policy);
  }
  if (phase === OUT || !probe) return word;
  return ok ? pack(IN, count, now, policy) : eject(word, policy, now);
}

/**
 * Whether an egress that is no longer used can be forgotten: it was never ejected, or its count would have decayed by now,
 * or it has been due for its probe for as long as an ejection can last and nobody came.
 */
export function ejectionOver(word: number, policy: EjectionPolicy, now: number): boolean {
  const passedMs = (ticksSince(word, policy, now) * policy.baseMs) / TICKS_PER_BASE;
  return phaseOf(word) === IN
    ? passedMs >= ejectionCount(word) * policy.healthyMs || word === 0
    : passedMs >= policy.maxMs;
}

function pack(phase: number, count: number, at: number, policy: EjectionPolicy): number {
  const tick = Math.ceil((at * TICKS_PER_BASE) / policy.baseMs);
  return (phase << PHASE_SHIFT) | (count << TIME_BITS) | (tick & TIME);
}

/** Whole ticks from the word's time to now; negative when it lies ahead. */
function ticksSince(word: number, policy: EjectionPolicy, now: number): number {
  const ticks = (tickOf(now, policy) - word) & TIME;
  return ticks > TIME >>> 1 ? ticks - TIME - 1 : ticks;
}

function tickOf(now: number, policy: EjectionPolicy): number {
  return Math.floor((now * TICKS_PER_BASE) / policy.baseMs);
}
