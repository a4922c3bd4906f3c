import { CLOSED } from '../../limits/breaker-core.ts';
import { egressFor, rekey } from './egress.ts';
import { gateDone, quietFrom } from './gate.ts';
import { giveBackRates, spendRates } from './gate-rates.ts';
import { releaseHealth } from './health.ts';
import { type Decision, NEVER, type PermitRow } from './rows.ts';
import { coolSlots, forceSlots, giveBackAccount, giveBackSlots, stampSlots } from './slots-taken.ts';
import type { ImportStep, RenewStep } from './steps.ts';

/** Permits never settled: the request may have been sent until the deadline, so the slots cool from there. Bodies that nobody reads any more give up their place. */
export function expire(at: Decision): void {
  const { rows, now } = at;
  for (;;) {
    const id = rows.overdue(now);
    if (id === undefined) return;
    const permit = rows.permit(id)!;
    rows.dropPermit(id);
    if (permit.cooled) continue;
    const row = rows.egress(permit.egress)!;
    coolSlots(at, row, permit, permit.deadline);
    forgo(at, id, permit);
    rekey(at, permit.egress, row);
  }
}

/** The target never saw these: their slots are as if never taken. */
export function cancel(at: Decision, ids: readonly string[]): void {
  const { rows } = at;
  for (const id of ids) {
    const permit = rows.permit(id);
    if (permit === undefined || permit.cooled) continue;
    const row = rows.egress(permit.egress)!;
    rows.dropPermit(id);
    forgo(at, id, permit);
    giveBackRates(at, permit);
    giveBackAccount(at, permit);
    giveBackSlots(row, permit);
    rekey(at, permit.egress, row);
  }
}

/** The request came to nothing: it says nothing of the target nor of its egress. */
function forgo(at: Decision, id: string, permit: PermitRow): void {
  gateDone(at, permit.ticket, undefined, 0);
  releaseHealth(at, at.rows.egress(permit.egress)!, id, permit);
}

/** Their bodies are still being read. */
export function renew({ rows, gate, now }: Decision, { permits, keepMs }: RenewStep): void {
  for (const id of permits) {
    const permit = rows.permit(id);
    if (!permit?.cooled) continue;
    permit.until = Math.max(permit.until, now + keepMs);
    quietFrom(gate, permit.until);
    rows.savePermit(id, permit);
  }
}

/** Permits that were given elsewhere. They may be more than there are slots: the egress is usable once enough have cooled. */
export function takeOver(at: Decision, { permits }: ImportStep): void {
  const { rows, gate, now } = at;
  for (const { id, egress, cost, cooledForMs, keepMs } of permits) {
    if (rows.permit(id) !== undefined) continue;
    const row = egressFor(at, egress, 1);
    // Which of them counted for it is not known: all did.
    spendRates(at, { cost }, now - (cooledForMs ?? 0));
    const permit: PermitRow = {
      egress,
      pool: '',
      cost,
      start: now,
      deadline: now + keepMs,
      spacingMs: 0,
      spacedBefore: row.spaced,
      marks: [],
      units: cost,
      // What it says of a circuit that is not closed would be of another time.
      ticket: gate.circuit === undefined || gate.circuit.phase === CLOSED ? (gate.circuit?.epoch ?? 0) : NEVER,
      account: gate.account !== undefined,
      cooled: cooledForMs !== undefined,
      until: now + keepMs,
    };
    if (cooledForMs !== undefined) stampSlots(at, row, cost, now - cooledForMs);
    else forceSlots(at, row, permit);
    if (cooledForMs === undefined || keepMs > 0) rows.savePermit(id, permit);
    quietFrom(gate, permit.until);
    rekey(at, egress, row);
  }
}
