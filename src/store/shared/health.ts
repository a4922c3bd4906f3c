import { ejectionAfter, ejectionOver, isEjected, mayEject, releaseProbe, startProbe } from '../../health/ejection.ts';
import { isUnhealthy, recordOutcome } from '../../health/window.ts';
import { isLive, MANY } from './egress.ts';
import { quietFrom } from './gate.ts';
import type { Decision, EgressRow, PermitRow } from './rows.ts';

// Which egresses of the target are out for bad health. EgressHealth, over records.

/** The permit is about to be used over it: when the egress is out, that is its one probe. */
export function passHealth({ gate, policy, now }: Decision, row: EgressRow, id: string, start: number = now): void {
  if (policy.health === undefined || !isEjected(row.ejection)) return;
  row.ejection = startProbe(row.ejection, policy.health, start);
  row.probe = id;
  quietFrom(gate, start + policy.health.probeTimeoutMs + policy.health.maxMs);
}

/** The permit says nothing of the egress. When it was its probe, another may go. */
export function releaseHealth({ policy, now }: Decision, row: EgressRow, id: string, { start }: PermitRow): void {
  if (policy.health === undefined || row.probe !== id) return;
  row.ejection = releaseProbe(row.ejection, policy.health, now, start);
  row.probe = '';
}

/** How a request over it ended. Returns 1 when it is out from now on, also once more after its probe; -1 when it is back; else 0. */
export function recordHealth(at: Decision, key: string, row: EgressRow, ok: boolean, id: string): -1 | 0 | 1 {
  const { rows, policy, now } = at;
  if (policy.health === undefined) return 0;
  row.outcomes = recordOutcome(row.outcomes, ok);
  const before = row.ejection;
  const bad = !ok && isUnhealthy(row.outcomes, policy.health.minSamples, policy.health.threshold);
  if (before === 0 && !bad) return 0;
  const mayGo = bad && !isEjected(before) && mayLose(at, row);
  const after = ejectionAfter(before, row.outcomes, ok, row.probe === id, mayGo, policy.health, now);
  if (after === before) return 0;
  row.ejection = after;
  if (isEjected(after)) {
    row.probe = '';
    rows.setOut(key, true);
    return 1;
  }
  if (!isEjected(before)) return 0;
  row.probe = '';
  rows.setOut(key, false);
  // What led to the ejection must not lead to the next one.
  row.outcomes = 0;
  return -1;
}

/** Whether forgetting its health changes nothing. */
export function healthIdle({ policy, now }: Decision, row: EgressRow): boolean {
  return row.ejection === 0 || policy.health === undefined || ejectionOver(row.ejection, policy.health, now);
}

/** Whether every pool that uses the egress can do without it: none without its last one, nor without more than a share. */
function mayLose(at: Decision, row: EgressRow): boolean {
  const { rows, policy, now } = at;
  const health = policy.health!;
  for (const pool of Object.keys(row.routes)) {
    const route = row.routes[pool];
    if (!isLive(route, now)) continue;
    const more = route.session === undefined ? 0 : 1; // a pool of sessions can open another
    const outs = rows.outCount() > MANY ? rows.outCount() : countOuts(at, pool);
    // Those that are out are counted first, and the others only if need be: while a target refuses everybody, this is asked after every answer.
    const size = rows.laneSize(pool);
    if (!mayEject(outs, size + more, health)) return false;
    if (size <= MANY && !mayEject(outs, countMembers(at, pool) + more, health)) return false;
  }
  return true;
}

function countOuts(at: Decision, pool: string): number {
  let outs = 0;
  for (const key of at.rows.outs()) if (isMember(at, key, pool)) outs++;
  return outs;
}

function countMembers(at: Decision, pool: string): number {
  let members = 0;
  for (const { egress } of at.rows.walk(pool)) if (isMember(at, egress, pool)) members++;
  return members;
}

/** One on trial may turn out to be an egress in use already. */
function isMember({ rows, now }: Decision, key: string, pool: string): boolean {
  const route = rows.egress(key)?.routes[pool];
  return route !== undefined && !route.trial && isLive(route, now);
}
