import { nextAllowed, type Rate, refund, spend } from './rate.ts';

/** What a permit spent of each rate: how much, and the arrival times right after, to give it back by. */
export interface RateMarks {
  readonly cost: number;
  readonly after: readonly (number | undefined)[];
}

/** The rates of one target, which compound: what one of them refuses is spent of none. */
export class Rates {
  /** Of each: theoretical arrival time, last spending, and all that was ever refunded. */
  private readonly tats: number[] = [];
  private readonly spentAts: number[] = [];
  private readonly refunds: number[] = [];

  /** When all of them allow `cost`; those that `applies` leaves out do not count. */
  nextAt(rates: readonly Rate[], applies: readonly boolean[] | undefined, cost: number, now: number): number {
    let at = now;
    for (let i = 0; i < rates.length; i++) {
      if (applies?.[i] === false) continue;
      const next = nextAllowed(rates[i], this.tats[i] ?? -Infinity, now, cost);
      if (next > at) at = next;
    }
    return at;
  }

  spend(rates: readonly Rate[], applies: readonly boolean[] | undefined, cost: number, start: number): RateMarks {
    const after = rates.map((rate, i) => {
      if (applies?.[i] === false) return undefined;
      this.tats[i] = spend(rate, this.tats[i] ?? -Infinity, start, cost);
      this.spentAts[i] = Math.max(this.spentAts[i] ?? -Infinity, start);
      this.refunds[i] ??= 0;
      return this.tats[i] + this.refunds[i];
    });
    return { cost, after };
  }

  giveBack(rates: readonly Rate[], { cost, after }: RateMarks): void {
    for (let i = 0; i < rates.length; i++) {
      const mark = after[i];
      if (mark === undefined) continue;
      const left = refund(rates[i], this.tats[i], mark - this.refunds[i], this.spentAts[i], cost);
      this.refunds[i] += this.tats[i] - left;
      this.tats[i] = left;
    }
  }

  /** Whether nothing of them is spent. */
  idle(now: number): boolean {
    return this.tats.every((tat) => tat === undefined || tat <= now);
  }
}
