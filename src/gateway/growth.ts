/**
 * When a pool may mint its next session. A session that comes up on an exit already in use is futile: it cost a CONNECT
 * and brought nothing. In a small pool that becomes the rule, so the search slows down, until a pool that seems to be
 * known in full is asked once a window. What was known before and is no longer held (its session has expired) is
 * looked for without that hesitation: it is there to be found.
 */
const FREE = 8;
const FIRST_SHARE = 1 / 128;
const DOUBLES_EVERY = 16;
/** Exits remembered, and for how many session lifetimes. */
const MOST_KNOWN = 4096;
const LIFETIMES = 2;

/** Pause after `futile` mints in a row, in milliseconds. Pure. */
export function growthPauseMs(futile: number, windowMs: number): number {
  if (futile < FREE) return 0;
  return windowMs * Math.min(1, FIRST_SHARE * 2 ** ((futile - FREE) / DOUBLES_EVERY));
}

/** What one pool has learnt from its mints. Time is passed in. */
export class Growth {
  /** Exit → when it was last seen. */
  private readonly known = new Map<string, number>();
  private readonly lifetimeMs: number;
  /** Futile mints since an exit never seen before came up, and since any did. */
  private futile = 0;
  private streak = 0;
  private lastAt = -Infinity;
  private windowMs = 0;

  constructor(sessionTtlMs: number) {
    this.lifetimeMs = LIFETIMES * sessionTtlMs;
  }

  /** A minted session came up on `egress`. */
  minted(egress: string, futile: boolean, windowMs: number, now: number): void {
    this.windowMs = windowMs;
    this.lastAt = now;
    if (futile) {
      this.futile++;
      this.streak++;
    } else {
      this.streak = 0;
      if (!this.known.has(egress)) this.futile = 0;
    }
    this.known.delete(egress);
    this.known.set(egress, now);
    for (const [oldest, seenAt] of this.known) {
      if (this.known.size <= MOST_KNOWN && seenAt + this.lifetimeMs > now) break;
      this.known.delete(oldest);
    }
  }

  /** Futile mints have become the rule: one at a time is enough. */
  slow(held: number): boolean {
    return this.tries(held) >= FREE;
  }

  /** From when on the pool may mint again, while it holds `held` exits. */
  nextAt(held: number): number {
    return this.lastAt + growthPauseMs(this.tries(held), this.windowMs);
  }

  /** Futile mints that count: beyond what it takes on average to hit one of the exits missing, four times over. */
  private tries(held: number): number {
    const missing = this.known.size - held;
    if (missing <= 0) return this.futile;
    return Math.max(0, this.streak - (4 * this.known.size) / missing);
  }
}
