interface Quota {
  readonly spacingMs: number;
  readonly until: number;
}

/** The egresses whose quota is nearly used up: how far apart their requests are to be, and until when. Few, if any. */
export class EgressQuotas {
  private readonly quotas = new Map<number, Quota>();

  set(entry: number, spacingMs: number, until: number): void {
    this.quotas.set(entry, { spacingMs, until });
  }

  /** Least time after a request of that cost that leaves at `start`: when the quota is full again nothing holds the next one back. */
  spacingMs(entry: number, cost: number, start: number): number {
    if (this.quotas.size === 0) return 0;
    const quota = this.quotas.get(entry);
    return quota === undefined ? 0 : Math.max(0, Math.min(quota.spacingMs * cost, quota.until - start));
  }

  /** Whether nothing is known of it any more. */
  idle(entry: number, now: number): boolean {
    if (this.quotas.size === 0) return true;
    const quota = this.quotas.get(entry);
    if (quota === undefined) return true;
    if (quota.until > now) return false;
    this.quotas.delete(entry);
    return true;
  }
}
