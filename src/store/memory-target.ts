import type { Random } from '../clock.ts';
import { BlindDials } from './blind-dials.ts';
import type { EgressTable } from './egress-table.ts';
import { Ledger } from './ledger.ts';
import { COOLED, HELD, isHeld, MemoryGrant, Outstanding, OVER } from './permits.ts';
import { isLive } from './route-book.ts';
import type {
  Binding,
  Demand,
  Grant,
  Limiting,
  Policy,
  Report,
  Reservation,
  TargetSnapshot,
  Verdict,
} from './store.ts';
import { TargetGate } from './target-gate.ts';
import { learn } from './verdicts.ts';

const NO_VERDICTS: readonly Verdict[] = [];
const NO_GRANTS: Grant[] = [];

/** The permits of one target: slots, rates, concurrency and what else stands in the way, decided together. No I/O; time is passed in. */
export class MemoryTarget {
  readonly name: string;
  readonly random: Random;
  readonly ledger: Ledger;
  readonly table: EgressTable;
  readonly gate: TargetGate = new TargetGate();
  policy: Policy;
  /** What the reports of this settle have changed so far. */
  readonly verdicts: Verdict[] = [];
  private readonly outstanding = new Outstanding();
  private readonly dials = new BlindDials();
  /** Permits not over. */
  active = 0;

  constructor(name: string, policy: Policy, random: Random) {
    this.name = name;
    this.policy = policy;
    this.random = random;
    this.ledger = new Ledger(policy);
    this.table = this.ledger.table;
  }

  reserve(demand: Demand, now: number): Reservation {
    const { policy, pin } = demand;
    const { table, gate, ledger } = this;
    const { book } = table;
    this.expireLost(now);
    const limit = this.follow(policy, now);
    // What has come down below what one request takes is spent on it whole.
    const cost = demand.cost === undefined || demand.cost === 1 ? 1 : Math.min(demand.cost, limit);
    table.sweep(now);

    let allowed = demand.count;
    let limiting: Limiting | undefined;
    let retryInMs = Infinity;
    const places = gate.concurrency(policy) - this.active;
    if (places < allowed) {
      allowed = Math.max(0, places);
      limiting = 'concurrency';
    }
    const room = gate.circuitRoom(policy, now);
    if (room < allowed) {
      allowed = room;
      limiting = 'breaker';
    }

    let grants: Grant[] = NO_GRANTS;
    while (grants.length < allowed) {
      const openAt = gate.openFor(demand, now);
      const accountAt = ledger.accountAt(cost, now);
      if (openAt > now || accountAt > now + demand.horizonMs) {
        limiting = openAt > Math.max(accountAt, gate.openAt(now)) ? 'rate' : 'target';
        retryInMs = Math.max(openAt, accountAt) - now;
        break;
      }
      const entry = pin === undefined ? table.soonest(demand, cost, now) : table.entryFor(pin.egress, pin.weight);
      // The table knew already; but so the entry's record is fetched while the rest goes on, which pays where there are many.
      const usableAt = entry < 0 ? Infinity : book.usableAt(entry, now, cost);
      if (usableAt > now + demand.horizonMs) {
        limiting = this.obstacle(entry, usableAt, now);
        retryInMs = usableAt - now;
        break;
      }
      const route = pin ?? book.routeTo(entry, demand.pool)!;
      const start = Math.max(now, usableAt, accountAt);
      const grant = new MemoryGrant(
        this,
        this.name,
        route,
        pin?.egress ?? book.keyOf(entry),
        cost,
        start,
        start - now,
        entry,
        start + demand.deadlineMs,
        ledger.spacing(policy, limit, entry, cost, start, this.random),
      );
      ledger.take(grant);
      gate.pass(grant, demand, start);
      table.health.pass(entry, grant, policy.health, start);
      book.rekey(entry, now);
      this.outstanding.add(grant);
      this.active++;
      // Mostly it is one: a literal takes an eighth of the room that the first push makes.
      if (grants === NO_GRANTS) grants = [grant];
      else grants.push(grant);
    }
    if (grants.length === demand.count) limiting = undefined;
    // Only now: those that were let through are the probes that the others wait for.
    else if (limiting === 'breaker') {
      retryInMs = gate.circuitWaitMs(policy, now);
      return { grants, retryInMs, limiting, probing: !gate.isOpen };
    }
    return { grants, retryInMs, limiting };
  }

  bind(grant: Grant, egress: string, now: number): Binding {
    const held = grant as MemoryGrant;
    const { table, ledger, gate, policy } = this;
    const { book, health, slots } = table;
    this.expireLost(now);
    if (!isHeld(held, this)) return { ok: false, retryInMs: 0, duplicate: false };
    const { route, entry: from } = held;
    // The grant's own slot says nothing against the egress it is on: only a cooldown or an ejection that came since does.
    if (held.egress === egress) {
      const probe = health.isProbe(from, held);
      const well = probe ? -Infinity : health.usableFrom(from, policy.health, now);
      const at = Math.max(gate.restsUntil, well, slots.cooldownUntil(from));
      if (at <= now && !probe) health.pass(from, held, policy.health, now);
      return this.confirm(held, at, now, false);
    }

    const to = table.entryFor(egress, 1);
    const other = book.routeTo(to, route.pool);
    const duplicate = other !== undefined && other !== route && isLive(other, now);
    const at = Math.max(gate.restsUntil, book.usableAt(to, now, held.cost));
    if (at <= now) {
      ledger.giveBack(held);
      health.release(from, held, policy.health, now);
      book.rekey(from, now);
      held.egress = egress;
      ledger.move(held, to, now);
      health.pass(to, held, policy.health, now);
      this.dials.found();
    } else if (route.weight === Infinity) {
      const pauseMs = this.dials.failed(policy.windowMs, now);
      slots.cooldown(from, now + Math.min(pauseMs, at - now));
      ledger.quietFrom(this.dials.until);
    }
    if (route.weight === 1) book.moveRoute(route, from, to, egress, now);
    return this.confirm(held, at, now, duplicate);
  }

  settle(reports: readonly Report[], now: number): readonly Verdict[] {
    this.expireLost(now);
    for (const report of reports) {
      const held = report.grant as MemoryGrant;
      if (held.issuer !== this) continue;
      if (held.phase === HELD) {
        held.phase = COOLED;
        this.ledger.cool(held, now + report.graceMs);
        learn(this, held, report, now);
        this.table.book.rekey(held.entry, now);
      }
      if (report.end && held.phase === COOLED) {
        held.phase = OVER;
        this.active--;
      }
    }
    return this.verdicts.length === 0 ? NO_VERDICTS : this.verdicts.splice(0);
  }

  cancel(grants: readonly Grant[], now: number): void {
    this.expireLost(now);
    for (const grant of grants) {
      const held = grant as MemoryGrant;
      if (!isHeld(held, this)) continue;
      held.phase = OVER;
      this.active--;
      this.forgo(held, now);
      this.gate.giveBack(held, this.policy);
      this.ledger.cancel(held);
      this.table.book.rekey(held.entry, now);
    }
  }

  /** Whether forgetting this target would change no decision. */
  idle(now: number): boolean {
    this.expireLost(now);
    const { health } = this.table;
    if (this.active > 0 || this.ledger.quietAt > now || !this.gate.idle(this.policy, now)) return false;
    for (const entry of health.out) if (!health.idle(entry, this.policy.health, now)) return false;
    return true;
  }

  inspect(now: number): TargetSnapshot {
    this.expireLost(now);
    const { name: target, active, gate, policy, ledger } = this;
    return { target, active, ...gate.inspect(policy, now), egresses: ledger.inspect(now) };
  }

  /** What stands in the way of an entry that is usable at `at` at the soonest. */
  private obstacle(entry: number, at: number, now: number): Limiting {
    if (entry < 0) return 'budget';
    const { slots, health } = this.table;
    if (health.usableFrom(entry, this.policy.health, now) >= at) return 'health';
    return slots.cooldownUntil(entry) >= at ? 'cooldown' : 'budget';
  }

  /** The request came to nothing: it says nothing of the target nor of its egress. */
  private forgo(grant: MemoryGrant, now: number): void {
    this.gate.done(this.policy, grant.ticket, undefined, now, this.random);
    this.table.health.release(grant.entry, grant, this.policy.health, now);
  }

  /** The second half of a bind: keep the permit when its egress is usable now, else take it back. */
  private confirm(grant: MemoryGrant, usableAt: number, now: number, duplicate: boolean): Binding {
    if (usableAt <= now) {
      this.table.book.rekey(grant.entry, now);
      return { ok: true, retryInMs: 0, duplicate };
    }
    this.cancel([grant], now);
    return { ok: false, retryInMs: usableAt - now, duplicate };
  }

  /** Permits never settled: the request may have been sent until the deadline, so the slot cools from there. */
  private expireLost(now: number): void {
    for (let lost = this.outstanding.overdue(now); lost !== undefined; lost = this.outstanding.overdue(now)) {
      lost.phase = OVER;
      this.active--;
      this.ledger.cool(lost, lost.deadline);
      this.forgo(lost, now);
      this.table.book.rekey(lost.entry, now);
    }
  }

  /** The policy may be another than before, and the limit may have adapted. Returns the limit. */
  private follow(policy: Policy, now: number): number {
    const { table, gate } = this;
    this.policy = policy;
    if (table.book.healthPolicy !== policy.health) {
      table.book.healthPolicy = policy.health;
      if (table.health.outs > 0) table.book.rekeyAll(now);
    }
    const limit = gate.limit(policy);
    this.ledger.tune(limit, policy.windowMs, now);
    return limit;
  }
}
