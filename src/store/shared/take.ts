import { bind } from './bind.ts';
import { gateMattersUntil, newGate, quietFrom } from './gate.ts';
import { detach } from './lanes.ts';
import { inspect } from './look.ts';
import { cancel, expire, renew, takeOver } from './permits.ts';
import { reserve } from './reserve.ts';
import type { Decision, GateRow, Rows } from './rows.ts';
import { settle } from './settle.ts';
import type { Batch, BatchAnswer, DropStep, Seen, Step, StepAnswer, StepPolicy } from './steps.ts';

/**
 * So long after a window, in milliseconds, the state of a target that nobody uses is kept. What a process has seen less
 * than that ago and is not there any more has been lost; what it has seen before may have been forgotten in good order.
 */
export const KEPT_MS = 60_000;

/** Takes some steps on one target as one decision. `time` is the state's own clock. */
export function takeBatch(rows: Rows, { target, policy, seen, steps }: Batch, time: number): BatchAnswer {
  const known = rows.gate();
  const gate = known ?? newGate(policy, time);
  const now = nowOf(gate, time);
  const at: Decision = { target, rows, gate, policy, now };
  const setBack = isSetBack(known, gate, policy, seen);
  if (setBack) rest(at, policy.windowMs);
  gate.steps++;
  expire(at);
  const answers = steps.map((step) => take(at, step));
  gate.keepUntil = Math.max(now + gate.windowMs + KEPT_MS, gate.quietAt, gateMattersUntil(at));
  rows.saveGate(gate);
  return { born: gate.born, steps: gate.steps, setBack, answers };
}

/** Whether nobody has used the target for long, and forgetting it changes no decision. */
export function isForgettable(gate: GateRow, time: number): boolean {
  return time + gate.skew > gate.keepUntil;
}

function take(at: Decision, step: Step): StepAnswer {
  switch (step.do) {
    case 'reserve':
      return reserve(at, step);
    case 'bind':
      return bind(at, step);
    case 'settle':
      return settle(at, step.reports);
    case 'inspect':
      return inspect(at);
    case 'cancel':
      cancel(at, step.permits);
      return null;
    case 'renew':
      renew(at, step);
      return null;
    case 'drop':
      drop(at, step);
      return null;
    case 'import':
      takeOver(at, step);
      return null;
    case 'rest':
      rest(at, step.forMs);
      return null;
  }
}

/** The time as of now. A clock that was set back (a reboot, a failover) goes on from where it was. */
function nowOf(gate: GateRow, time: number): number {
  const now = time + gate.skew;
  if (now < gate.last) {
    gate.skew += gate.last - now;
    return gate.last;
  }
  gate.last = now;
  return now;
}

/** Whether the process has seen a state that is not this one, or a later one, so short a time ago that it still matters. */
function isSetBack(known: GateRow | undefined, gate: GateRow, policy: StepPolicy, seen: Seen): boolean {
  if (seen.born === 0 || seen.agoMs >= policy.windowMs + KEPT_MS) return false;
  return known === undefined || gate.born !== seen.born || gate.steps < seen.steps;
}

function rest({ gate, now }: Decision, forMs: number): void {
  gate.restUntil = Math.max(gate.restUntil, now + forMs);
  quietFrom(gate, gate.restUntil);
}

function drop(at: Decision, { routes }: DropStep): void {
  for (const { id, pool, egress } of routes) {
    const row = at.rows.egress(egress);
    if (row?.routes[pool]?.id === id) detach(at, pool, egress, row);
  }
}
