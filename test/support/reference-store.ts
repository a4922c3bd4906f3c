import type { Random } from '../../src/clock.ts';
import { nextAllowed, refund, spend } from '../../src/store/rate.ts';
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
  readonly cost: number;
  /** What it costs of the rates, also when the slots are fewer. */
  readonly units: number;
  rateMarks?: (number | undefined)[];
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
  private readonly tats = [-Infinity, -Infinity];
  private readonly spentAts = [-Infinity, -Infinity];
  private readonly refundedMs = [0, 0];
  /** Refusals, and until when the whole target rests for them. */
  private refusals: { egress: Egress; at: number; until: number }[] = [];
  private restUntil = -Infinity;
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
    const { policy, pin } = demand;
    const units = demand.cost ?? 1;
    const cost = Math.min(units, policy.limit);
    const rates = policy.rates.map((rate, i) => ({ rate, i })).filter(({ i }) => demand.applies?.[i] !== false);
    this.expire(now);
    const changed = policy.limit !== this.policy?.limit || policy.windowMs !== this.policy.windowMs;
    this.policy = policy;
    if (changed) for (const egress of this.egresses) this.touch(egress, now);
    const grants: Permit[] = [];
    const refused = (at: number, ...limiting: Limiting[]) => ({ grants, limiting, retryInMs: at - now });
    while (grants.length < demand.count) {
      if (this.active >= (policy.concurrency ?? Infinity)) return refused(Infinity, 'concurrency');
      const allowedAt = Math.max(now, ...rates.map(({ rate, i }) => nextAllowed(rate, this.tats[i], now, units)));
      if (Math.max(allowedAt, this.restUntil) > now) {
        return refused(Math.max(allowedAt, this.restUntil), this.restUntil >= allowedAt ? 'target' : 'rate');
      }
      const best = pin ? [this.egress(pin.egress, pin.weight)] : this.soonest(demand, now);
      const at = Math.min(...best.map((egress) => egress.usableAt(policy, now, cost)));
      if (at === Infinity) return refused(at, 'budget');
      if (at > now + demand.horizonMs) {
        return refused(at, ...best.map(({ cooldownUntil }) => (cooldownUntil >= at ? 'cooldown' : 'budget')));
      }
      const egress = best.find(({ key }) => key === chosen[grants.length]) ?? best[0];
      const start = Math.max(at, now);
      const spacingMs = policy.spacingMs > 0 ? policy.spacingMs * (1 + 0.04 * this.random()) * cost : 0;
      const deadline = start + demand.deadlineMs;
      const route = pin ?? egress.route!;
      const permit: Permit = { route, egress, start, deadline, spacingMs, cost, units, state: 'held' };
      this.take(permit, egress, start, now);
      permit.rateMarks = [];
      for (const { rate, i } of rates) {
        this.tats[i] = spend(rate, this.tats[i], start, units);
        this.spentAts[i] = Math.max(this.spentAts[i], start);
        permit.rateMarks[i] = this.tats[i] + this.refundedMs[i];
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
    const own = to === from ? from.cooldownUntil : to.usableAt(this.policy, now, permit.cost);
    const at = Math.max(this.restUntil, own);
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

  /** Returns the cooldowns, in milliseconds by egress; of all egresses by none. */
  settle(reports: readonly (Omit<Report, 'grant'> & { grant: Permit })[], now: number): [string | undefined, number][] {
    this.expire(now);
    const cooldowns: [string | undefined, number][] = [];
    for (const { grant: permit, outcome, retryAfterMs, graceMs, end } of reports) {
      if (permit.state === 'held') {
        const forMs = retryAfterMs ?? (outcome === 'rate-limited' ? this.policy.windowMs : 0);
        if (forMs > 0) {
          permit.egress.cooldown(now + forMs);
          cooldowns.push([permit.egress.key, forMs]);
          if (outcome === 'rate-limited' && this.widens(permit.egress, now, now + forMs)) {
            cooldowns.push([undefined, this.restUntil - now]);
          }
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
      for (const [i, rate] of this.policy.rates.entries()) {
        const mark = permit.rateMarks?.[i];
        if (mark === undefined) continue;
        const before = this.tats[i];
        this.tats[i] = refund(rate, before, mark - this.refundedMs[i], this.spentAts[i], permit.units);
        this.refundedMs[i] += before - this.tats[i];
      }
      this.giveBack(permit, now);
    }
  }

  /** Three egresses refused within a window are the target's own refusal. */
  private widens(egress: Egress, now: number, until: number): boolean {
    const before = this.refusals.find((one) => one.egress === egress);
    this.refusals = this.refusals.filter((one) => one !== before);
    this.refusals.push({ egress, at: now, until: Math.max(until, before?.until ?? until) });
    this.refusals = this.refusals.slice(-3);
    if (this.refusals.length < 3 || !this.refusals.every(({ at }) => at > now - this.policy.windowMs)) return false;
    const restUntil = Math.max(...this.refusals.map((one) => one.until));
    if (restUntil <= Math.max(now, this.restUntil)) return false;
    this.restUntil = restUntil;
    return true;
  }

  private expire(now: number): void {
    const lost = this.permits.filter(({ state, deadline }) => state === 'held' && deadline <= now);
    for (const permit of lost) this.cool(permit, permit.deadline, 'over', now);
  }

  private cool(permit: Permit, at: number, state: 'cooling' | 'over', now: number): void {
    permit.state = state;
    for (let n = 0; n < permit.cost; n++) permit.egress.cool(this.policy, at);
    this.touch(permit.egress, now);
  }

  private take(permit: Permit, egress: Egress, start: number, now: number): void {
    permit.egress = egress;
    permit.spacedBefore = egress.spacedUntil;
    permit.spacedUntil = start + permit.spacingMs;
    egress.take(permit.spacedUntil, permit.cost);
    this.touch(egress, now);
  }

  private giveBack({ egress, spacedUntil, spacedBefore, cost }: Permit, now: number): void {
    egress.giveBack(spacedUntil!, spacedBefore!, cost);
    this.touch(egress, now);
  }

  /** The best known egress; when it is not usable soon enough, as many new ones as the pool offers until one is. Several when equally good. */
  private soonest(demand: Demand, now: number): Egress[] {
    const cost = Math.min(demand.cost ?? 1, demand.policy.limit);
    // The order of choice is by what was known of an egress when something happened to it last; for more slots than one it is worked out anew.
    const order = (egress: Egress): number =>
      cost === 1 || egress.since === Infinity ? egress.since : egress.usableAt(this.policy, now, cost);
    for (;;) {
      const known = this.egresses.filter(({ route }) => live(route, now) && route?.pool === demand.pool);
      const since = Math.min(...known.map(order));
      const offered = since <= now + demand.patienceMs ? undefined : demand.offer?.(this.cursors.get(demand.pool) ?? 0);
      if (offered === undefined) return known.filter((egress) => order(egress) === since && since < Infinity);
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
