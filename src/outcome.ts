import type { Outcome } from './store/store.ts';

/** What came back from a target, as far as a verdict needs it. */
export interface ResponseFacts {
  readonly url: string;
  readonly method: string;
  readonly status: number;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/** The caller's own verdict on a response; `undefined` leaves it to the built-in one. */
export type Classify = (exchange: ResponseFacts) => Outcome | undefined;

/**
 * Names what a response means for the pacing, by its status. Pure; never throws.
 *
 * @example
 * classifyOutcome({ url, method: 'GET', status: 429, headers: {} }); // 'rate-limited'
 */
export function classifyOutcome(exchange: ResponseFacts): Outcome {
  const { status } = exchange;
  if (status === 429) return 'rate-limited';
  if (status === 403) return 'blocked';
  if (status === 500 || status === 502 || status === 503 || status === 504) return 'target-error';
  return 'ok';
}
