import type { EjectionPolicy } from '../health/ejection.ts';
import type { MemoryTarget } from './memory-target.ts';
import type { MemoryGrant } from './permits.ts';
import type { Outcome, QuotaReport, Report, Verdict } from './store.ts';

/** A reset or timeout counts for the breaker, since the target may be down; half of them count against the exit, too. */
export const NETWORK_BLAME = 0.5;

/** A session that was refused rests at least this long, in milliseconds: more than anybody waits for a known way out before another is tried. */
export const LEAST_REST_MS = 100;

/** Takes note of how a request ended: who is to rest, who is out, and which limits come down or grow. */
export function learn(at: MemoryTarget, grant: MemoryGrant, report: Report, now: number): void {
  const { outcome, quota, retryAfterMs } = report;
  const { verdicts } = at;
  if (retryAfterMs !== undefined || outcome === 'rate-limited') rest(at, grant, report, now, verdicts);
  if (quota !== undefined) takeQuota(at, grant, quota, now, verdicts);
  const { policy, gate } = at;
  if (policy.health !== undefined) judge(at, grant, outcome, policy.health, now);
  if (gate.done(policy, grant.ticket, outcome, now, at.random)) {
    verdicts.push({ kind: 'circuit', target: at.name, open: gate.isOpen, forMs: gate.circuitWaitMs(policy, now) });
  }
  if (outcome === 'ok') grow(at, grant, now);
}

/** Cooldowns, and what a refusal says of the limits. */
function rest(at: MemoryTarget, grant: MemoryGrant, report: Report, now: number, verdicts: Verdict[]): void {
  const { outcome, retryAfterMs } = report;
  const { policy, gate, table, name: target } = at;
  const limited = outcome === 'rate-limited';
  const forMs = retryAfterMs ?? (limited ? policy.windowMs : 0);
  let wide = outcome === 'target-error' && forMs > 0;
  if (forMs > 0) {
    table.slots.cooldown(grant.entry, now + forMs);
    at.ledger.quietFrom(now + forMs);
    verdicts.push({ kind: 'cooldown', target, egress: grant.egress, forMs });
    if (limited && gate.limited(policy, grant.entry, now + forMs, now)) {
      wide = true;
      verdicts.push({ kind: 'cooldown', target, egress: undefined, forMs: gate.restsUntil - now });
    }
  }
  if (limited && gate.cutBudget(policy, grant.start, now)) {
    verdicts.push({ kind: 'budget', target, limit: gate.limit(policy) });
  }
  // Where there is one egress only, what it is refused the target as a whole refuses.
  wide ||= limited && table.book.isOnly(grant.entry, grant.route, now);
  if (wide && gate.cutConcurrency(policy, grant.start, now)) {
    verdicts.push({ kind: 'concurrency', target, limit: gate.concurrency(policy) });
  }
}

/** A quota that is nearly used up: what is left of it is spread until it is full again. */
function takeQuota(at: MemoryTarget, grant: MemoryGrant, quota: QuotaReport, now: number, verdicts: Verdict[]): void {
  const { spacingMs, forMs, exhausted, account } = quota;
  const { gate, table, name: target } = at;
  if (account || at.policy.scope === 'account') {
    if (gate.quota(quota, now)) verdicts.push({ kind: 'cooldown', target, egress: undefined, forMs });
    return;
  }
  at.ledger.quietFrom(now + forMs);
  if (exhausted) {
    table.slots.cooldown(grant.entry, now + forMs);
    verdicts.push({ kind: 'cooldown', target, egress: grant.egress, forMs });
  } else {
    table.quotas.set(grant.entry, spacingMs, now + forMs);
    table.slots.space(grant.entry, now + Math.min(spacingMs, forMs));
  }
}

/** The egress's health here: its own refusals, not the target's troubles and not a full budget. */
function judge(
  at: MemoryTarget,
  grant: MemoryGrant,
  outcome: Outcome | undefined,
  health: EjectionPolicy,
  now: number,
): void {
  const { policy, table, verdicts, name: target } = at;
  const { entry, egress } = grant;
  const ok = outcome === 'ok';
  if (!ok) {
    const refused = outcome === 'blocked' || outcome === 'challenged';
    const broken = outcome === 'network-error';
    if (refused || broken) {
      // The next attempt is to take another one, if there is any.
      const leastMs = refused && grant.route.session !== undefined ? LEAST_REST_MS : 0;
      const restMs = Math.max(leastMs, policy.limit === Infinity ? 0 : policy.windowMs / policy.limit);
      table.slots.cooldown(entry, now + restMs);
      // Its record outlives the slots: a target that is asked seldom ejects, too.
      at.ledger.quietFrom(now + Math.max(restMs, health.maxMs));
    }
    if (!refused && !(broken && at.random() < NETWORK_BLAME)) {
      table.health.release(entry, grant, health, now);
      return;
    }
  }
  const change = table.recordHealth(entry, ok, grant, now);
  if (change === 0) return;
  if (change > 0) {
    verdicts.push({ kind: 'ejected', target, egress, forMs: table.health.usableFrom(entry, health, now) - now });
    return;
  }
  verdicts.push({ kind: 'returned', target, egress });
  // Until its count must have decayed.
  at.ledger.quietFrom(now + Math.ceil(health.maxMs / health.baseMs) * health.healthyMs);
}

function grow(at: MemoryTarget, grant: MemoryGrant, now: number): void {
  const { gate, policy, name: target } = at;
  if (gate.hasCutBudget && gate.growBudget(policy, at.ledger.used(grant, now), now)) {
    at.verdicts.push({ kind: 'budget', target, limit: gate.limit(policy) });
  }
  if (gate.growConcurrency(policy, at.active, now)) {
    at.verdicts.push({ kind: 'concurrency', target, limit: gate.concurrency(policy) });
  }
}
