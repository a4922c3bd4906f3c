import type { QuotaReport, Verdict } from '../store.ts';
import { LEAST_REST_MS, NETWORK_BLAME } from '../verdicts.ts';
import { wellFrom } from './egress.ts';
import {
  circuitOpen,
  circuitWaitMs,
  cutBudget,
  cutConcurrency,
  gateConcurrency,
  gateDone,
  gateLimit,
  gateLimited,
  gateQuota,
  growBudget,
  growConcurrency,
  quietFrom,
} from './gate.ts';
import { recordHealth, releaseHealth } from './health.ts';
import { isOnly } from './lanes.ts';
import type { Decision, EgressRow, PermitRow } from './rows.ts';
import { slotsCooldown } from './slot-row.ts';
import { slotsInUse } from './slots-taken.ts';
import type { StepReport } from './steps.ts';

/** Takes note of how a request ended: who is to rest, who is out, and which limits come down or grow. See verdicts.ts. */
export function learn(at: Decision, permit: PermitRow, row: EgressRow, report: StepReport, verdicts: Verdict[]): void {
  const { target } = at;
  const { outcome, quota, retryAfterMs, random } = report;
  if (retryAfterMs !== undefined || outcome === 'rate-limited') rest(at, permit, row, report, verdicts);
  if (quota !== undefined) takeQuota(at, permit, row, quota, verdicts);
  if (at.policy.health !== undefined) judge(at, permit, row, report, verdicts);
  if (gateDone(at, permit.ticket, outcome, random[1])) {
    verdicts.push({ kind: 'circuit', target, open: circuitOpen(at), forMs: circuitWaitMs(at) });
  }
  if (outcome === 'ok') grow(at, row, verdicts);
}

/** Cooldowns, and what a refusal says of the limits. */
function rest(
  at: Decision,
  permit: PermitRow,
  row: EgressRow,
  { outcome, retryAfterMs }: StepReport,
  verdicts: Verdict[],
): void {
  const { target, gate, policy, now } = at;
  const { egress } = permit;
  const limited = outcome === 'rate-limited';
  const forMs = retryAfterMs ?? (limited ? policy.windowMs : 0);
  let wide = outcome === 'target-error' && forMs > 0;
  if (forMs > 0) {
    slotsCooldown(row, now + forMs);
    quietFrom(gate, now + forMs);
    verdicts.push({ kind: 'cooldown', target, egress, forMs });
    if (limited && gateLimited(at, egress, now + forMs)) {
      wide = true;
      verdicts.push({ kind: 'cooldown', target, egress: undefined, forMs: gate.restUntil - now });
    }
  }
  if (limited && cutBudget(at, permit.start)) verdicts.push({ kind: 'budget', target, limit: gateLimit(at) });
  // Where there is one egress only, what it is refused the target as a whole refuses.
  wide ||= limited && isOnly(at, permit);
  if (wide && cutConcurrency(at, permit.start)) {
    verdicts.push({ kind: 'concurrency', target, limit: gateConcurrency(at) });
  }
}

/** A quota that is nearly used up: what is left of it is spread until it is full again. */
function takeQuota(at: Decision, { egress }: PermitRow, row: EgressRow, quota: QuotaReport, verdicts: Verdict[]): void {
  const { target, gate, policy, now } = at;
  const { spacingMs, forMs, exhausted, account } = quota;
  if (account || policy.account) {
    if (gateQuota(at, quota)) verdicts.push({ kind: 'cooldown', target, egress: undefined, forMs });
    return;
  }
  quietFrom(gate, now + forMs);
  if (exhausted) {
    slotsCooldown(row, now + forMs);
    verdicts.push({ kind: 'cooldown', target, egress, forMs });
  } else {
    row.quotaSpacingMs = spacingMs;
    row.quotaUntil = now + forMs;
    row.spaced = Math.max(row.spaced, now + Math.min(spacingMs, forMs));
  }
}

/** The egress's health here: its own refusals, not the target's troubles and not a full budget. */
function judge(
  at: Decision,
  permit: PermitRow,
  row: EgressRow,
  { permit: id, outcome, random }: StepReport,
  verdicts: Verdict[],
): void {
  const { target, gate, policy, now } = at;
  const health = policy.health!;
  const { egress } = permit;
  const ok = outcome === 'ok';
  if (!ok) {
    const refused = outcome === 'blocked' || outcome === 'challenged';
    const broken = outcome === 'network-error';
    if (refused || broken) {
      // The next attempt is to take another one, if there is any.
      const leastMs = refused && permit.route?.session !== undefined ? LEAST_REST_MS : 0;
      const restMs = Math.max(leastMs, policy.limit === undefined ? 0 : policy.windowMs / policy.limit);
      slotsCooldown(row, now + restMs);
      // Its record outlives the slots: a target that is asked seldom ejects, too.
      quietFrom(gate, now + Math.max(restMs, health.maxMs));
    }
    if (!refused && !(broken && random[0] < NETWORK_BLAME)) {
      releaseHealth(at, row, id, permit);
      return;
    }
  }
  const change = recordHealth(at, egress, row, ok, id);
  if (change === 0) return;
  if (change > 0) {
    const until = wellFrom(at, row);
    verdicts.push({ kind: 'ejected', target, egress, forMs: until - now });
    // Its probe may be due for as long again.
    quietFrom(gate, until + health.maxMs);
    return;
  }
  verdicts.push({ kind: 'returned', target, egress });
  // Until its count must have decayed.
  quietFrom(gate, now + Math.ceil(health.maxMs / health.baseMs) * health.healthyMs);
}

function grow(at: Decision, row: EgressRow, verdicts: Verdict[]): void {
  const { rows, target, gate } = at;
  if (gate.budget !== undefined && growBudget(at, slotsInUse(at, row))) {
    verdicts.push({ kind: 'budget', target, limit: gateLimit(at) });
  }
  if (growConcurrency(at, rows.permitCount())) {
    verdicts.push({ kind: 'concurrency', target, limit: gateConcurrency(at) });
  }
}
