import type { ProxyEndpoint } from './template.ts';

const FIRST_REST_MS = 1000;
const LONGEST_REST_MS = 60_000;

/** Proxies of a list that could not be dialed: each rests for a second, twice as long each time it fails again. Time is passed in. */
export class Resting {
  /** Failures in a row. */
  private readonly failures = new Map<ProxyEndpoint, number>();
  private readonly until = new Map<ProxyEndpoint, number>();

  failed(endpoint: ProxyEndpoint, now: number): void {
    const before = this.failures.get(endpoint) ?? 0;
    this.failures.set(endpoint, before + 1);
    this.until.set(endpoint, now + Math.min(LONGEST_REST_MS, FIRST_REST_MS * 2 ** before));
  }

  worked(endpoint: ProxyEndpoint): void {
    this.failures.delete(endpoint);
  }

  /** When the next one is back; `Infinity` when none rests. */
  get nextAt(): number {
    let next = Infinity;
    for (const at of this.until.values()) if (at < next) next = at;
    return next;
  }

  /** Those whose rest is over; they count as back. */
  take(now: number): ProxyEndpoint[] {
    const back = [...this.until].filter(([, at]) => at <= now).map(([endpoint]) => endpoint);
    for (const endpoint of back) this.until.delete(endpoint);
    return back;
  }
}
