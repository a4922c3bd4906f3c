import type { Awaitable, Limiting, Reservation, Verdict } from './store.ts';

// What a store said. One of the caller's own may answer anything.

/** Whether a store's answer is still to come. */
export function isLater<T>(answer: Awaitable<T>): answer is PromiseLike<T> {
  return typeof answer === 'object' && answer !== null && 'then' in answer;
}

/** Whether it is the target as a whole that is at its limit, and not one egress. */
export function isTargets(limiting: Limiting | undefined): boolean {
  return limiting === 'rate' || limiting === 'concurrency' || limiting === 'target' || limiting === 'breaker';
}

/** Whether it is what `reserve` is to answer, as far as it is looked at. */
export function isReservation(answer: unknown): answer is Reservation {
  const { grants, retryInMs } = (answer ?? {}) as Partial<Reservation>;
  return Array.isArray(grants) && typeof retryInMs === 'number';
}

/** Whether it is what `settle` is to answer, as far as it is looked at. */
export function areVerdicts(answer: unknown): answer is readonly Verdict[] {
  return Array.isArray(answer) && answer.every((one) => typeof one === 'object' && one !== null);
}
