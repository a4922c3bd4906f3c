import { futilePauseMs } from '../blind-dials.ts';
import { egressFor, isLive, rekey, usableAt, wellFrom } from './egress.ts';
import { quietFrom } from './gate.ts';
import { passHealth, releaseHealth } from './health.ts';
import { moveRoute, noteTrial, routeRow } from './lanes.ts';
import { cancel } from './permits.ts';
import type { Decision, EgressRow } from './rows.ts';
import { slotsCooldown } from './slot-row.ts';
import { giveBackSlots, takeSlots } from './slots-taken.ts';
import type { BindAnswer, BindStep } from './steps.ts';

/** The exit of a permit's route has turned out to be `egress`: the permit moves there, or is taken back; see MemoryTarget.bind. */
export function bind(at: Decision, { permit: id, egress, route }: BindStep): BindAnswer {
  const { rows, gate, policy, now } = at;
  const permit = rows.permit(id);
  if (!permit?.cooled) noteTrial(at, route.pool, route.id, permit?.egress ?? route.egress, route.trial);
  if (permit === undefined || permit.cooled) return { ok: false, retryInMs: 0, duplicate: false };
  const fromKey = permit.egress;
  const from = rows.egress(fromKey)!;
  // Of an imported one it was not known, nor does it matter by now.
  if (permit.route !== undefined) permit.route = routeRow(route, now);
  // The permit's own slot says nothing against the egress it is on: only a cooldown or an ejection that came since does.
  if (fromKey === egress) {
    const probe = from.probe === id;
    const usable = Math.max(gate.restUntil, probe ? from.cooldown : Math.max(wellFrom(at, from), from.cooldown));
    if (usable <= now && !probe) passHealth(at, from, id);
    return confirm(at, id, from, usable, false);
  }

  const to = egressFor(at, egress, 1);
  const other = to.routes[route.pool];
  const duplicate = other !== undefined && other.id !== route.id && isLive(other, now);
  const usable = Math.max(gate.restUntil, usableAt(at, to, permit.cost));
  if (usable <= now) {
    giveBackSlots(from, permit);
    releaseHealth(at, from, id, permit);
    rekey(at, fromKey, from);
    takeSlots(at, egress, to, permit, now);
    passHealth(at, to, id);
    gate.futile = 0;
  } else if (route.weight === undefined) {
    if (gate.futileUntil <= now) gate.futile = 0;
    const pauseMs = futilePauseMs(gate.futile++, policy.windowMs);
    gate.futileUntil = now + pauseMs + policy.windowMs;
    slotsCooldown(from, now + Math.min(pauseMs, usable - now));
    quietFrom(gate, gate.futileUntil);
  }
  if (route.weight === 1) moveRoute(at, route, fromKey, egress);
  return confirm(at, id, usable <= now ? to : from, usable, duplicate);
}

/** The second half: keep the permit when its egress is usable now, else take it back. */
function confirm(at: Decision, id: string, row: EgressRow, usable: number, duplicate: boolean): BindAnswer {
  const { rows, now } = at;
  if (usable > now) {
    cancel(at, [id]);
    return { ok: false, retryInMs: usable - now, duplicate };
  }
  const permit = rows.permit(id)!;
  rekey(at, permit.egress, row);
  rows.savePermit(id, permit);
  return { ok: true, retryInMs: 0, duplicate };
}
