import type { Random } from '../../clock.ts';
import { invalid, nonNegative, positive, within } from '../../validate.ts';
import { Recent } from './recent.ts';

/** How one simulated site treats its visitors. All times in milliseconds. */
export interface SimulatedSiteOptions {
  /** What it lets one IP do in any half-open window; beyond it answers 429. @default no limit */
  readonly budget?: { readonly limit: number; readonly windowMs: number };
  /** Whether a 429 says when to come back. @default true */
  readonly retryAfter?: boolean;
  /**
   * It becomes stricter while it is pressed: above `perMinute` arrivals from all IPs together, or while more than `refusedShare` of what its
   * ban list lets through must be refused, the limit of each IP is multiplied by `factor`. Both are counted over the minute behind.
   */
  readonly tightens?: { readonly perMinute?: number; readonly refusedShare?: number; readonly factor: number };
  /** Spells, by its own time since the start, when the limit of each IP is multiplied by `factor`, whoever comes. */
  readonly busy?: readonly { readonly fromMs: number; readonly toMs: number; readonly factor: number }[];
  /** An IP refused or challenged this often within `withinMs` is banned for `forMs`: 403 on everything. */
  readonly bans?: { readonly after: number; readonly withinMs: number; readonly forMs: number };
  /** Share of arrivals that get a challenge page (403, cf-mitigated), from IPs in the last tenth of their budget. @default 0 */
  readonly challenges?: number;
  /** When it is down, by its own time since the start, and with what status. */
  readonly outages?: readonly { readonly fromMs: number; readonly toMs: number; readonly status?: number }[];
  /** Share of arrivals answered with 503 at any time. @default 0 */
  readonly errors?: number;
  /** From the arrival to the answer: median and spread of a log-normal distribution. @default { medianMs: 120, sigma: 0.5 } */
  readonly latency?: { readonly medianMs: number; readonly sigma: number };
  /** Size of a page. @default 20_000 */
  readonly pageBytes?: number;
}

/** What a site answers. */
export interface SiteAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly afterMs: number;
  readonly bytes: number;
}

/** One IP's history at a site. */
interface Visitor {
  /** Arrivals that were let in, the last `limit` of them in a ring. */
  readonly times: number[];
  first: number;
  /** When it was refused or challenged, within the time that counts. */
  readonly strikes: number[];
  /** Its last `limit` arrivals, whatever came of them, in a ring; where the oldest is. */
  readonly arrivals: number[];
  oldest: number;
  bannedUntil: number;
}

/** What a site counted. */
export interface SiteCounts {
  arrivals: number;
  ok: number;
  limited: number;
  blocked: number;
  challenged: number;
  errors: number;
  /** Arrivals that find `limit` others of their IP in the window behind them, whatever those were answered; no tightening counts. */
  overBudget: number;
  /** IPs banned, each ban counted. */
  bans: number;
}

/** A site with a budget for each IP, a temper, and a count of everything. Time is passed in. */
export class SimulatedSite {
  readonly counts: SiteCounts = {
    arrivals: 0,
    ok: 0,
    limited: 0,
    blocked: 0,
    challenged: 0,
    errors: 0,
    overBudget: 0,
    bans: 0,
  };
  private readonly options: SimulatedSiteOptions;
  private readonly random: Random;
  private readonly visitors = new Map<string, Visitor>();
  private readonly arrivals = new Recent();
  private readonly admitted = new Recent();
  private readonly refused = new Recent();

  constructor(options: SimulatedSiteOptions, random: Random) {
    checkSite(options);
    this.options = options;
    this.random = random;
  }

  /** The limit of one IP as it stands. */
  limitAt(now: number): number {
    const { budget, tightens, busy = [] } = this.options;
    if (budget === undefined) return Infinity;
    let { limit } = budget;
    for (const { fromMs, toMs, factor } of busy) if (now >= fromMs && now < toMs) limit *= factor;
    if (tightens !== undefined && this.isPressed(tightens, now)) limit *= tightens.factor;
    return Math.max(1, Math.floor(limit));
  }

  private isPressed(
    { perMinute = Infinity, refusedShare = 1 }: NonNullable<SimulatedSiteOptions['tightens']>,
    now: number,
  ): boolean {
    if (this.arrivals.at(now) > perMinute) return true;
    const refused = this.refused.at(now);
    return refused > refusedShare * (refused + this.admitted.at(now));
  }

  /** A request arrives. */
  arrive(ip: string, now: number): SiteAnswer {
    const { options, counts } = this;
    counts.arrivals++;
    const visitor = this.visitor(ip);
    this.arrivals.add(now);
    if (options.budget !== undefined) this.countOverBudget(visitor, now, options.budget);
    const outage = options.outages?.find(({ fromMs, toMs }) => now >= fromMs && now < toMs);
    if (outage !== undefined) return this.fail(outage.status ?? 503);
    if (visitor.bannedUntil > now) {
      counts.blocked++;
      return this.answer(403, {});
    }
    if (options.budget !== undefined) {
      const refusal = this.refusal(visitor, now, options.budget);
      if (refusal !== undefined) return refusal;
    }
    if (this.random() < (options.errors ?? 0)) return this.fail(503);
    counts.ok++;
    return this.answer(200, {}, options.pageBytes ?? 20_000);
  }

  private countOverBudget(
    visitor: Visitor,
    now: number,
    { limit, windowMs }: NonNullable<SimulatedSiteOptions['budget']>,
  ): void {
    const { arrivals, oldest } = visitor;
    if (arrivals.length === limit && arrivals[oldest] > now - windowMs) this.counts.overBudget++;
    arrivals[oldest] = now;
    visitor.oldest = (oldest + 1) % limit;
  }

  private refusal(
    visitor: Visitor,
    now: number,
    budget: NonNullable<SimulatedSiteOptions['budget']>,
  ): SiteAnswer | undefined {
    const { options, counts } = this;
    const { times } = visitor;
    while (visitor.first < times.length && times[visitor.first] <= now - budget.windowMs) visitor.first++;
    const recent = times.length - visitor.first;
    const limit = this.limitAt(now);
    if (recent >= limit) {
      counts.limited++;
      this.refused.add(now);
      this.strike(visitor, now);
      const waitMs = times[times.length - limit] + budget.windowMs - now;
      return this.answer(429, options.retryAfter === false ? {} : { 'retry-after': String(Math.ceil(waitMs / 1000)) });
    }
    if (recent >= 0.9 * limit - 1 && this.random() < (options.challenges ?? 0)) {
      counts.challenged++;
      this.strike(visitor, now);
      return this.answer(403, { 'cf-mitigated': 'challenge' });
    }
    this.admitted.add(now);
    times.push(now);
    if (visitor.first > 64) {
      times.splice(0, visitor.first);
      visitor.first = 0;
    }
    return undefined;
  }

  private strike(visitor: Visitor, now: number): void {
    const { bans } = this.options;
    if (bans === undefined) return;
    const { strikes } = visitor;
    while (strikes.length > 0 && strikes[0] <= now - bans.withinMs) strikes.shift();
    if (strikes.push(now) < bans.after) return;
    strikes.length = 0;
    visitor.bannedUntil = now + bans.forMs;
    this.counts.bans++;
  }

  private fail(status: number): SiteAnswer {
    this.counts.errors++;
    return this.answer(status, {});
  }

  private answer(status: number, headers: Record<string, string>, bytes = 1000): SiteAnswer {
    const { medianMs, sigma } = this.options.latency ?? { medianMs: 120, sigma: 0.5 };
    return { status, headers, bytes, afterMs: medianMs * Math.exp(sigma * gaussian(this.random)) };
  }

  private visitor(ip: string): Visitor {
    let visitor = this.visitors.get(ip);
    if (visitor === undefined) {
      visitor = { times: [], first: 0, strikes: [], arrivals: [], oldest: 0, bannedUntil: -Infinity };
      this.visitors.set(ip, visitor);
    }
    return visitor;
  }
}

/** A standard normal deviate (Box and Muller, 1958). */
function gaussian(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

function checkSite({ budget, tightens, bans, challenges, errors, latency, outages, busy }: SimulatedSiteOptions): void {
  if (budget !== undefined) {
    if (!Number.isSafeInteger(budget.limit) || budget.limit < 1)
      throw invalid('budget.limit', 'an integer ≥ 1', budget.limit);
    positive('budget.windowMs', budget.windowMs, 'milliseconds');
  }
  if (tightens !== undefined) {
    if (tightens.perMinute !== undefined) positive('tightens.perMinute', tightens.perMinute);
    within('tightens.refusedShare', tightens.refusedShare ?? 1, 0, 1);
    within('tightens.factor', tightens.factor, 0, 1);
  }
  if (bans !== undefined) {
    positive('bans.after', bans.after);
    positive('bans.withinMs', bans.withinMs, 'milliseconds');
    positive('bans.forMs', bans.forMs, 'milliseconds');
  }
  within('challenges', challenges ?? 0, 0, 1);
  within('errors', errors ?? 0, 0, 1);
  if (latency !== undefined) {
    positive('latency.medianMs', latency.medianMs, 'milliseconds');
    nonNegative('latency.sigma', latency.sigma);
  }
  for (const { factor } of busy ?? []) within('busy.factor', factor, 0, 1);
  for (const { fromMs, toMs } of [...(outages ?? []), ...(busy ?? [])]) {
    if (!(toMs > fromMs)) throw invalid('toMs', 'later than fromMs', toMs);
  }
}
