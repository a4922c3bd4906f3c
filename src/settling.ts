import type { IncomingHttpHeaders } from 'node:http';
import { mayHoldQuota, quotaReport } from './headers/quota-report.ts';
import { retryAfterOf } from './headers/retry-after-of.ts';
import { outcomeOf, type ResponseFacts } from './outcome.ts';
import { ANSWERED, DIALING, OVER, Passage, WAITING } from './passage.ts';
import type { Traffic } from './stats.ts';
import type { Outcome, QuotaReport } from './store/store.ts';

/** GitHub's secondary limits may say nothing of how long: "wait at least one minute", its documentation says. */
const GITHUB_SECONDARY_MS = 60_000;

/** How long a refusal asks to be left alone that does not say so itself. */
export function unsaidRestMs(outcome: Outcome, quota: QuotaReport | undefined, headers: object): number | undefined {
  const silent = outcome === 'rate-limited' && quota === undefined && 'x-github-request-id' in headers;
  return silent ? GITHUB_SECONDARY_MS : undefined;
}

/** What a request came to, and who is told: the store for its permit, the statistics, those who listen. */
export abstract class Settling extends Passage {
  protected sentAt = 0;
  private latencyMs = 0;
  private retryAfterMs: number | undefined;
  private quota: QuotaReport | undefined;
  /** The status of an ordinary answer that nobody knows of yet. */
  private untold: number | undefined;

  /** Gives up before undici has the request; what it holds goes back. */
  abandon(reason: Error): void {
    if (this.state === OVER) return;
    const { engine } = this;
    if (this.state === WAITING) engine.admission.leave(this);
    else {
      const { dial } = this;
      this.gatewayDid('ignored');
      this.state = OVER;
      dial?.abort(reason);
      engine.admission.cancel(this.queue, this.grant);
      this.state = DIALING;
    }
    this.call.outcome = 'ignored';
    this.fail(reason);
  }

  /** The request is on its way; told once a permit, whoever holds it. */
  protected announce(): void {
    const { engine, target, pool, route, grant, waitedMs } = this;
    if (this.told || !engine.events.wants('admit')) return;
    this.told = true;
    engine.events.emit('admit', {
      target: target.name,
      tier: target.tier,
      pool: pool.name,
      session: route.session,
      egress: grant.egress,
      waitedMs,
    });
  }

  /** The headers are here. */
  protected answer(status: number, headers: IncomingHttpHeaders): ResponseFacts {
    const { engine, call, queue } = this;
    this.state = ANSWERED;
    this.latencyMs = engine.clock.now() - this.sentAt;
    // The slowest lately: an old maximum fades, a new one counts at once.
    queue.slowestMs = Math.max(this.latencyMs, queue.slowestMs * 0.995);
    const { retryAfterCapMs } = engine.options.retry;
    if (status >= 300) this.retryAfterMs = retryAfterOf(headers, engine.clock.wallNow(), retryAfterCapMs);
    if (mayHoldQuota(headers)) this.quota = quotaReport(headers, engine.clock.wallNow(), retryAfterCapMs);
    const { url } = this;
    call.requestedUrl ??= url;
    return { url, requestedUrl: call.requestedUrl, method: this.options.method, status, headers };
  }

  /** The egress is to rest from now on: that cannot wait for a body. */
  protected get asksForRest(): boolean {
    return this.retryAfterMs !== undefined || this.quota?.exhausted === true;
  }

  /** All is known that a verdict needs, at once or after a look at the body: the slot begins to cool. */
  protected judged(facts: ResponseFacts): void {
    const { engine, call } = this;
    const outcome = outcomeOf(facts, engine.options.classify);
    const retryAfterMs = this.retryAfterMs ?? unsaidRestMs(outcome, this.quota, facts.headers);
    call.outcome = outcome;
    call.retryAfterMs = retryAfterMs;
    if (outcome === 'ok' && retryAfterMs === undefined && this.quota === undefined) {
      this.untold = facts.status;
      engine.justAnswered.add(this);
      return;
    }
    this.settle(outcome, retryAfterMs, 0, false, this.quota);
    this.report(outcome, facts.status, this.latencyMs);
  }

  tell(): void {
    if (this.untold === undefined) return;
    this.settle('ok', undefined, 0, false);
    this.reportAnswer();
  }

  /** The response is over: its place among the concurrent ones is free. What it was is still to be reported then, where nobody knows. */
  protected ended(): void {
    this.settle(this.untold === undefined ? undefined : 'ok', undefined, 0, true);
  }

  protected reportAnswer(): void {
    const status = this.untold;
    if (status === undefined) return;
    this.untold = undefined;
    this.report('ok', status, this.latencyMs);
  }

  protected settle(
    outcome: Outcome | undefined,
    retryAfterMs: number | undefined,
    graceMs: number,
    end: boolean,
    quota?: QuotaReport,
  ): void {
    // "At once" is not what a refusal means: it is one even share of the window.
    const { limit, windowMs } = this.queue.policy;
    const restMs = retryAfterMs === 0 && outcome === 'rate-limited' ? windowMs / limit : retryAfterMs;
    this.engine.admission.settle(this.queue, { grant: this.grant, outcome, retryAfterMs: restMs, quota, graceMs, end });
  }

  protected get atTarget(): Traffic {
    return (this.queue.traffic ??= this.engine.stats.target(this.queue.key));
  }

  protected get overPool(): Traffic {
    return (this.pool.traffic ??= this.engine.stats.pool(this.pool.name));
  }

  /** `countedMs`: what of the time counts as the target's latency. */
  protected report(
    outcome: Outcome,
    status: number | undefined,
    latencyMs: number,
    countedMs: number = latencyMs,
  ): void {
    const { engine, target, pool, route, grant } = this;
    const { stats } = engine;
    const tell = stats.settled(this.atTarget, this.overPool, grant.egress, outcome, countedMs, this.waitedMs);
    if (tell && engine.events.wants('health')) engine.events.emit('health', stats.egresses());
    if (outcome === 'blocked' || outcome === 'challenged') this.call.refusedBy = pool.hasOthers ? undefined : pool;
    const step = this.queue.ladder?.note(pool, grant.egress, outcome);
    if (step !== undefined) engine.moved(this.queue, step);
    if (!engine.events.wants('settle')) return;
    engine.events.emit('settle', {
      target: target.name,
      pool: pool.name,
      session: route.session,
      egress: grant.egress,
      outcome,
      status,
      latencyMs,
    });
  }
}
