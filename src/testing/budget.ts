/** What a mock target tolerates from one IP. */
export interface TargetBudget {
  /** Requests per window: an integer ≥ 1. */
  readonly limit: number;
  /** Length of the half-open window, in milliseconds. */
  readonly windowMs: number;
}

/** What the target makes of one arrival. */
export type Verdict =
  | { readonly kind: 'allowed' }
  | { readonly kind: 'over'; readonly retryMs: number }
  | { readonly kind: 'banned'; readonly retryMs: number };

const ALLOWED: Verdict = { kind: 'allowed' };

interface Peer {
  /** The last `limit` allowed arrivals, as a ring. */
  readonly allowed: number[];
  /** Where the oldest of them is, once the ring is full. */
  oldest: number;
  /** Arrivals over the budget since the last ban. */
  over: number;
  bannedUntil: number;
}

/**
 * An exact sliding log for each IP. Only allowed arrivals consume: an arrival is over when `limit` allowed ones lie in
 * (now − windowMs, now] already.
 */
export class PeerBudget {
  private readonly peers = new Map<string, Peer>();
  private readonly budget: TargetBudget;
  private readonly banAfter: number;
  private readonly banMs: number;

  constructor(budget: TargetBudget, banAfter: number, banMs: number) {
    this.budget = budget;
    this.banAfter = banAfter;
    this.banMs = banMs;
  }

  arrive(ip: string, now: number): Verdict {
    const { limit, windowMs } = this.budget;
    let peer = this.peers.get(ip);
    if (peer === undefined) this.peers.set(ip, (peer = { allowed: [], oldest: 0, over: 0, bannedUntil: -Infinity }));
    if (now < peer.bannedUntil) return { kind: 'banned', retryMs: peer.bannedUntil - now };

    if (peer.allowed.length < limit) {
      peer.allowed.push(now);
      return ALLOWED;
    }
    const oldest = peer.allowed[peer.oldest];
    if (oldest <= now - windowMs) {
      peer.allowed[peer.oldest] = now;
      peer.oldest = (peer.oldest + 1) % limit;
      return ALLOWED;
    }
    peer.over++;
    if (peer.over >= this.banAfter) {
      peer.over = 0;
      peer.bannedUntil = now + this.banMs;
      return { kind: 'banned', retryMs: this.banMs };
    }
    return { kind: 'over', retryMs: oldest + windowMs - now };
  }

  reset(): void {
    this.peers.clear();
  }
}
