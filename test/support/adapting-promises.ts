import { expect } from 'vitest';
import type { Grant, Outcome, Policy, QuotaReport, Verdict } from '../../src/store/store.ts';

interface Out {
  until: number;
  probe: Grant | undefined;
  probeUntil: number;
  /** Nobody has come for so long that the store may have forgotten it. */
  old: boolean;
}

/** What was promised, by what the answers have said: kept without looking at the store. */
export class Promises {
  private readonly policy: Policy;
  private readonly restUntil = new Map<string | undefined, number>();
  private refusals: { egress: string; at: number; until: number }[] = [];
  readonly outs = new Map<string, Out>();
  ejections = 0;

  constructor(policy: Policy) {
    this.policy = policy;
  }

  /** The permit may be used from `at` on. */
  uses(grant: Grant, at: number, own = false): void {
    const { egress } = grant;
    for (const key of [egress, undefined]) {
      expect(at, `rest of ${key ?? 'all'}`).toBeGreaterThanOrEqual(this.restUntil.get(key) ?? -Infinity);
    }
    const out = this.outs.get(egress);
    if (out === undefined || (own && out.probe === grant)) return;
    out.old ||= out.probe === undefined && at >= out.until + (this.policy.health?.maxMs ?? 0);
    if (out.old) return;
    expect(at, `${egress} is out`).toBeGreaterThanOrEqual(out.until);
    if (out.probe !== undefined) expect(at, `the probe of ${egress}`).toBeGreaterThanOrEqual(out.probeUntil);
    out.probe = grant;
    out.probeUntil = at + (this.policy.health?.probeTimeoutMs ?? 0);
  }

  /** The permit says nothing of its egress any more. */
  ended(grant: Grant, egress: string = grant.egress): void {
    const out = this.outs.get(egress);
    if (out?.probe === grant) out.probe = undefined;
  }

  settled(
    grant: Grant,
    outcome: Outcome,
    retryAfterMs: number | undefined,
    quota: QuotaReport | undefined,
    now: number,
  ) {
    const { egress } = grant;
    const limited = outcome === 'rate-limited';
    const forMs = retryAfterMs ?? (limited ? this.policy.windowMs : 0);
    if (forMs > 0) this.rest(egress, now + forMs);
    if (forMs > 0 && limited) this.widen(egress, now, now + forMs);
    if (quota?.exhausted) {
      this.rest(quota.account || this.policy.scope === 'account' ? undefined : egress, now + quota.forMs);
    }
    this.ended(grant);
  }

  judged(verdict: Verdict, now: number): void {
    if (verdict.kind === 'returned') expect(this.outs.delete(verdict.egress)).toBe(true);
    if (verdict.kind !== 'ejected') return;
    this.ejections++;
    this.outs.set(verdict.egress, { until: now + verdict.forMs, probe: undefined, probeUntil: 0, old: false });
  }

  private rest(key: string | undefined, until: number): void {
    this.restUntil.set(key, Math.max(until, this.restUntil.get(key) ?? until));
  }

  /** Of three different egresses the latest refusals, all within a window, are the target's. */
  private widen(egress: string, at: number, until: number): void {
    if (this.policy.scope === 'account') this.rest(undefined, until);
    const before = this.refusals.find((one) => one.egress === egress);
    this.refusals = [
      ...this.refusals.filter((one) => one !== before),
      { egress, at, until: Math.max(until, before?.until ?? until) },
    ].slice(-3);
    if (this.refusals.length === 3 && this.refusals.every((one) => one.at > at - this.policy.windowMs)) {
      this.rest(undefined, Math.max(...this.refusals.map((one) => one.until)));
    }
  }
}
