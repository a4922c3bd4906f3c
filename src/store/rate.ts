/**
 * A rate over all egresses of a target: GCRA with emission interval T = W / (N − b + 1), which keeps
 * every window at N or below even after a burst of b (a plain T = W / N lets N + b through).
 * One number of state, time passed in.
 */
export interface Rate {
  readonly limit: number;
  readonly windowMs: number;
  readonly burst: number;
}

export function emissionInterval(rate: Rate): number {
  return rate.windowMs / (rate.limit - rate.burst + 1);
}

/**
 * When `cost` may go at once, given the theoretical arrival time `tat`. More than the burst at once has to be saved up for,
 * as if the units before the last `burst` had gone one by one: so no window holds more than `limit` then either.
 */
export function nextAllowed(rate: Rate, tat: number, now: number, cost = 1): number {
  const at = tat - (rate.burst - cost) * emissionInterval(rate);
  // A hair too early by rounding is in time.
  return at - now <= 1e-9 * rate.windowMs ? now : at;
}

export function spend(rate: Rate, tat: number, now: number, cost: number): number {
  return Math.max(tat, now) + cost * emissionInterval(rate);
}

/**
 * Returns what was never sent. `after` is the arrival time right after it was spent, `lastAt` the last spending: what would
 * have come back by then anyway is not given twice. May leave the state a little stricter than exact, never looser.
 */
export function refund(rate: Rate, tat: number, after: number, lastAt: number, cost = 1): number {
  return tat - Math.min(cost * emissionInterval(rate), Math.max(0, after - lastAt));
}
