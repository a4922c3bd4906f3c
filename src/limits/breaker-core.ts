/**
 * The arithmetic of a circuit breaker: the pure core under {@link circuitBreaker} and the stores. Its whole state is a
 * record of numbers, time and randomness are passed in, and nothing here validates or allocates after {@link breakerState}.
 *
 * The verbs of one call are `breakerRoom` (may it pass?), `breakerPass` (it passes; its ticket) and `breakerDone` (how it
 * ended, with the ticket). The first changes nothing, so it may be asked any number of times.
 */

export const CLOSED = 0;
export const OPEN = 1;
export const HALF_OPEN = 2;

/** How a call ended. `IGNORED` says nothing about the other side: it was cancelled, or failed on the way. */
export const SUCCESS = 0;
export const FAILURE = 1;
export const IGNORED = 2;

/** See the options of {@link circuitBreaker}, which are the same. */
export interface BreakerPolicy {
  readonly failureRatio: number;
  readonly minCalls: number;
  readonly windowMs: number;
  readonly openMs: number;
  readonly maxOpenMs: number;
  readonly halfOpenCalls: number;
  readonly probeTimeoutMs: number;
}

/** All that a breaker remembers. Only the functions of this file change it. */
export interface BreakerState {
  phase: typeof CLOSED | typeof OPEN | typeof HALF_OPEN;
  /** The ticket of calls that pass now; another one in every phase, so that the outcome of an older call is told apart. */
  epoch: number;
  /** When the phase began. */
  since: number;
  /** Open: when the first probe may go. Half-open: when probes that are still out count as lost. */
  until: number;
  /** Trips in a row: each doubles the open time. */
  trips: number;
  /** Half-open: places taken by probes, those that have ended included. */
  probes: number;
  /** Ended calls, and failed ones among them: of the window while closed, of the probes while half-open. */
  calls: number;
  failures: number;
  /** Failures in a row, while closed. */
  streak: number;
  /** The bucket of the window that counts now, as a number of bucket lengths since time zero. */
  tick: number;
  /** Calls, then failures, of each bucket; a bucket's place is `tick` modulo their number. */
  readonly buckets: number[];
  /** The place of the bucket that counts now: worked out once a tick, for that costs more than the rest of a call. */
  at: number;
}

/** A call counts for nine to ten tenths of the window. */
const BUCKETS = 10;

/** Every open time is shortened by up to this share at random, so that the probes of many processes do not come together. */
export const OPEN_JITTER = 0.2;

/** A closed breaker that has seen nothing. */
export function breakerState(): BreakerState {
  return {
    phase: CLOSED,
    epoch: 0,
    since: Number.NEGATIVE_INFINITY,
    until: 0,
    trips: 0,
    probes: 0,
    calls: 0,
    failures: 0,
    streak: 0,
    tick: Number.NEGATIVE_INFINITY,
    buckets: new Array<number>(2 * BUCKETS).fill(0),
    at: 0,
  };
}

/** How many calls may pass now: `Infinity` while closed, 0 while open, the places left for probes while half-open. */
export function breakerRoom(state: BreakerState, policy: BreakerPolicy, now: number): number {
  if (state.phase === CLOSED) return Number.POSITIVE_INFINITY;
  const due = state.until <= now;
  if (state.phase === OPEN) return due ? policy.halfOpenCalls : 0;
  return Math.max(0, policy.halfOpenCalls - (due ? state.calls : state.probes));
}

/**
 * Milliseconds until a call may pass: 0 = now. Half-open with every probe out it is the time until those count as lost;
 * a probe that ends decides sooner.
 */
export function breakerWaitMs(state: BreakerState, policy: BreakerPolicy, now: number): number {
  return breakerRoom(state, policy, now) > 0 ? 0 : Math.max(0, state.until - now);
}

/** Lets one call pass, and returns its ticket. Only to be called while there is room. */
export function breakerPass(state: BreakerState, policy: BreakerPolicy, now: number): number {
  if (state.phase === CLOSED) return state.epoch;
  if (state.phase === OPEN) {
    enter(state, HALF_OPEN, now);
  } else if (state.until <= now) {
    state.probes = state.calls;
    state.epoch++; // the lost ones may still report: they no longer hold a place
  }
  state.probes++;
  state.until = now + policy.probeTimeoutMs;
  return state.epoch;
}

/** Counts how the call with this ticket ended; once a call. Returns whether the breaker opened or closed by it. */
export function breakerDone(
  state: BreakerState,
  policy: BreakerPolicy,
  ticket: number,
  outcome: typeof SUCCESS | typeof FAILURE | typeof IGNORED,
  now: number,
  random: () => number,
): boolean {
  if (ticket !== state.epoch || state.phase === OPEN) return false;
  if (outcome === IGNORED) {
    if (state.phase === HALF_OPEN) state.probes--;
    return false;
  }
  if (state.phase === CLOSED) {
    breakerAdvance(state, policy, now);
    state.buckets[state.at]++;
    if (outcome === FAILURE) state.buckets[state.at + 1]++;
    state.streak = outcome === FAILURE ? state.streak + 1 : 0;
  }
  state.calls++;
  if (outcome === FAILURE) state.failures++;

  const of = state.phase === CLOSED ? state.calls : policy.halfOpenCalls;
  // 0.07 × 100 is 7.000000000000001 in floating point; it is meant to be 7.
  const tooMany = state.failures > 0 && state.failures >= policy.failureRatio * of - 1e-9;
  if (state.phase === CLOSED) {
    // In a row, they are an outage, however many went well before it: the share would notice half a window later.
    if (state.streak < policy.minCalls && (!tooMany || state.calls < policy.minCalls)) return false;
    trip(state, policy, now, random);
  } else if (tooMany) {
    trip(state, policy, now, random);
  } else if (state.calls >= policy.halfOpenCalls) {
    enter(state, CLOSED, now);
  } else {
    return false;
  }
  return true;
}

/** Forgets the buckets that have left the window. A clock that steps back stands still. */
export function breakerAdvance(state: BreakerState, policy: BreakerPolicy, now: number): void {
  const tick = Math.floor((now * BUCKETS) / policy.windowMs);
  if (tick <= state.tick) return;
  const first = tick - state.tick > BUCKETS ? tick - BUCKETS + 1 : state.tick + 1;
  for (let passed = first; passed <= tick; passed++) {
    const at = place(passed);
    state.calls -= state.buckets[at];
    state.failures -= state.buckets[at + 1];
    state.buckets[at] = 0;
    state.buckets[at + 1] = 0;
  }
  state.tick = tick;
  state.at = place(tick);
}

function place(tick: number): number {
  return 2 * (((tick % BUCKETS) + BUCKETS) % BUCKETS);
}

function trip(state: BreakerState, policy: BreakerPolicy, now: number, random: () => number): void {
  // Trouble within a window of closing is still the old trouble, and its open time goes on growing.
  if (state.phase === CLOSED && now - state.since > policy.windowMs) state.trips = 0;
  const openMs = Math.min(policy.maxOpenMs, policy.openMs * 2 ** state.trips);
  state.trips++;
  enter(state, OPEN, now);
  state.until = now + openMs * (1 - OPEN_JITTER * random());
}

function enter(state: BreakerState, phase: BreakerState['phase'], now: number): void {
  state.phase = phase;
  state.epoch++;
  state.since = now;
  state.probes = 0;
  state.calls = 0;
  state.failures = 0;
  state.streak = 0;
  state.buckets.fill(0);
}
