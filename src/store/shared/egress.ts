import { ejectedForMs, isEjected } from '../../health/ejection.ts';
import { type Decision, type EgressRow, type GateRow, NEVER, type RouteRow } from './rows.ts';
import { slotsIdle, slotsRow, slotsUsableAt } from './slot-row.ts';

// One egress of the target: when it is usable, and where that puts it in the lanes of the pools that use it.

/** More egresses than this are not all looked at in one step. */
export const MANY = 512;

/** The record of an egress, made when it is new. */
export function egressFor({ rows, gate }: Decision, key: string, weight: number): EgressRow {
  let row = rows.egress(key);
  if (row === undefined) {
    const nothing = { outcomes: 0, ejection: 0, probe: '', quotaSpacingMs: 0, quotaUntil: NEVER };
    row = { ...slotsRow(weight), ...nothing, routes: {}, tuned: gate.tuned };
    rows.saveEgress(key, row);
  }
  return row;
}

/** Slots of each egress; `Infinity` for no budget. */
export function ownLimit(gate: GateRow): number {
  return gate.limit === 0 ? Infinity : gate.limit;
}

/** When a request may go over it as far as its health goes; NEVER when it always may. */
export function wellFrom({ policy, now }: Decision, row: EgressRow): number {
  if (policy.health === undefined || !isEjected(row.ejection)) return NEVER;
  return now + ejectedForMs(row.ejection, policy.health, now);
}

/** When it may be used for a request of this cost: slots, spacing, cooldown and health. */
export function usableAt(at: Decision, row: EgressRow, cost = 1): number {
  const { gate, now } = at;
  return Math.max(slotsUsableAt(row, ownLimit(gate), gate.windowMs, cost, now), wellFrom(at, row));
}

/** The same over that route: one on trial is used by one at a time. */
export function keyFor(at: Decision, row: EgressRow, route: RouteRow, cost = 1): number {
  return route.trial && row.busy > 0 ? Infinity : usableAt(at, row, cost);
}

/** Something has happened to it: it is saved, and put where it belongs in every lane. */
export function rekey(at: Decision, key: string, row: EgressRow): void {
  row.tuned = at.gate.tuned;
  for (const pool of Object.keys(row.routes)) at.rows.place(pool, key, keyFor(at, row, row.routes[pool]));
  at.rows.saveEgress(key, row);
}

/**
 * Every egress is usable at another time than before. Where they are many that is worked out one by one as they come to the
 * head of their lane, so that no step takes long: till then one that is usable sooner than it was is not found before its
 * old time.
 */
export function rekeyAll(at: Decision): void {
  const { rows, gate } = at;
  gate.tuned++;
  if (rows.egressCount() > MANY) return;
  for (const key of rows.egresses()) rekey(at, key, rows.egress(key)!);
}

export function isLive({ endsAt }: RouteRow, now: number): boolean {
  return endsAt === undefined || endsAt > now;
}

/** Nothing of its slots is in use or cools. */
export function egressIdle({ gate, now }: Decision, row: EgressRow): boolean {
  return slotsIdle(row, gate.windowMs, now);
}

/** As if it had never been used. */
export function renew(row: EgressRow): void {
  row.spaced = NEVER;
  row.cooldown = NEVER;
}
