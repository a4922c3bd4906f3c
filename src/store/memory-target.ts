import type { Random } from '../clock.ts';
import { EgressTable, isLive } from './egress-table.ts';
import { COOLED, HELD, MemoryGrant, Outstanding, OVER } from './permits.ts';
import { allowedNow, nextAllowed, type Rate, refund, spend } from './rate.ts';
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

/** `even` spacing is stretched by up to this share, so that many egresses do not fall into step. */
const SPACING_JITTER = 0.04;

/** After an exit came up that is over budget, the next blind dial waits: this share of the window, doubled each time, at most the window. */
const FUTILE_SHARE = 1 / 256;

const NO_VERDICTS: readonly Verdict[] = [];
const NO_GRANTS: Grant[] = [];

/** The permits of one target: slots, rate and concurrency decided together. No I/O; time is passed in. */
export class MemoryTarget {
  private readonly name: string;
  private readonly random: Random;
  private readonly table: EgressTable;
  private policy: Policy;
  private readonly outstanding = new Outstanding();
  /** Permits not over. */
  private active = 0;
  /** Of the rate: theoretical arrival time, last spending, and all that was ever refunded. */
  private tat = -Infinity;
  private spentAt = -Infinity;
  private refundedMs = 0;
  /** From then on nothing cools any more, if nothing else happens. */
  private quietAt = -Infinity;
  /** Blind dials in a row that came up over budget; those of long ago do not count. */
  private futile = 0;
  private futileUntil = -Infinity;

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
    const { rate } = policy;
    this.policy = policy;
    this.expireLost(now);
    if (slots.limit !== policy.limit || slots.windowMs !== policy.windowMs) this.retune(policy, now);
    table.sweep(now);

    let allowed = demand.count;
    let limiting: Limiting | undefined;
    let retryInMs = Infinity;
    if (policy.concurrency !== undefined && policy.concurrency - this.active < allowed) {
      allowed = Math.max(0, policy.concurrency - this.active);
      limiting = 'concurrency';
    }

    let grants: Grant[] = NO_GRANTS;
    while (grants.length < allowed) {
      if (rate !== undefined && allowedNow(rate, this.tat, now) === 0) {
        limiting = 'rate';
        retryInMs = nextAllowed(rate, this.tat, now) - now;
        break;
      }
      const entry = pin === undefined ? table.soonest(demand, now) : table.entryFor(pin.egress, pin.weight);
      const at = entry < 0 ? Infinity : slots.usableAt(entry, now);
      if (at > now + demand.horizonMs) {
        limiting = entry >= 0 && slots.cooldownUntil(entry) >= at ? 'cooldown' : 'budget';
        retryInMs = at - now;
        break;
      }
      const route = pin ?? table.routeTo(entry, demand.pool)!;
      const start = at > now ? at : now;
      const egress = pin?.egress ?? table.keyOf(entry);
      const grant = new MemoryGrant(this.name, route, egress, start - now, entry, start + demand.deadlineMs);
      if (policy.spacingMs > 0) grant.spacingMs = policy.spacingMs * (1 + SPACING_JITTER * this.random());
      this.take(grant, start);
      if (rate !== undefined) this.spendRate(rate, grant, start);
      table.rekey(entry, now);
      this.outstanding.add(grant);
      this.active++;
      // Mostly it is one: a literal takes an eighth of the room that the first push makes.
      if (grants === NO_GRANTS) grants = [grant];
      else grants.push(grant);
    }
    return { grants, retryInMs, limiting: grants.length === demand.count ? undefined : limiting };
  }

  bind(grant: Grant, egress: string, now: number): Binding {
    const held = grant as MemoryGrant;
    const { table } = this;
    this.expireLost(now);
    if (held.phase !== HELD) return { ok: false, retryInMs: 0, duplicate: false };
    // The grant's own slot says nothing against the egress it is on: only a cooldown that came since does.
    if (held.egress === egress) return this.confirm(held, table.slots.cooldownUntil(held.entry), now, false);

    const { route, entry: from } = held;
    const to = table.entryFor(egress, 1);
    const other = table.routeTo(to, route.pool);
    const duplicate = other !== undefined && other !== route && isLive(other, now);
    const at = table.slots.usableAt(to, now);
    if (at <= now) {
      this.giveBack(held, now);
      held.entry = to;
      held.egress = egress;
      this.take(held, now);
      this.futile = 0;
    } else if (route.weight === Infinity) {
      const { windowMs } = this.policy;
      if (this.futileUntil <= now) this.futile = 0;
      const pauseMs = Math.min(1, FUTILE_SHARE * 2 ** this.futile++) * windowMs;
      table.slots.cooldown(from, now + Math.min(pauseMs, at - now));
      this.futileUntil = now + pauseMs + windowMs;
      this.quietFrom(this.futileUntil);
    }
    if (route.weight === 1) table.moveRoute(route, from, to, egress, now);
    return this.confirm(held, at, now, duplicate);
  }

  settle(reports: readonly Report[], now: number): readonly Verdict[] {
    const { slots } = this.table;
    this.expireLost(now);
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
    this.expireLost(now);
    for (const grant of grants) {
      const held = grant as MemoryGrant;
      if (held.phase !== HELD) continue;
      held.phase = OVER;
      this.active--;
      this.refundRate(held);
      this.giveBack(held, now);
    }
  }

  /** Whether forgetting this target would change no decision. */
  idle(now: number): boolean {
    this.expireLost(now);
    return this.active === 0 && this.quietAt <= now && this.tat <= now;
  }

  inspect(now: number): TargetSnapshot {
    this.expireLost(now);
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

  /** Permits never settled: the request may have been sent until the deadline, so the slot cools from there. */
  private expireLost(now: number): void {
    const { slots } = this.table;
    for (let lost = this.outstanding.overdue(now); lost !== undefined; lost = this.outstanding.overdue(now)) {
      lost.phase = OVER;
      this.active--;
      slots.cool(lost.entry, lost.deadline);
      this.quietFrom(lost.deadline + slots.windowMs);
      this.table.rekey(lost.entry, now);
    }
  }

  private spendRate(rate: Rate, grant: MemoryGrant, start: number): void {
    this.tat = spend(rate, this.tat, start, 1);
    if (start > this.spentAt) this.spentAt = start;
    grant.rateMark = this.tat + this.refundedMs;
  }

  private refundRate(grant: MemoryGrant): void {
    const { rate } = this.policy;
    if (rate === undefined || grant.rateMark === undefined) return;
    const left = refund(rate, this.tat, grant.rateMark - this.refundedMs, this.spentAt);
    this.refundedMs += this.tat - left;
    this.tat = left;
  }

  /** Another limit or window than before: what cools may cool for longer, and every egress is usable at another time. */
  private retune({ limit, windowMs }: Policy, now: number): void {
    const { slots } = this.table;
    this.quietAt += Math.max(0, windowMs - slots.windowMs);
    slots.limit = limit;
    slots.windowMs = windowMs;
    this.table.rekeyAll(now);
  }
}
