import type { Random } from '../../clock.ts';
import { count, nonNegative, within } from '../../validate.ts';

/** A provider's pool of exits. All times in milliseconds. */
export interface SimulatedPoolOptions {
  /** How many IPs there are; an integer ≥ 1. @default 100 */
  readonly exits?: number;
  /** How long a session keeps its exit. @default 600_000 */
  readonly sessionTtlMs?: number;
  /** Share of dials after which a session has moved to another exit early. @default 0 */
  readonly churn?: number;
  /** From the dial to the gateway's answer. @default [100, 600] */
  readonly dialMs?: readonly [number, number];
  /** One way between client and target through the tunnel. @default [20, 80] */
  readonly hopMs?: readonly [number, number];
  /** Share of dials that end with a 502 of the gateway's. @default 0 */
  readonly faults?: number;
  /** Share of requests whose tunnel breaks before the answer. @default 0 */
  readonly resets?: number;
  /** Whether the gateway names the exit on its CONNECT answer. @default true */
  readonly namesExits?: boolean;
}

/** Which exit a session has now. */
export class SimulatedExits {
  readonly options: Required<SimulatedPoolOptions>;
  private readonly random: Random;
  private readonly held = new Map<string, { exit: string; until: number }>();
  private forgetAt = 1000;
  /** Exits that were used. */
  readonly used: Set<string> = new Set();

  constructor(options: SimulatedPoolOptions, random: Random) {
    this.options = {
      exits: count('exits', options.exits ?? 100),
      sessionTtlMs: nonNegative('sessionTtlMs', options.sessionTtlMs ?? 600_000, 'milliseconds'),
      churn: within('churn', options.churn ?? 0, 0, 1),
      dialMs: options.dialMs ?? [100, 600],
      hopMs: options.hopMs ?? [20, 80],
      faults: within('faults', options.faults ?? 0, 0, 1),
      resets: within('resets', options.resets ?? 0, 0, 1),
      namesExits: options.namesExits ?? true,
    };
    this.random = random;
  }

  /** The exit a dial of `session` comes up on; without a session, any. */
  dial(session: string | undefined, now: number): string {
    if (session === undefined) return this.any();
    let held = this.held.get(session);
    if (held === undefined || held.until <= now || this.random() < this.options.churn) {
      held = { exit: this.any(), until: now + this.options.sessionTtlMs };
      this.held.set(session, held);
      if (this.held.size > this.forgetAt) this.forget(now);
    }
    return held.exit;
  }

  between([low, high]: readonly [number, number]): number {
    return low + (high - low) * this.random();
  }

  chance(share: number): boolean {
    return share > 0 && this.random() < share;
  }

  private any(): string {
    const n = Math.floor(this.random() * this.options.exits);
    const exit = `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`;
    this.used.add(exit);
    return exit;
  }

  /** Looks at all of them, so it waits until they have doubled: who rotates holds tens of thousands, and makes more at every dial. */
  private forget(now: number): void {
    for (const [session, { until }] of this.held) if (until <= now) this.held.delete(session);
    this.forgetAt = 2 * this.held.size + 1000;
  }
}
