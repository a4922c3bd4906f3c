/**
 * Additive increase, multiplicative decrease: the pure core under {@link adaptiveLimit}, {@link adaptiveConcurrency} and
 * the stores. Four numbers of state, time passed in; nothing here validates.
 *
 * The limit is kept with its fraction, so that cuts and steps add up; what counts is {@link aimdLimit}, the whole part.
 */

export interface AimdPolicy {
  /** The limit never falls below this nor rises above that; integers, 1 ≤ floor ≤ ceiling. */
  readonly floor: number;
  readonly ceiling: number;
  /** A cut multiplies by this; in (0, 1). */
  readonly decrease: number;
  /** A clean window adds this; > 0. */
  readonly increase: number;
  /** At most one cut, and one step up, in this time; milliseconds, > 0. */
  readonly windowMs: number;
}

export interface AimdState {
  limit: number;
  /** When it was cut last. */
  cutAt: number;
  /** Since when there has been no evidence against the limit, nor a step up. */
  cleanSince: number;
  /** The most that was in use since then. */
  peak: number;
}

/** A limit that has just been set. */
export function aimdState(limit: number, now: number): AimdState {
  return { limit, cutAt: Number.NEGATIVE_INFINITY, cleanSince: now, peak: 0 };
}

/** The limit that counts: an integer in [floor, ceiling], also when the policy has changed since. */
export function aimdLimit(state: AimdState, policy: AimdPolicy): number {
  // 7 × 0.7 + … may end a hair under a whole number; it is meant to be that number.
  return Math.min(policy.ceiling, Math.max(policy.floor, Math.floor(state.limit + 1e-9)));
}

/**
 * All went well while `used` of the limit were in use. After a whole window without evidence the limit grows, provided
 * that at least half of it had been used: what was never tried proves nothing. Returns whether it grew.
 */
export function aimdOk(state: AimdState, policy: AimdPolicy, used: number, now: number): boolean {
  if (used > state.peak) state.peak = used;
  if (now - state.cleanSince < policy.windowMs) return false;
  const tried = state.peak * 2 >= aimdLimit(state, policy);
  state.cleanSince = now;
  state.peak = 0;
  if (!tried || state.limit >= policy.ceiling) return false;
  state.limit = Math.min(policy.ceiling, Math.max(policy.floor, state.limit) + policy.increase);
  return true;
}

/**
 * Evidence that the limit is too high, by a request that left at `sentAt`. It cuts unless it is about the limit of before
 * the last cut (sent by then, or less than a window ago): one burst of refusals is one piece of news. Either way the clean
 * window starts anew. Returns whether it was cut.
 */
export function aimdCut(state: AimdState, policy: AimdPolicy, sentAt: number, now: number): boolean {
  state.cleanSince = now;
  state.peak = 0;
  if (sentAt <= state.cutAt || now - state.cutAt < policy.windowMs) return false;
  state.cutAt = now;
  const before = Math.min(policy.ceiling, state.limit);
  state.limit = Math.max(policy.floor, before * policy.decrease);
  return state.limit < before;
}
