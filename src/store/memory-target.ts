import type { Random } from '../clock.ts';
import { EgressTable, isLive } from './egress-table.ts';
import { allowedNow, nextAllowed, refund, spend } from './rate.ts';
import type {
  Binding,
  Demand,
  Grant,
  Limiting,
  Policy,
  Report,
  Reservation,
  Route,
  TargetSnapshot,
  Verdict,
} from './store.ts';

// A permit's life: its slot busy · cooling while the exchange goes on · over.
const HELD = 0;
const COOLED = 1;
const OVER = 2;

/** `even` spacing is stretched by up to this share, so that many egresses do not fall into step. */
const SPACING_JITTER = 0.04;

/** After an exit came up that is over budget, the next blind dial waits: this share of the window, doubled each time, at most the window. */
const FUTILE_SHARE = 1 / 256;

const NO_VERDICTS: readonly Verdict[] = [];
const NO_GRANTS: Grant[] = [];

/** A permit of the memory store; its bookkeeping travels with it, so settling looks nothing up. */
class MemoryGrant implements Grant {
  readonly target: string;
  readonly route: Route;
  egress: string;
  readonly startInMs: number;
  entry: number;
  deadline = 0;
  /** The spacing it was granted with, and what it changed: given back with the slot. */
  spacingMs = 0;
  spacedUntil = 0;
  spacedBefore = 0;
  phase: number = HELD;

  constructor(target: string, route: Route, egress: string, startInMs: number, entry: number) {
    this.target = target;
    this.route = route;
    this.egress = egress;
    this.startInMs = startInMs;
    this.entry = entry;
  }
}

/** The permits of one target: slots, rate and concurrency decided together. No I/O; time is passed in. */
export class MemoryTarget {
  private readonly name: string;
  private readonly random: Random;
  private readonly table: EgressTable;
  private policy: Policy;
  /** Grants in the order they were made, to find those whose holder was lost. */
  private outstanding: MemoryGrant[] = [];
  private oldest = 0;
  /** Permits not over; theoretical arrival time of the rate. */
  private active = 0;
  private tat = 0;
  /** From then on nothing cools any more, if nothing else happens. */
  private quietAt = 0;
  /** Blind dials in a row that came up over budget. */
  private futile = 0;

  constructor(name: string, policy: Policy, random: Random) {
    this.name = name;
    this.policy = policy;
    this.random = random;
    this.table = new EgressTable(policy.limit, policy.windowMs);
  }

  reserve(demand: Demand, now: number): Reservation {
    const { policy, pin } = demand;
    const { table } = this;
    const { slots } = table;
    this.policy = policy;
    slots.limit = policy.limit;
    slots.windowMs = policy.windowMs;
    this.expireLost(now);
    table.sweep(now);

    let allowed = demand.count;
    let limiting: Limiting | undefined;
    let retryInMs = Infinity;
    if (policy.concurrency !== undefined && policy.concurrency - this.active < allowed) {
      allowed = Math.max(0, policy.concurrency - this.active);
      limiting = 'concurrency';
    }
    if (policy.rate !== undefined) {
      const within = allowedNow(policy.rate, this.tat, now);
      if (within < allowed) {
        allowed = within;
        limiting = 'rate';
        retryInMs = nextAllowed(policy.rate, spend(policy.rate, this.tat, now, within), now) - now;
      }
    }

    let grants: Grant[] = NO_GRANTS;
    while (grants.length < allowed) {
      const entry = pin === undefined ? table.soonest(demand, now) : table.entryFor(pin.egress, pin.weight);
      const at = entry < 0 ? Infinity : slots.usableAt(entry, now);
      if (at > now + demand.horizonMs) {
        limiting = entry >= 0 && slots.cooldownUntil(entry) >= at ? 'cooldown' : 'budget';
        retryInMs = at - now;
        break;
      }
      const route = pin ?? table.routeOf(entry)!;
      const start = at > now ? at : now;
      const grant = new MemoryGrant(this.name, route, pin?.egress ?? table.keyOf(entry), start - now, entry);
      grant.deadline = start + demand.deadlineMs;
      if (policy.spacingMs > 0) grant.spacingMs = policy.spacingMs * (1 + SPACING_JITTER * this.random());
      this.take(grant, start);
      table.rekey(entry, now);
      this.outstanding.push(grant);
      this.active++;
      // Mostly it is one: a literal takes an eighth of the room that the first push makes.
      if (grants === NO_GRANTS) grants = [grant];
      else grants.push(grant);
    }
    if (grants.length > 0 && policy.rate !== undefined) this.tat = spend(policy.rate, this.tat, now, grants.length);
    return { grants, retryInMs, limiting: grants.length === demand.count ? undefined : limiting };
  }

  bind(grant: Grant, egress: string, now: number): Binding {
    const held = grant as MemoryGrant;
    const { table } = this;
    if (held.phase !== HELD) return { ok: false, retryInMs: 0, duplicate: false };
    // The grant's own slot says nothing against the egress it is on: only a cooldown that came since does.
    if (held.egress === egress) return this.confirm(held, table.slots.cooldownUntil(held.entry), now, false);

    const { route, entry: from } = held;
    const to = table.entryFor(egress, 1);
    const other = table.routeOf(to);
    const duplicate = other !== undefined && other !== route && isLive(other, now);
    const at = table.slots.usableAt(to, now);
    if (at <= now) {
      this.giveBack(held, now);
      held.entry = to;
      held.egress = egress;
      this.take(held, now);
      this.futile = 0;
    } else if (route.weight === Infinity) {
      const pauseMs = Math.min(1, FUTILE_SHARE * 2 ** this.futile++) * this.policy.windowMs;
      table.slots.cooldown(from, now + Math.min(pauseMs, at - now));
    }
    if (route.weight === 1) table.moveRoute(route, from, to, egress, now);
    return this.confirm(held, at, now, duplicate);
  }

  settle(reports: readonly Report[], now: number): readonly Verdict[] {
    const { slots } = this.table;
    let verdicts: Verdict[] | undefined;
    for (const report of reports) {
      const held = report.grant as MemoryGrant;
      if (held.phase === HELD) {
        held.phase = COOLED;
        slots.cool(held.entry, now + report.graceMs);
        this.quietFrom(now + report.graceMs + slots.windowMs);
        const forMs = report.retryAfterMs ?? (report.outcome === 'rate-limited' ? slots.windowMs : 0);
        if (forMs > 0) {
          slots.cooldown(held.entry, now + forMs);
          this.quietFrom(now + forMs);
          verdicts ??= [];
          verdicts.push({ kind: 'cooldown', target: this.name, egress: held.egress, forMs });
        }
        this.table.rekey(held.entry, now);
      }
      if (report.end && held.phase === COOLED) {
        held.phase = OVER;
        this.active--;
      }
    }
    return verdicts ?? NO_VERDICTS;
  }

  cancel(grants: readonly Grant[], now: number): void {
    for (const grant of grants) {
      const held = grant as MemoryGrant;
      if (held.phase !== HELD) continue;
      held.phase = OVER;
      this.active--;
      if (this.policy.rate !== undefined) this.tat = refund(this.policy.rate, this.tat);
      this.giveBack(held, now);
    }
  }

  /** Whether forgetting this target would change no decision. */
  idle(now: number): boolean {
    return this.active === 0 && this.quietAt <= now && this.tat <= now;
  }

  inspect(now: number): TargetSnapshot {
    return { target: this.name, active: this.active, egresses: this.table.inspect(now) };
  }

  private take(grant: MemoryGrant, start: number): void {
    const { slots } = this.table;
    grant.spacedBefore = slots.spacedUntil(grant.entry);
    grant.spacedUntil = start + grant.spacingMs;
    slots.take(grant.entry, grant.spacedUntil);
    this.quietFrom(grant.spacedUntil);
  }

  private giveBack(grant: MemoryGrant, now: number): void {
    this.table.slots.giveBack(grant.entry, grant.spacedUntil, grant.spacedBefore);
    this.table.rekey(grant.entry, now);
  }

  /** The second half of a bind: keep the permit when its egress is usable now, else take it back. */
  private confirm(grant: MemoryGrant, usableAt: number, now: number, duplicate: boolean): Binding {
    if (usableAt <= now) {
      this.table.rekey(grant.entry, now);
      return { ok: true, retryInMs: 0, duplicate };
    }
    this.cancel([grant], now);
    return { ok: false, retryInMs: usableAt - now, duplicate };
  }

  private quietFrom(at: number): void {
    if (at > this.quietAt) this.quietAt = at;
  }

  /** Grants whose holder never settled: the request may have been sent until the deadline, so the slot cools from there. */
  private expireLost(now: number): void {
    const { outstanding } = this;
    const { slots } = this.table;
    while (this.oldest < outstanding.length) {
      const grant = outstanding[this.oldest];
      if (grant.phase === HELD) {
        if (grant.deadline > now) break;
        grant.phase = OVER;
        this.active--;
        slots.cool(grant.entry, grant.deadline);
        this.quietFrom(grant.deadline + slots.windowMs);
        this.table.rekey(grant.entry, now);
      }
      this.oldest++;
    }
    if (this.oldest > 1024 && this.oldest * 2 > outstanding.length) {
      outstanding.splice(0, this.oldest);
      this.oldest = 0;
    }
  }
}
