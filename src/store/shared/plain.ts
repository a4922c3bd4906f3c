import type { Policy, Route, TargetSnapshot } from '../store.ts';
import type { SnapshotAnswer, StepPolicy, StepRoute } from './steps.ts';

// Between what the pacing has in hand and the plain data of a step, in which nothing is Infinity.

const plain = new WeakMap<Policy, StepPolicy>();

/** The policy in plain data; a policy never changes, so that is made once. */
export function plainPolicy(policy: Policy): StepPolicy {
  let made = plain.get(policy);
  if (made === undefined) {
    made = {
      limit: finite(policy.limit),
      windowMs: policy.windowMs,
      spacingMs: policy.spacingMs,
      account: policy.scope === 'account' ? true : undefined,
      rates: policy.rates.map(({ limit, windowMs, burst }) => [limit, windowMs, burst] as const),
      concurrency: finite(policy.concurrency),
      adaptBudget: policy.adaptBudget,
      adaptConcurrency: policy.adaptConcurrency,
      health: policy.health,
      breaker: policy.breaker,
    };
    plain.set(policy, made);
  }
  return made;
}

/** The route as it is now. `pool`: the key it is shared by. */
export function plainRoute(route: Route, pool: string, now: number): StepRoute {
  const { id, session, egress, expiresAt, weight, shared, trial, closed } = route;
  return {
    id,
    pool,
    session,
    egress,
    endsInMs: finite(expiresAt - now),
    weight: finite(weight),
    shared,
    trial,
    closed,
  };
}

/** A snapshot as the contract has it. */
export function fullSnapshot(answer: SnapshotAnswer): TargetSnapshot {
  const { limit = Infinity, concurrency = Infinity } = answer;
  const egresses = list(answer.egresses).map((egress) => {
    const { remaining = Infinity, usableInMs = Infinity } = egress;
    return { ...egress, remaining, usableInMs };
  });
  return { ...answer, limit, concurrency, egresses };
}

/** A list that came over a wire: an empty one may have become something else there. */
export function list<T>(value: readonly T[] | null | undefined): readonly T[] {
  return Array.isArray(value) ? value : [];
}

function finite(value: number | undefined): number | undefined {
  return value === undefined || value === Infinity ? undefined : value;
}
