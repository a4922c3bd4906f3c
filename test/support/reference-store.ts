import type { Random } from '../../src/clock.ts';
import type { Demand, Limiting, Policy, Report, Route } from '../../src/store/store.ts';

/** A permit of the {@link ReferenceStore}. */
export interface Permit {
  readonly route: Route;
  egress: string;
  readonly start: number;
  readonly deadline: number;
  readonly spacingMs: number;
  spacedUntil: number;
  spacedBefore: number;
  rateMark: number | undefined;
  state: 'held' | 'cooling' | 'over';
}

interface Egress {
  readonly weight: number;
  busy: number;
  releases: number[];
  spacedUntil: number;
  cooldownUntil: number;
  /** When it becomes, or since when it is usable, as of the last thing that happened to it: the order of choice. */
  since: number;
  readonly routes: Map<string, Route>;
}

const live = (route: Route | undefined, now: number): route is Route =>
  route !== undefined && !route.closed && route.expiresAt > now;

/** One target by the letter of the contract: lists, looked through from end to end. Time is passed in. */
export class ReferenceStore {
  private readonly egresses = new Map<string, Egress>();
  private readonly permits: Permit[] = [];
  private readonly cursors = new Map<string, number>();
  private readonly random: Random;
  private policy: Policy | undefined;
  private tat = -Infinity;
  private spentAt = -Infinity;
  private refundedMs = 0;
  private futile = 0;
  private futileUntil = -Infinity;

  constructor(random: Random) {
    this.random = random;
  }

  get active(): number {
    return this.permits.filter(({ state }) => state !== 'over').length;
  }

  busy(egress: string): number {
    return this.permits.filter((permit) => permit.egress === egress && permit.state === 'held').length;
  }

  /** `chosen`: what the store under test took; where several are equally good, its choice is as good as any. */
  reserve(demand: Demand, now: number, chosen: readonly string[]): { grants: Permit[]; retryInMs: number; limiting: Limiting | undefined } {
    const { policy, pin } = demand;
    const { rate } = policy;
    this.expire(now);
    const changed = policy.limit !== this.policy?.limit || policy.windowMs !== this.policy.windowMs;
    this.policy = policy;
    if (changed) for (const egress of this.egresses.values()) this.touch(egress, now);
    const grants: Permit[] = [];
    const refused = (limiting: Limiting, at: number) => ({ grants, limiting, retryInMs: at - now });
    while (grants.length < demand.count) {
      if (policy.concurrency !== undefined && this.active >= policy.concurrency) return refused('concurrency', Infinity);
      if (rate !== undefined) {
        const interval = rate.windowMs / (rate.limit - rate.burst + 1);
        const at = this.tat - (rate.burst - 1) * interval;
        if (at > now + 1e-9 * interval) return refused('rate', at);
      }
      const key = pin === undefined ? this.soonest(demand, now, chosen[grants.length]) : pin.egress;
      if (key === undefined) return refused('budget', Infinity);
      const egress = this.egress(key, pin?.weight ?? 1);
      const at = this.usableAt(egress, now);
      if (at > now + demand.horizonMs) return refused(egress.cooldownUntil >= at ? 'cooldown' : 'budget', at);
      const start = Math.max(at, now);
      const spacingMs = policy.spacingMs > 0 ? policy.spacingMs * (1 + 0.04 * this.random()) : 0;
      const permit: Permit = {
        route: pin ?? egress.routes.get(demand.pool)!,
        egress: key,
        start,
        deadline: start + demand.deadlineMs,
        spacingMs,
        spacedUntil: 0,
        spacedBefore: 0,
        rateMark: undefined,
        state: 'held',
      };
      this.take(permit, egress, start, now);
      if (rate !== undefined) {
        this.tat = Math.max(this.tat, start) + rate.windowMs / (rate.limit - rate.burst + 1);
        this.spentAt = Math.max(this.spentAt, start);
        permit.rateMark = this.tat + this.refundedMs;
      }
      this.permits.push(permit);
      grants.push(permit);
    }
    return { grants, retryInMs: Infinity, limiting: undefined };
  }

  bind(permit: Permit, key: string, now: number): { ok: boolean; retryInMs: number; duplicate: boolean } {
    this.expire(now);
    if (permit.state !== 'held') return { ok: false, retryInMs: 0, duplicate: false };
    const from = this.egress(permit.egress, 1);
    const { route } = permit;
    let at = from.cooldownUntil;
    let duplicate = false;
    if (permit.egress !== key) {
      const to = this.egress(key, 1);
      const other = to.routes.get(route.pool);
      duplicate = other !== route && live(other, now);
      at = this.usableAt(to, now);
      if (at <= now) {
        this.giveBack(permit, now);
        permit.egress = key;
        this.take(permit, to, now, now);
        this.futile = 0;
      } else if (route.weight === Infinity) {
        const { windowMs } = this.policy!;
        if (this.futileUntil <= now) this.futile = 0;
        const pauseMs = Math.min(1, 2 ** this.futile++ / 256) * windowMs;
        from.cooldownUntil = Math.max(from.cooldownUntil, now + Math.min(pauseMs, at - now));
        this.futileUntil = now + pauseMs + windowMs;
      }
      if (route.weight === 1) {
        if (from.routes.get(route.pool) === route) from.routes.delete(route.pool);
        if (route.shared && live(route, now)) this.lead(route, key, now);
      }
    }
    if (at > now) {
      this.cancel([permit], now);
      return { ok: false, retryInMs: at - now, duplicate };
    }
    this.touch(this.egress(permit.egress, 1), now);
    return { ok: true, retryInMs: 0, duplicate };
  }

  settle(reports: readonly (Omit<Report, 'grant'> & { grant: Permit })[], now: number): { egress: string; forMs: number }[] {
    this.expire(now);
    const cooldowns: { egress: string; forMs: number }[] = [];
    for (const { grant: permit, outcome, retryAfterMs, graceMs, end } of reports) {
      if (permit.state === 'held') {
        this.release(permit, now + graceMs, 'cooling');
        const forMs = retryAfterMs ?? (outcome === 'rate-limited' ? this.policy!.windowMs : 0);
        const egress = this.egress(permit.egress, 1);
        if (forMs > 0) {
          egress.cooldownUntil = Math.max(egress.cooldownUntil, now + forMs);
          cooldowns.push({ egress: permit.egress, forMs });
        }
        this.touch(egress, now);
      }
      if (end && permit.state === 'cooling') permit.state = 'over';
    }
    return cooldowns;
  }

  cancel(permits: readonly Permit[], now: number): void {
    this.expire(now);
    for (const permit of permits) {
      if (permit.state !== 'held') continue;
      permit.state = 'over';
      const rate = this.policy?.rate;
      if (rate !== undefined && permit.rateMark !== undefined) {
        const spare = permit.rateMark - this.refundedMs - this.spentAt;
        const back = Math.min(rate.windowMs / (rate.limit - rate.burst + 1), Math.max(0, spare));
        this.tat -= back;
        this.refundedMs += back;
      }
      this.giveBack(permit, now);
    }
  }

  private expire(now: number): void {
    const lost = this.permits.filter(({ state, deadline }) => state === 'held' && deadline <= now);
    for (const permit of lost) {
      this.release(permit, permit.deadline, 'over');
      this.touch(this.egress(permit.egress, 1), now);
    }
  }

  private release(permit: Permit, at: number, state: 'cooling' | 'over'): void {
    const egress = this.egress(permit.egress, 1);
    egress.busy--;
    egress.releases.push(at);
    permit.state = state;
  }

  private take(permit: Permit, egress: Egress, start: number, now: number): void {
    egress.busy++;
    permit.spacedBefore = egress.spacedUntil;
    egress.spacedUntil = permit.spacedUntil = start + permit.spacingMs;
    this.touch(egress, now);
  }

  private giveBack(permit: Permit, now: number): void {
    const egress = this.egress(permit.egress, 1);
    egress.busy--;
    if (egress.spacedUntil === permit.spacedUntil) egress.spacedUntil = permit.spacedBefore;
    this.touch(egress, now);
  }

  /** The best known egress; when it is not usable soon enough, as many new ones as the pool offers until one is. */
  private soonest(demand: Demand, now: number, chosen: string | undefined): string | undefined {
    for (;;) {
      let best: string | undefined;
      let since = Infinity;
      for (const [key, egress] of this.egresses) {
        const route = egress.routes.get(demand.pool);
        if (!live(route, now) || egress.since === Infinity) continue;
        if (egress.since < since || (egress.since === since && key === chosen)) {
          best = key;
          since = egress.since;
        }
      }
      if (since <= now + demand.patienceMs) return best;
      const offered = demand.offer?.(this.cursors.get(demand.pool) ?? 0);
      if (offered === undefined) return best;
      this.cursors.set(demand.pool, offered.seq);
      this.lead(offered, offered.egress, now);
    }
  }

  private lead(route: Route, key: string, now: number): void {
    const egress = this.egress(key, route.weight);
    if (live(egress.routes.get(route.pool), now)) return;
    // Cold, and led to by nobody: as if it were new.
    if (this.remaining(egress, now) === this.slots(egress) && Math.max(egress.spacedUntil, egress.cooldownUntil) <= now) {
      egress.spacedUntil = egress.cooldownUntil = -Infinity;
    }
    egress.routes.set(route.pool, route);
    this.touch(egress, now);
  }

  private egress(key: string, weight: number): Egress {
    let egress = this.egresses.get(key);
    if (egress === undefined) {
      egress = { weight, busy: 0, releases: [], spacedUntil: -Infinity, cooldownUntil: -Infinity, since: -Infinity, routes: new Map() };
      this.egresses.set(key, egress);
    }
    return egress;
  }

  private slots({ weight }: Egress): number {
    return this.policy!.limit * weight;
  }

  private cooling({ releases }: Egress, now: number): number[] {
    return releases.filter((at) => at + this.policy!.windowMs > now).sort((a, b) => a - b);
  }

  private remaining(egress: Egress, now: number): number {
    return this.slots(egress) === Infinity && egress.busy > 0 ? 0 : this.slots(egress) - egress.busy - this.cooling(egress, now).length;
  }

  private usableAt(egress: Egress, now: number): number {
    const at = Math.max(egress.spacedUntil, egress.cooldownUntil);
    const cooling = this.cooling(egress, now);
    const missing = egress.busy + cooling.length + 1 - this.slots(egress);
    if (missing <= 0) return at;
    return missing > cooling.length ? Infinity : Math.max(at, cooling[missing - 1] + this.policy!.windowMs);
  }

  private touch(egress: Egress, now: number): void {
    const trial = [...egress.routes.values()].some((route) => route.trial);
    egress.since = trial && egress.busy > 0 ? Infinity : this.usableAt(egress, now);
  }
}
