import type { Random } from '../../src/clock.ts';
import { allowedNow, nextAllowed, refund, spend } from '../../src/store/rate.ts';
import type { Binding, Demand, EgressSnapshot, Limiting, Policy, Report, Route } from '../../src/store/store.ts';
import { SlotModel } from './slot-model.ts';

/** A permit of the {@link ReferenceStore}. */
export interface Permit {
  readonly route: Route;
  egress: Egress;
  readonly start: number;
  readonly deadline: number;
  readonly spacingMs: number;
  spacedUntil?: number;
  spacedBefore?: number;
  rateMark?: number;
  state: 'held' | 'cooling' | 'over';
}

class Egress extends SlotModel {
  /** Since when it is usable, or when it will be, as of the last thing that happened to it: the order of choice. */
  since = -Infinity;
  route: Route | undefined;
}

const live = (route: Route | undefined, now: number): boolean =>
  route !== undefined && !route.closed && route.expiresAt > now;

/** One target by the letter of the contract: lists, looked through from end to end. Time is passed in. */
export class ReferenceStore {
  private readonly random: Random;
  private readonly egresses: Egress[] = [];
  private readonly permits: Permit[] = [];
  private readonly cursors = new Map<string, number>();
  private policy!: Policy;
  private tat = -Infinity;
  private spentAt = -Infinity;
  private refundedMs = 0;
  private futile = 0;
  private futileUntil = -Infinity;

  constructor(random: Random) {
    this.random = random;
  }

  inspect(now: number): { active: number; egresses: EgressSnapshot[] } {
    this.expire(now);
    return { active: this.active, egresses: this.egresses.map((egress) => egress.inspect(this.policy, now)) };
  }

  private get active(): number {
    return this.permits.filter(({ state }) => state !== 'over').length;
  }

  /** `chosen`: what the store under test took; where several are equally good, its choice is as good as any. */
  reserve(demand: Demand, now: number, chosen: readonly string[]) {
    const {
      policy,
      policy: { rate },
      pin,
    } = demand;
    this.expire(now);
    const changed = policy.limit !== this.policy?.limit || policy.windowMs !== this.policy.windowMs;
    this.policy = policy;
    if (changed) for (const egress of this.egresses) this.touch(egress, now);
    const grants: Permit[] = [];
    const refused = (at: number, ...limiting: Limiting[]) => ({ grants, limiting, retryInMs: at - now });
    while (grants.length < demand.count) {
      if (this.active >= (policy.concurrency ?? Infinity)) return refused(Infinity, 'concurrency');
      if (rate && allowedNow(rate, this.tat, now) < 1) return refused(nextAllowed(rate, this.tat, now), 'rate');
      const best = pin ? [this.egress(pin.egress, pin.weight)] : this.soonest(demand, now);
      const at = Math.min(...best.map((egress) => egress.usableAt(policy, now)));
      if (at === Infinity) return refused(at, 'budget');
      if (at > now + demand.horizonMs) {
        return refused(at, ...best.map(({ cooldownUntil }) => (cooldownUntil >= at ? 'cooldown' : 'budget')));
      }
      const egress = best.find(({ key }) => key === chosen[grants.length]) ?? best[0];
      const start = Math.max(at, now);
      const spacingMs = policy.spacingMs > 0 ? policy.spacingMs * (1 + 0.04 * this.random()) : 0;
      const deadline = start + demand.deadlineMs;
      const permit: Permit = { route: pin ?? egress.route!, egress, start, deadline, spacingMs, state: 'held' };
      this.take(permit, egress, start, now);
      if (rate) {
        this.tat = spend(rate, this.tat, start, 1);
        this.spentAt = Math.max(this.spentAt, start);
        permit.rateMark = this.tat + this.refundedMs;
      }
      this.permits.push(permit);
      grants.push(permit);
    }
    return { grants, limiting: [undefined], retryInMs: Infinity };
  }

  bind(permit: Permit, key: string, now: number): Binding {
    this.expire(now);
    const { route, egress: from } = permit;
    if (permit.state !== 'held') return { ok: false, retryInMs: 0, duplicate: false };
    const to = this.egress(key, 1);
    const at = to === from ? from.cooldownUntil : to.usableAt(this.policy, now);
    const duplicate = to !== from && to.route !== route && to.route?.pool === route.pool && live(to.route, now);
    if (to !== from && at <= now) {
      this.giveBack(permit, now);
      this.take(permit, to, now, now);
      this.futile = 0;
    } else if (to !== from && route.weight === Infinity) {
      if (this.futileUntil <= now) this.futile = 0;
      const pauseMs = Math.min(1, 2 ** this.futile++ / 256) * this.policy.windowMs;
      from.cooldown(now + Math.min(pauseMs, at - now));
      this.futileUntil = now + pauseMs + this.policy.windowMs;
    }
    if (to !== from && route.weight === 1) {
      if (from.route === route) from.route = undefined;
      if (route.shared && live(route, now)) this.lead(route, to, now);
    }
    if (at > now) this.cancel([permit], now);
    else this.touch(permit.egress, now);
    return { ok: at <= now, retryInMs: at <= now ? 0 : at - now, duplicate };
  }

  /** Returns the cooldowns, in milliseconds by egress. */
  settle(reports: readonly (Omit<Report, 'grant'> & { grant: Permit })[], now: number): [string, number][] {
    this.expire(now);
    const cooldowns: [string, number][] = [];
    for (const { grant: permit, outcome, retryAfterMs, graceMs, end } of reports) {
      if (permit.state === 'held') {
        const forMs = retryAfterMs ?? (outcome === 'rate-limited' ? this.policy.windowMs : 0);
        if (forMs > 0) {
          permit.egress.cooldown(now + forMs);
          cooldowns.push([permit.egress.key, forMs]);
        }
        this.cool(permit, now + graceMs, 'cooling', now);
      }
      if (end && permit.state === 'cooling') permit.state = 'over';
    }
    return cooldowns;
  }

  cancel(permits: readonly Permit[], now: number): void {
    this.expire(now);
    for (const permit of permits.filter(({ state }) => state === 'held')) {
      permit.state = 'over';
      const { rate } = this.policy;
      if (rate && permit.rateMark !== undefined) {
        const before = this.tat;
        this.tat = refund(rate, before, permit.rateMark - this.refundedMs, this.spentAt);
        this.refundedMs += before - this.tat;
      }
      this.giveBack(permit, now);
    }
  }

  private expire(now: number): void {
    const lost = this.permits.filter(({ state, deadline }) => state === 'held' && deadline <= now);
    for (const permit of lost) this.cool(permit, permit.deadline, 'over', now);
  }

  private cool(permit: Permit, at: number, state: 'cooling' | 'over', now: number): void {
    permit.state = state;
    permit.egress.cool(this.policy, at);
    this.touch(permit.egress, now);
  }

  private take(permit: Permit, egress: Egress, start: number, now: number): void {
    permit.egress = egress;
    permit.spacedBefore = egress.spacedUntil;
    permit.spacedUntil = start + permit.spacingMs;
    egress.take(permit.spacedUntil);
    this.touch(egress, now);
  }

  private giveBack({ egress, spacedUntil, spacedBefore }: Permit, now: number): void {
    egress.giveBack(spacedUntil!, spacedBefore!);
    this.touch(egress, now);
  }

  /** The best known egress; when it is not usable soon enough, as many new ones as the pool offers until one is. Several when equally good. */
  private soonest(demand: Demand, now: number): Egress[] {
    for (;;) {
      const known = this.egresses.filter(({ route }) => live(route, now) && route?.pool === demand.pool);
      const since = Math.min(...known.map((egress) => egress.since));
      const offered = since <= now + demand.patienceMs ? undefined : demand.offer?.(this.cursors.get(demand.pool) ?? 0);
      if (offered === undefined) return known.filter((egress) => egress.since === since && since < Infinity);
      this.cursors.set(demand.pool, offered.seq);
      this.lead(offered, this.egress(offered.egress, offered.weight), now);
    }
  }

  private lead(route: Route, egress: Egress, now: number): void {
    if (live(egress.route, now)) return;
    // Cold, and led to by nobody: as if it were new.
    if (egress.idle(this.policy, now)) egress.spacedUntil = egress.cooldownUntil = -Infinity;
    egress.route = route;
    this.touch(egress, now);
  }

  private egress(key: string, weight: number): Egress {
    let egress = this.egresses.find((one) => one.key === key);
    if (egress === undefined) this.egresses.push((egress = new Egress(key, weight)));
    return egress;
  }

  private touch(egress: Egress, now: number): void {
    egress.since = egress.route?.trial && egress.busy > 0 ? Infinity : egress.usableAt(this.policy, now);
  }
}
