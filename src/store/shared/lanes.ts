import { isEjected } from '../../health/ejection.ts';
import { egressIdle, isLive, keyFor, MANY, rekey, renew } from './egress.ts';
import { healthIdle } from './health.ts';
import type { Decision, EgressRow, PermitRow, RouteRow } from './rows.ts';
import type { StepRoute } from './steps.ts';

// Which routes lead to the egresses, pool by pool, in the order of their use. Every pool has the egress in its own lane.

/** Egresses looked at for clean-up at a time. */
const SWEEP = 2;

export function routeRow({ id, session, endsInMs, weight = 0, trial }: StepRoute, now: number): RouteRow {
  return { id, session, endsAt: endsInMs === undefined ? undefined : now + endsInMs, weight, trial };
}

/** Whether it may be lent to any request, now. */
export function isUsable({ shared, closed, endsInMs }: StepRoute): boolean {
  return shared && !closed && (endsInMs === undefined || endsInMs > 0);
}

/** The route leads to the egress. One a pool is enough. */
export function lead(at: Decision, route: StepRoute, key: string, row: EgressRow): void {
  const { now } = at;
  const { pool } = route;
  const known = row.routes[pool];
  if (known !== undefined && isLive(known, now)) return;
  // Whether it has been swept meanwhile must make no difference.
  if (!isLed(at, key, row) && egressIdle(at, row)) renew(row);
  row.routes[pool] = routeRow(route, now);
  rekey(at, key, row);
}

/** The route of the pool does not lead to the egress any more. */
export function detach({ rows }: Decision, pool: string, key: string, row: EgressRow): void {
  delete row.routes[pool];
  rows.leave(pool, key);
  rows.saveEgress(key, row);
}

/** Whether a live route leads to the egress; those that have ended are dropped. */
export function isLed(at: Decision, key: string, row: EgressRow): boolean {
  let led = false;
  for (const pool of Object.keys(row.routes)) {
    if (isLive(row.routes[pool], at.now)) led = true;
    else detach(at, pool, key, row);
  }
  return led;
}

/** Whether the route is on trial now. */
export function noteTrial(at: Decision, pool: string, id: string, egress: string, trial: boolean): void {
  const row = at.rows.egress(egress);
  const known = row?.routes[pool];
  if (row === undefined || known?.id !== id || known.trial === trial) return;
  known.trial = trial;
  rekey(at, egress, row);
}

/** The key of the pool's egress that is usable soonest, and when that is; '' and `Infinity` for none. */
export function soonest(at: Decision, pool: string, cost: number): [string, number] {
  return cost > 1 ? soonestFor(at, pool, cost) : top(at, pool);
}

/** The lane's first egress whose route still lives. */
function top(at: Decision, pool: string): [string, number] {
  const { rows, gate, now } = at;
  for (;;) {
    const first = rows.first(pool);
    if (first === undefined) return ['', Infinity];
    const { egress, key } = first;
    const row = rows.egress(egress)!;
    if (!isLive(row.routes[pool], now)) detach(at, pool, egress, row);
    else if (row.tuned !== gate.tuned) rekey(at, egress, row);
    else return key === Infinity ? ['', Infinity] : [egress, key];
  }
}

/** For more slots than one the lane's order is only a lower bound: as many are looked at as may be sooner than the best. */
function soonestFor(at: Decision, pool: string, cost: number): [string, number] {
  const { rows, gate, now } = at;
  const many = rows.laneSize(pool) > MANY;
  const moved: string[] = [];
  let looked = 0;
  let best = '';
  let bestAt = Infinity;
  for (const { egress, key } of rows.walk(pool)) {
    // Of those that are usable the longest idle one is to be found, which their old keys do not tell.
    if (key >= bestAt && (many || key > now)) break;
    if (looked++ > MANY && best !== '') break;
    const row = rows.egress(egress)!;
    if (!isLive(row.routes[pool], now) || row.tuned !== gate.tuned) moved.push(egress);
    if (!isLive(row.routes[pool], now)) continue;
    const own = keyFor(at, row, row.routes[pool], cost);
    if (own >= bestAt) continue;
    best = egress;
    bestAt = own;
  }
  for (const egress of moved) {
    const row = rows.egress(egress)!;
    if (isLive(row.routes[pool], now)) rekey(at, egress, row);
    else detach(at, pool, egress, row);
  }
  return [best, bestAt];
}

/** Whether no other egress can stand in for the permit's own in its pool: what it is refused, the pool is. */
export function isOnly(at: Decision, { egress, pool, route }: PermitRow): boolean {
  // Sessions can be opened, and an exit that rotates is another one each time.
  if (route === undefined || route.session !== undefined || route.weight !== 1) return false;
  const { rows, now } = at;
  const own = rows.egress(egress)!.routes[pool];
  if (own?.id !== route.id || !isLive(own, now)) return false;
  for (const place of rows.walk(pool)) {
    if (place.egress !== egress && isLive(rows.egress(place.egress)!.routes[pool], now)) return false;
  }
  return true;
}

/** The route was believed to lead to one egress and leads to another. */
export function moveRoute(at: Decision, route: StepRoute, from: string, to: string): void {
  const { rows } = at;
  const before = rows.egress(from)!;
  if (before.routes[route.pool]?.id === route.id) detach(at, route.pool, from, before);
  if (isUsable(route)) lead(at, route, to, rows.egress(to)!);
}

/** Forgets egresses that no route leads to any more, once nothing of them matters. */
export function sweep(at: Decision): void {
  const { rows, now } = at;
  for (const key of rows.someEgresses(SWEEP)) {
    const row = rows.egress(key);
    if (row === undefined || isLed(at, key, row)) continue;
    if (!egressIdle(at, row) || !healthIdle(at, row) || row.quotaUntil > now) continue;
    if (isEjected(row.ejection)) rows.setOut(key, false);
    rows.dropEgress(key);
  }
}
