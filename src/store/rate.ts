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

/** How many may go at `now`, given the theoretical arrival time `tat`. */
export function allowedNow(rate: Rate, tat: number, now: number): number {
  const interval = emissionInterval(rate);
  const ahead = Math.max(0, tat - now);
  return Math.max(0, Math.floor((rate.burst * interval - ahead) / interval + 1e-9));
}

/** When the next one may go. */
export function nextAllowed(rate: Rate, tat: number, now: number): number {
  return Math.max(now, tat - (rate.burst - 1) * emissionInterval(rate));
}

export function spend(rate: Rate, tat: number, now: number, count: number): number {
  return Math.max(tat, now) + count * emissionInterval(rate);
}

/**
 * Returns what was never sent. `after` is the arrival time right after it was spent, `lastAt` the last spending: what would
 * have come back by then anyway is not given twice. May leave the state a little stricter than exact, never looser.
 */
export function refund(rate: Rate, tat: number, after: number, lastAt: number): number {
  return tat - Math.min(emissionInterval(rate), Math.max(0, after - lastAt));
}
