import { isLater } from './answers.ts';
import type { Awaitable } from './store.ts';

/** Goes on at once with an answer that is there, else when it comes. */
export function andThen<T, U>(answer: Awaitable<T>, next: (value: T) => Awaitable<U>): Awaitable<U> {
  return isLater(answer) ? answer.then(next) : next(answer as T);
}

/** All of them, at once when all are there. */
export function allOf<T, U>(answers: readonly Awaitable<T>[], next: (values: T[]) => U): Awaitable<U> {
  return answers.some(isLater) ? Promise.all(answers).then(next) : next(answers as T[]);
}
