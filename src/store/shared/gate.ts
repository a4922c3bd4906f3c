import { type AimdState, aimdCut, aimdLimit, aimdOk, aimdState } from '../../limits/aimd.ts';
import {
  breakerDone,
  breakerPass,
  breakerRoom,
  breakerState,
  breakerWaitMs,
  CLOSED,
  FAILURE,
  IGNORED,
  OPEN,
} from '../../limits/breaker-core.ts';
import { noteLimited, type WideningState } from '../../limits/cooldown.ts';
import type { Outcome, QuotaReport } from '../store.ts';
import { CIRCUIT, IDLE_WINDOWS, WIDE_EGRESSES } from '../target-gate.ts';
import { type Decision, type GateRow, NEVER, type PermitRow } from './rows.ts';
import type { StepPolicy } from './steps.ts';

// What one target allows as a whole: its rests, its circuit, and the limits that adapt. TargetGate, over a record.

export function newGate(policy: StepPolicy, time: number): GateRow {
  return {
    // 0 is the word of a process that has seen no state yet.
    born: time === 0 ? 1 : time,
    steps: 0,
    last: time,
    skew: 0,
    limit: policy.account || policy.limit === undefined ? 0 : policy.limit,
    windowMs: policy.windowMs,
    tuned: 0,
    health: policy.health,
    restUntil: NEVER,
    quotaNextAt: NEVER,
    quotaSpacingMs: 0,
    quotaUntil: NEVER,
    tats: [],
    spentAts: [],
    refunds: [],
    failedAt: NEVER,
    futile: 0,
    futileUntil: NEVER,
    quietAt: NEVER,
    keepUntil: time,
  };
}

/** Something goes on until `at`: not to be forgotten before. */
export function quietFrom(gate: GateRow, at: number): void {
  if (at > gate.quietAt) gate.quietAt = at;
}

/** Requests per window, as adapted; `Infinity`: no budget. */
export function gateLimit({ gate, policy }: Decision): number {
  const { limit = Infinity, adaptBudget } = policy;
  return gate.budget === undefined || adaptBudget === undefined ? limit : aimdLimit(gate.budget, adaptBudget);
}

/** Requests in flight at most, as adapted. */
export function gateConcurrency({ gate, policy }: Decision): number {
  const { concurrency = Infinity, adaptConcurrency } = policy;
  if (adaptConcurrency === undefined) return concurrency;
  const limit = gate.places === undefined ? adaptConcurrency.start : aimdLimit(gate.places, adaptConcurrency);
  return Math.min(limit, concurrency);
}

/** The earliest time for a request over any egress. */
export function gateOpenAt({ gate, now }: Decision): number {
  const quotaAt = gate.quotaUntil > now ? Math.min(gate.quotaNextAt, gate.quotaUntil) : NEVER;
  return Math.max(gate.restUntil, quotaAt);
}

/** Requests that the circuit lets through. */
export function circuitRoom({ gate, policy, now }: Decision): number {
  const { circuit } = gate;
  return circuit === undefined || policy.breaker === undefined ? Infinity : breakerRoom(circuit, policy.breaker, now);
}

export function circuitWaitMs({ gate, policy, now }: Decision): number {
  const { circuit } = gate;
  return circuit === undefined || policy.breaker === undefined ? 0 : breakerWaitMs(circuit, policy.breaker, now);
}

export function circuitOpen({ gate }: Decision): boolean {
  return gate.circuit?.phase === OPEN;
}

/** A request is let through: it spends of an account's quota, and has a ticket for the circuit. */
export function gatePass({ gate, policy }: Decision, permit: PermitRow): void {
  if (gate.quotaUntil > permit.start) gate.quotaNextAt = permit.start + gate.quotaSpacingMs * permit.cost;
  if (gate.circuit !== undefined && policy.breaker !== undefined) {
    permit.ticket = breakerPass(gate.circuit, policy.breaker, permit.start);
  }
}

/** Counts how a request ended. Returns whether the circuit opened or closed by it. */
export function gateDone(at: Decision, ticket: number, outcome: Outcome | undefined, jitter: number): boolean {
  const { gate, policy, now } = at;
  if (policy.breaker === undefined) return false;
  const end = outcome === undefined ? IGNORED : CIRCUIT[outcome];
  // From the first answer on: what failed is a share of all that was sent.
  gate.circuit ??= { ...breakerState(), since: NEVER, tick: NEVER };
  if (end === FAILURE) gate.failedAt = now;
  return breakerDone(gate.circuit, policy.breaker, ticket, end, now, () => jitter);
}

/** The egress was told to wait until `until`. Returns whether the wait has become the whole target's. */
export function gateLimited({ gate, policy, now }: Decision, egress: string, until: number): boolean {
  gate.refused ??= nobodyRefused();
  const scope = policy.account ? 'account' : 'ip';
  const widening = { egresses: WIDE_EGRESSES, windowMs: policy.windowMs, scope } as const;
  const widened = noteLimited(gate.refused, widening, egress, until, now);
  if (widened) gate.restUntil = Math.max(gate.restUntil, gate.refused.targetUntil);
  return widened;
}

function nobodyRefused(): WideningState<string> {
  return {
    keys: new Array<string>(WIDE_EGRESSES).fill(''),
    at: new Array<number>(WIDE_EGRESSES).fill(NEVER),
    until: new Array<number>(WIDE_EGRESSES).fill(NEVER),
    targetUntil: NEVER,
  };
}

/** What an account has left. Returns whether nothing is. */
export function gateQuota({ gate, now }: Decision, { spacingMs, forMs, exhausted }: QuotaReport): boolean {
  gate.quotaSpacingMs = spacingMs;
  gate.quotaUntil = now + forMs;
  gate.quotaNextAt = Math.max(gate.quotaNextAt, now + spacingMs);
  if (exhausted && gate.quotaUntil > gate.restUntil) gate.restUntil = gate.quotaUntil;
  return exhausted;
}

/** A good answer, with `used` slots of its budget in use. Returns whether the limit grew. */
export function growBudget({ gate, policy, now }: Decision, used: number): boolean {
  const { budget } = gate;
  const { adaptBudget } = policy;
  if (budget === undefined || adaptBudget === undefined || !aimdOk(budget, adaptBudget, used, now)) return false;
  if (budget.limit >= adaptBudget.ceiling) gate.budget = undefined;
  return true;
}

/** A good answer, with `active` requests in flight. Returns whether there may be more. */
export function growConcurrency({ gate, policy, now }: Decision, active: number): boolean {
  const { adaptConcurrency } = policy;
  if (adaptConcurrency === undefined) return false;
  gate.places ??= adapting(adaptConcurrency.start, now);
  return aimdOk(gate.places, adaptConcurrency, active, now);
}

/** A refusal that blames the budget, of a request that left at `sentAt`. Returns whether it was cut. */
export function cutBudget({ gate, policy, now }: Decision, sentAt: number): boolean {
  const { limit, adaptBudget } = policy;
  if (adaptBudget === undefined || limit === undefined) return false;
  gate.budget ??= adapting(adaptBudget.ceiling, NEVER);
  return aimdCut(gate.budget, adaptBudget, sentAt, now);
}

/** The target as a whole objects. Returns whether the requests in flight were cut. */
export function cutConcurrency({ gate, policy, now }: Decision, sentAt: number): boolean {
  const { adaptConcurrency } = policy;
  if (adaptConcurrency === undefined) return false;
  gate.places ??= adapting(adaptConcurrency.start, NEVER);
  return aimdCut(gate.places, adaptConcurrency, sentAt, now);
}

function adapting(limit: number, now: number): AimdState {
  return { ...aimdState(limit, now), cutAt: NEVER };
}

/** From then on forgetting the gate changes no decision, if nothing else happens; see TargetGate.idle. */
export function gateMattersUntil({ gate, policy }: Decision): number {
  const { circuit, budget, places } = gate;
  const { adaptConcurrency, breaker } = policy;
  let until = Math.max(gate.restUntil, gate.quotaUntil, ...gate.tats);
  if (circuit !== undefined && breaker !== undefined) {
    // Closed, it looks back over its window; open, it may be due for its probe for as long as it can be open at all.
    const quietMs = circuit.phase === CLOSED ? breaker.windowMs : breaker.maxOpenMs;
    until = Math.max(until, circuit.since + quietMs, gate.failedAt + quietMs);
  }
  const learntMs = IDLE_WINDOWS * policy.windowMs;
  if (budget !== undefined) until = Math.max(until, budget.cutAt + learntMs, budget.cleanSince + learntMs);
  if (places === undefined || adaptConcurrency === undefined) return until;
  if (aimdLimit(places, adaptConcurrency) >= adaptConcurrency.start) return until;
  return Math.max(until, places.cutAt + learntMs, places.cleanSince + learntMs);
}
