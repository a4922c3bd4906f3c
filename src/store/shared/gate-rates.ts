import { nextAllowed, type Rate, refund, spend } from '../rate.ts';
import { type Decision, NEVER, type PermitRow } from './rows.ts';
import type { ReserveStep, StepPolicy } from './steps.ts';

// The rates of one target, which compound: what one of them refuses is spent of none. Rates, over the gate's record.

/** When all of them allow what is asked for, and in full also where less of the slots is taken. */
export function ratesNextAt({ gate, policy, now }: Decision, { applies, cost }: ReserveStep): number {
  let at = now;
  for (let i = 0; i < policy.rates.length; i++) {
    if (applies?.[i] === false) continue;
    const next = nextAllowed(rateOf(policy, i), gate.tats[i] ?? NEVER, now, cost);
    if (next > at) at = next;
  }
  return at;
}

/** A request that leaves at `start` spends of them. Returns the marks to give it back by. */
export function spendRates(
  { gate, policy }: Decision,
  { applies, cost }: Pick<ReserveStep, 'applies' | 'cost'>,
  start: number,
): number[] {
  const { tats, spentAts, refunds } = gate;
  const marks: number[] = [];
  for (let i = 0; i < policy.rates.length; i++) {
    if (i === tats.length) {
      tats.push(NEVER);
      spentAts.push(NEVER);
      refunds.push(0);
    }
    if (applies?.[i] === false) {
      marks.push(NEVER);
      continue;
    }
    tats[i] = spend(rateOf(policy, i), tats[i], start, cost);
    spentAts[i] = Math.max(spentAts[i], start);
    marks.push(tats[i] + refunds[i]);
  }
  return marks;
}

/** The request was never sent after all. */
export function giveBackRates({ gate, policy }: Decision, { marks, units }: PermitRow): void {
  const { tats, spentAts, refunds } = gate;
  for (let i = 0; i < Math.min(policy.rates.length, marks.length); i++) {
    if (marks[i] === NEVER) continue;
    const left = refund(rateOf(policy, i), tats[i], marks[i] - refunds[i], spentAts[i], units);
    refunds[i] += tats[i] - left;
    tats[i] = left;
  }
}

function rateOf({ rates }: StepPolicy, i: number): Rate {
  const [limit, windowMs, burst] = rates[i];
  return { limit, windowMs, burst };
}
