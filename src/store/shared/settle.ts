import type { Verdict } from '../store.ts';
import { rekey } from './egress.ts';
import { quietFrom } from './gate.ts';
import { noteTrial } from './lanes.ts';
import { learn } from './learn.ts';
import type { Decision } from './rows.ts';
import { coolSlots } from './slots-taken.ts';
import type { StepReport } from './steps.ts';

/** How requests ended: their slots cool, and what they say is taken note of. Returns what has changed by it. */
export function settle(at: Decision, reports: readonly StepReport[]): readonly Verdict[] {
  const { rows, gate, now } = at;
  const verdicts: Verdict[] = [];
  for (const report of reports) {
    const permit = rows.permit(report.permit);
    if (permit === undefined) continue;
    if (!permit.cooled) {
      const row = rows.egress(permit.egress)!;
      permit.cooled = true;
      if (permit.route !== undefined) noteTrial(at, permit.pool, permit.route.id, permit.egress, report.trial);
      coolSlots(at, row, permit, now + report.graceMs);
      learn(at, permit, row, report, verdicts);
      rekey(at, permit.egress, row);
    }
    if (report.end) rows.dropPermit(report.permit);
    else {
      permit.until = now + report.keepMs;
      quietFrom(gate, permit.until);
      rows.savePermit(report.permit, permit);
    }
  }
  return verdicts;
}
