import type { Limiting } from '../store.ts';
import { egressFor, rekey, rekeyAll, usableAt, wellFrom } from './egress.ts';
import { circuitOpen, circuitRoom, circuitWaitMs, gateConcurrency, gateLimit, gateOpenAt, gatePass } from './gate.ts';
import { ratesNextAt, spendRates } from './gate-rates.ts';
import { passHealth } from './health.ts';
import { isUsable, lead, routeRow, soonest, sweep } from './lanes.ts';
import { type Decision, type EgressRow, NEVER, type PermitRow, type RouteRow } from './rows.ts';
import { accountAt, followAccount, spacingMs, takeAccount, takeSlots } from './slots-taken.ts';
import type { ReserveAnswer, ReserveStep, StepGrant, StepPolicy } from './steps.ts';

/** Asked again, nothing is taken twice; what was lost meanwhile may be asked for anew after this, in milliseconds. */
const ASK_AGAIN_MS = 1;

/** Up to `count` permits, all limits or none for each; see MemoryTarget.reserve. */
export function reserve(at: Decision, step: ReserveStep): ReserveAnswer {
  const { rows, now } = at;
  if (isKnown(at, step)) return again(at, step);
  const limit = follow(at);
  // What has come down below what one request takes is spent on it whole.
  const cost = Math.min(step.cost, limit);
  sweep(at);

  let allowed = step.count;
  let limiting: Limiting | undefined;
  let retryInMs = Infinity;
  const places = gateConcurrency(at) - rows.permitCount();
  if (places < allowed) {
    allowed = Math.max(0, places);
    limiting = 'concurrency';
  }
  const room = circuitRoom(at);
  if (room < allowed) {
    allowed = room;
    limiting = 'breaker';
  }

  const grants: StepGrant[] = [];
  const offered = { taken: 0, wants: false };
  while (grants.length < allowed) {
    const targetAt = gateOpenAt(at);
    const openAt = Math.max(targetAt, ratesNextAt(at, step));
    const ownersAt = accountAt(at, cost);
    if (openAt > now || ownersAt > now + step.horizonMs) {
      limiting = openAt > Math.max(ownersAt, targetAt) ? 'rate' : 'target';
      retryInMs = Math.max(openAt, ownersAt) - now;
      break;
    }
    const key = step.pin === undefined ? find(at, step, cost, offered) : step.pin.egress;
    const row = key === '' ? undefined : egressFor(at, key, step.pin?.weight ?? 0);
    const usable = row === undefined ? Infinity : usableAt(at, row, cost);
    if (usable > now + step.horizonMs) {
      limiting = obstacle(at, row, usable);
      retryInMs = usable - now;
      break;
    }
    // It may be booked ahead; first the pool is asked for one that is usable now.
    if (offered.wants) {
      limiting = undefined;
      break;
    }
    const route = step.pin === undefined ? row!.routes[step.pool] : routeRow(step.pin, now);
    const start = Math.max(now, usable, ownersAt);
    const jitter = step.random[grants.length] ?? 0;
    const spacing = spacingMs(at, row!, limit, cost, start, jitter);
    const permit = newPermit(at, step, route, cost, start, spacing);
    const id = `${step.id}.${grants.length}`;
    takeSlots(at, key, row!, permit, start);
    takeAccount(at, permit);
    gatePass(at, permit);
    permit.marks = spendRates(at, step, start);
    passHealth(at, row!, id, start);
    rekey(at, key, row!);
    rows.savePermit(id, permit);
    grants.push(grantOf(at, grants.length, permit, route));
  }
  if (grants.length === step.count) limiting = undefined;
  // Only now: those that were let through are the probes that the others wait for.
  else if (limiting === 'breaker') {
    return { grants, retryInMs: circuitWaitMs(at), limiting, probing: !circuitOpen(at), ...offered };
  }
  return { grants, retryInMs: retryInMs === Infinity ? undefined : retryInMs, limiting, ...offered };
}

/** Whether the call was taken before; its first permit may be over since. */
function isKnown({ rows }: Decision, { id, count }: ReserveStep): boolean {
  for (let n = 0; n < count; n++) if (rows.permit(`${id}.${n}`) !== undefined) return true;
  return false;
}

/** The answer to a call that was answered before, as far as its permits are still there. */
function again(at: Decision, { id, count, horizonMs }: ReserveStep): ReserveAnswer {
  const grants: StepGrant[] = [];
  for (let n = 0; n < count; n++) {
    const permit = at.rows.permit(`${id}.${n}`);
    if (permit?.route !== undefined && !permit.cooled) grants.push(grantOf(at, n, permit, permit.route));
  }
  if (grants.length === count) return { grants, taken: 0, wants: false };
  return { grants, retryInMs: horizonMs + ASK_AGAIN_MS, limiting: 'budget', taken: 0, wants: false };
}

/** The policy may be another than before, and the limit may have adapted. Returns the limit. */
function follow(at: Decision): number {
  const { rows, gate, policy } = at;
  const limit = gateLimit(at);
  followAccount(at, limit);
  const own = policy.account || limit === Infinity ? 0 : limit;
  const asWell = sameHealth(gate.health, policy.health) || rows.outCount() === 0;
  const same = gate.limit === own && gate.windowMs === policy.windowMs;
  if (!same) gate.quietAt += Math.max(0, policy.windowMs - gate.windowMs);
  gate.limit = own;
  gate.windowMs = policy.windowMs;
  gate.health = policy.health;
  if (!same || !asWell) rekeyAll(at);
  return limit;
}

function sameHealth(a: StepPolicy['health'], b: StepPolicy['health']): boolean {
  if (a === undefined || b === undefined) return a === b;
  return (
    a.baseMs === b.baseMs &&
    a.maxMs === b.maxMs &&
    a.healthyMs === b.healthyMs &&
    a.probeTimeoutMs === b.probeTimeoutMs &&
    a.maxEjectedShare === b.maxEjectedShare &&
    a.minSamples === b.minSamples &&
    a.threshold === b.threshold
  );
}

/** The egress to use next, a new one when no known route is usable soon enough and the pool offers one; '' when there is none. */
function find(at: Decision, step: ReserveStep, cost: number, offered: { taken: number; wants: boolean }): string {
  const { now } = at;
  for (;;) {
    const [key, soonestAt] = soonest(at, step.pool, cost);
    if (soonestAt <= now + step.patienceMs) return key;
    if (offered.taken === step.offers.length) {
      offered.wants = step.more;
      return key;
    }
    const route = step.offers[offered.taken++];
    if (isUsable(route)) lead(at, route, route.egress, egressFor(at, route.egress, route.weight ?? 0));
  }
}

function newPermit(
  { gate }: Decision,
  { pool, cost: units, deadlineMs }: ReserveStep,
  route: RouteRow,
  cost: number,
  start: number,
  spacing: number,
): PermitRow {
  return {
    egress: '',
    pool,
    // A copy: the lane's own changes with what becomes of the route.
    route: { ...route },
    cost,
    start,
    deadline: start + deadlineMs,
    spacingMs: spacing,
    spacedBefore: NEVER,
    marks: [],
    units,
    ticket: 0,
    account: gate.account !== undefined,
    cooled: false,
    until: start + deadlineMs,
  };
}

function grantOf({ now }: Decision, n: number, { egress, start }: PermitRow, route: RouteRow): StepGrant {
  const { id, session = null, endsAt, trial } = route;
  return [n, egress, Math.max(0, start - now), id, session, endsAt === undefined ? null : endsAt - now, trial];
}

/** What stands in the way of an egress that is usable at `usable` at the soonest. */
function obstacle(at: Decision, row: EgressRow | undefined, usable: number): Limiting {
  if (row === undefined) return 'budget';
  if (wellFrom(at, row) >= usable) return 'health';
  return row.cooldown >= usable ? 'cooldown' : 'budget';
}
