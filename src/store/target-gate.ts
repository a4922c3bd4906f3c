import type { Random } from '../clock.ts';
import { type AimdState, aimdCut, aimdLimit, aimdOk, aimdState } from '../limits/aimd.ts';
import {
  type BreakerState,
  breakerDone,
  breakerPass,
  breakerRoom,
  breakerState,
  breakerWaitMs,
  CLOSED,
  FAILURE,
  HALF_OPEN,
  IGNORED,
  OPEN,
  SUCCESS,
} from '../limits/breaker-core.ts';
import { noteLimited, type WideningState, wideningState } from '../limits/cooldown.ts';
import type { MemoryGrant } from './permits.ts';
import { Rates } from './rates.ts';
import type { Demand, Outcome, Policy, QuotaReport, TargetSnapshot } from './store.ts';

/** So many egresses refused within a window, and the limit is not theirs but the target's. */
export const WIDE_EGRESSES = 3;

/** What says that the target is there, if not what it thinks of us; and what says that it is not. */
export const CIRCUIT: Readonly<Record<Outcome, typeof SUCCESS | typeof FAILURE | typeof IGNORED>> = {
  ok: SUCCESS,
  'rate-limited': SUCCESS,
  blocked: SUCCESS,
  challenged: SUCCESS,
  'target-error': FAILURE,
  'network-error': FAILURE,
  'gateway-error': IGNORED,
  ignored: IGNORED,
};

/** What one target allows as a whole, whatever the egress: its rests, its circuit, and the limits that adapt. Time is passed in. */
export class TargetGate {
  /** No request over any egress before: cooldowns that have widened, an account's. */
  private restUntil = -Infinity;
  /** Of an account's quota: the next request, the time between two, and until when that holds. */
  private quotaNextAt = -Infinity;
  private quotaSpacingMs = 0;
  private quotaUntil = -Infinity;
  private readonly rates = new Rates();
  private refused: WideningState<number> | undefined;
  private budget: AimdState | undefined;
  private places: AimdState | undefined;
  private circuit: BreakerState | undefined;
  private failedAt = -Infinity;

  /** Requests per window, as adapted. */
  limit({ limit, adaptBudget }: Policy): number {
    return this.budget === undefined || adaptBudget === undefined ? limit : aimdLimit(this.budget, adaptBudget);
  }

  /** Requests in flight at most, as adapted. */
  concurrency({ concurrency, adaptConcurrency }: Policy): number {
    if (adaptConcurrency === undefined) return concurrency ?? Infinity;
    const limit = this.places === undefined ? adaptConcurrency.start : aimdLimit(this.places, adaptConcurrency);
    return Math.min(limit, concurrency ?? Infinity);
  }

  /** Until when everything rests, permits that are already given included. */
  get restsUntil(): number {
    return this.restUntil;
  }

  /** The earliest time for a request over any egress. */
  openAt(now: number): number {
    const quotaAt = this.quotaUntil > now ? Math.min(this.quotaNextAt, this.quotaUntil) : -Infinity;
    return this.restUntil > quotaAt ? this.restUntil : quotaAt;
  }

  /** The same under the rates that count for a demand: taken all or none, and in full also where less of the slots is taken. */
  openFor({ policy: { rates }, applies, cost }: Demand, now: number): number {
    const at = this.openAt(now);
    return rates.length === 0 ? at : Math.max(at, this.rates.nextAt(rates, applies, cost ?? 1, now));
  }

  /** Requests that the circuit lets through, and when asking again can help. */
  circuitRoom({ breaker }: Policy, now: number): number {
    return this.circuit === undefined || breaker === undefined ? Infinity : breakerRoom(this.circuit, breaker, now);
  }

  circuitWaitMs({ breaker }: Policy, now: number): number {
    return this.circuit === undefined || breaker === undefined ? 0 : breakerWaitMs(this.circuit, breaker, now);
  }

  /** A request is let through: it spends of the rates, and has a ticket for the circuit. */
  pass(grant: MemoryGrant, { policy: { breaker, rates }, applies, cost }: Demand, start: number): void {
    if (this.quotaUntil > start) this.quotaNextAt = start + this.quotaSpacingMs * grant.cost;
    if (rates.length > 0) grant.rateMarks = this.rates.spend(rates, applies, cost ?? 1, start);
    if (this.circuit !== undefined && breaker !== undefined) grant.ticket = breakerPass(this.circuit, breaker, start);
  }

  /** It was never sent after all. */
  giveBack({ rateMarks }: MemoryGrant, { rates }: Policy): void {
    if (rateMarks !== undefined) this.rates.giveBack(rates, rateMarks);
  }

  /** Counts how a request ended. Returns whether the circuit opened or closed by it. */
  done({ breaker }: Policy, ticket: number, outcome: Outcome | undefined, now: number, random: Random): boolean {
    if (breaker === undefined) return false;
    const end = outcome === undefined ? IGNORED : CIRCUIT[outcome];
    // From the first answer on: what failed is a share of all that was sent.
    this.circuit ??= breakerState();
    if (end === FAILURE) this.failedAt = now;
    return breakerDone(this.circuit, breaker, ticket, end, now, random);
  }

  get isOpen(): boolean {
    return this.circuit?.phase === OPEN;
  }

  /** The egress was told to wait until `until`. Returns whether the wait has become the whole target's. */
  limited(policy: Policy, entry: number, until: number, now: number): boolean {
    this.refused ??= wideningState(WIDE_EGRESSES);
    const { scope = 'ip', windowMs } = policy;
    const widened = noteLimited(this.refused, { egresses: WIDE_EGRESSES, windowMs, scope }, entry, until, now);
    if (widened) this.restUntil = Math.max(this.restUntil, this.refused.targetUntil);
    return widened;
  }

  /** What an account has left. Returns whether nothing is. */
  quota({ spacingMs, forMs, exhausted }: QuotaReport, now: number): boolean {
    this.quotaSpacingMs = spacingMs;
    this.quotaUntil = now + forMs;
    this.quotaNextAt = Math.max(this.quotaNextAt, now + spacingMs);
    if (exhausted && this.quotaUntil > this.restUntil) this.restUntil = this.quotaUntil;
    return exhausted;
  }

  /** Whether the budget is below its ceiling: only then does it matter how much of it is used. */
  get hasCutBudget(): boolean {
    return this.budget !== undefined;
  }

  /** A good answer, with `used` slots of its budget in use. Returns whether the limit grew. */
  growBudget({ adaptBudget }: Policy, used: number, now: number): boolean {
    const { budget } = this;
    if (budget === undefined || adaptBudget === undefined || !aimdOk(budget, adaptBudget, used, now)) return false;
    if (budget.limit >= adaptBudget.ceiling) this.budget = undefined;
    return true;
  }

  /** A good answer, with `active` requests in flight. Returns whether there may be more. */
  growConcurrency({ adaptConcurrency }: Policy, active: number, now: number): boolean {
    if (adaptConcurrency === undefined) return false;
    this.places ??= aimdState(adaptConcurrency.start, now);
    return aimdOk(this.places, adaptConcurrency, active, now);
  }

  /** A refusal that blames the budget, of a request that left at `sentAt`. Returns whether it was cut. */
  cutBudget({ adaptBudget }: Policy, sentAt: number, now: number): boolean {
    if (adaptBudget === undefined) return false;
    this.budget ??= aimdState(adaptBudget.ceiling, Number.NEGATIVE_INFINITY);
    return aimdCut(this.budget, adaptBudget, sentAt, now);
  }

  /** The target as a whole objects. Returns whether the requests in flight were cut. */
  cutConcurrency({ adaptConcurrency }: Policy, sentAt: number, now: number): boolean {
    if (adaptConcurrency === undefined) return false;
    this.places ??= aimdState(adaptConcurrency.start, Number.NEGATIVE_INFINITY);
    return aimdCut(this.places, adaptConcurrency, sentAt, now);
  }

  /** Whether forgetting all of this changes no decision. */
  idle(policy: Policy, now: number): boolean {
    if (this.restUntil > now || this.quotaUntil > now || !this.rates.idle(now)) return false;
    if (this.circuit !== undefined) {
      // Closed, it looks back over its window; open, it may be due for its probe for as long as it can be open at all.
      const { windowMs = 0, maxOpenMs = 0 } = policy.breaker ?? {};
      const quietMs = this.circuit.phase === CLOSED ? windowMs : maxOpenMs;
      if (now - Math.max(this.circuit.since, this.failedAt) < quietMs) return false;
    }
    const adapted = (state: AimdState | undefined): boolean =>
      state !== undefined && now - Math.max(state.cutAt, state.cleanSince) < IDLE_WINDOWS * policy.windowMs;
    return !adapted(this.budget) && !(this.places !== undefined && this.cut(policy) && adapted(this.places));
  }

  private cut({ adaptConcurrency }: Policy): boolean {
    return adaptConcurrency !== undefined && aimdLimit(this.places!, adaptConcurrency) < adaptConcurrency.start;
  }

  inspect(policy: Policy, now: number): Pick<TargetSnapshot, 'limit' | 'concurrency' | 'circuit' | 'restMs'> {
    const phase = this.circuit?.phase ?? CLOSED;
    return {
      limit: this.limit(policy),
      concurrency: this.concurrency(policy),
      circuit: phase === CLOSED ? 'closed' : phase === HALF_OPEN ? 'half-open' : 'open',
      restMs: Math.max(0, this.openAt(now) - now, this.circuitWaitMs(policy, now)),
    };
  }
}

/** What was learnt of a target's limits is kept for so many of its windows after the last news. */
export const IDLE_WINDOWS = 10;
