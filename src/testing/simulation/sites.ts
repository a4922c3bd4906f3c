import type { Random } from '../../clock.ts';
import { invalid, nonNegative, positive, within } from '../../validate.ts';

/** How one simulated site treats its visitors. All times in milliseconds. */
export interface SimulatedSiteOptions {
  /** What it lets one IP do in any half-open window; beyond it answers 429. @default no limit */
  readonly budget?: { readonly limit: number; readonly windowMs: number };
  /** Whether a 429 says when to come back. @default true */
  readonly retryAfter?: boolean;
  /**
   * Under load it becomes stricter: above `perMinute` arrivals from all IPs together, the limit of each is multiplied by `factor`
   * until the load has been below for a minute.
   */
  readonly tightens?: { readonly perMinute: number; readonly factor: number };
  /** An IP that came this often too early within `withinMs` is banned for `forMs`: 403 on everything. */
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
  strikes: number;
  struckAt: number;
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
  /** Arrivals beyond the budget as it stands without any tightening. */
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
  /** Arrivals of this minute and of the last. */
  private minute = 0;
  private thisMinute = 0;
  private lastMinute = 0;

  constructor(options: SimulatedSiteOptions, random: Random) {
    checkSite(options);
    this.options = options;
    this.random = random;
  }

  /** The limit of one IP as it stands. */
  limitAt(now: number): number {
    const { budget, tightens } = this.options;
    if (budget === undefined) return Infinity;
    if (tightens === undefined || this.load(now) <= tightens.perMinute) return budget.limit;
    return Math.max(1, Math.floor(budget.limit * tightens.factor));
  }

  /** A request arrives. */
  arrive(ip: string, now: number): SiteAnswer {
    const { options, counts } = this;
    counts.arrivals++;
    const visitor = this.visitor(ip);
    this.load(now);
    this.thisMinute++;
    const outage = options.outages?.find(({ fromMs, toMs }) => now >= fromMs && now < toMs);
    if (outage !== undefined) return this.fail(outage.status ?? 503);
    if (visitor.bannedUntil > now) {
      counts.blocked++;
      return this.answer(403, {});
    }
    if (options.budget !== undefined) {
      const refusal = this.overBudget(visitor, now, options.budget);
      if (refusal !== undefined) return refusal;
    }
    if (this.random() < (options.errors ?? 0)) return this.fail(503);
    counts.ok++;
    return this.answer(200, {}, options.pageBytes ?? 20_000);
  }

  private overBudget(
    visitor: Visitor,
    now: number,
    budget: NonNullable<SimulatedSiteOptions['budget']>,
  ): SiteAnswer | undefined {
    const { options, counts } = this;
    const { times } = visitor;
    while (visitor.first < times.length && times[visitor.first] <= now - budget.windowMs) visitor.first++;
    const recent = times.length - visitor.first;
    if (recent >= budget.limit) counts.overBudget++;
    const limit = this.limitAt(now);
    if (recent >= limit) {
      counts.limited++;
      this.strike(visitor, now);
      const waitMs = times[times.length - limit] + budget.windowMs - now;
      return this.answer(429, options.retryAfter === false ? {} : { 'retry-after': String(Math.ceil(waitMs / 1000)) });
    }
    if (recent >= 0.9 * limit - 1 && this.random() < (options.challenges ?? 0)) {
      counts.challenged++;
      this.strike(visitor, now);
      return this.answer(403, { 'cf-mitigated': 'challenge' });
    }
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
    if (now - visitor.struckAt > bans.withinMs) visitor.strikes = 0;
    visitor.struckAt = now;
    if (++visitor.strikes < bans.after) return;
    visitor.strikes = 0;
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
      visitor = { times: [], first: 0, strikes: 0, struckAt: -Infinity, bannedUntil: -Infinity };
      this.visitors.set(ip, visitor);
    }
    return visitor;
  }

  /** Arrivals in the minute behind `now`, by the weighted two-bucket count: good enough for a temper. */
  private load(now: number): number {
    const minute = Math.floor(now / 60_000);
    if (minute !== this.minute) {
      this.lastMinute = minute === this.minute + 1 ? this.thisMinute : 0;
      this.thisMinute = 0;
      this.minute = minute;
    }
    return this.thisMinute + this.lastMinute * (1 - (now / 60_000 - minute));
  }
}

/** A standard normal deviate (Box and Muller, 1958). */
function gaussian(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

function checkSite({ budget, tightens, bans, challenges, errors, latency, outages }: SimulatedSiteOptions): void {
  if (budget !== undefined) {
    if (!Number.isSafeInteger(budget.limit) || budget.limit < 1)
      throw invalid('budget.limit', 'an integer ≥ 1', budget.limit);
    positive('budget.windowMs', budget.windowMs, 'milliseconds');
  }
  if (tightens !== undefined) {
    positive('tightens.perMinute', tightens.perMinute);
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
  for (const { fromMs, toMs } of outages ?? []) {
    if (!(toMs > fromMs)) throw invalid('outages', 'toMs > fromMs', toMs);
  }
}
