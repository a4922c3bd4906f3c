import type { Outcome, Policy, Route, Verdict } from '../../src/store/store.ts';
import { AIMD, BREAKER, HEALTH } from '../../src/testing/store-contract/scenery.ts';
import { type AtStore, atStore, storePolicy, TARGET } from './at-store.ts';
import { storeRoute } from './store-trace.ts';

export { AIMD, BREAKER, HEALTH };

/** Room for everything: a hundred a second on each egress, so that one rests for 10 ms after it was refused. */
export function roomy(options: Partial<Policy> = {}): Policy {
  return storePolicy({ limit: 100, windowMs: 1000, ...options });
}

/** Static proxies, unless told otherwise. */
export function proxies(count: number, options: Partial<Route> = {}): Route[] {
  return Array.from({ length: count }, (_, i) => storeRoute(i + 1, { session: undefined, ...options }));
}

/** Makes the target use all of the routes; nothing is spent. */
export function introduce(at: AtStore, count: number, policy: Policy): void {
  const free = { spacingMs: 0, scope: 'ip', concurrency: undefined, adaptConcurrency: undefined } as const;
  const { grants } = at.reserve(count, { policy: { ...policy, limit: 1, ...free } });
  if (grants.length !== count) throw new Error(`${grants.length} of ${count} routes known`);
  at.store.cancel(TARGET, grants);
  at.store.cancel(TARGET, at.reserve(1, { policy }).grants);
}

/** That many requests over one route, all sent before the first answer, and all with this end. */
export function repeatedly(at: AtStore, pin: Route, count: number, outcome: Outcome): Verdict[] {
  const { grants } = at.reserve(count, { pin });
  if (grants.length !== count) throw new Error(`${grants.length} of ${count} permits`);
  return grants.flatMap((grant) => at.answer(grant, outcome));
}

export const kinds = (verdicts: readonly Verdict[]): string[] => verdicts.map(({ kind }) => kind);

/** A target that uses these proxies. */
export function using(
  routes: readonly Route[],
  options: Partial<Policy> = {},
  random: () => number = () => 0,
): AtStore {
  const own = roomy({ health: HEALTH, ...options });
  const at = atStore(routes, own, random);
  introduce(at, routes.length, own);
  return at;
}

/** Where the next requests go, in turn, when each is answered at once. */
export function next(at: AtStore, count: number, outcome: Outcome = 'ok'): string[] {
  return Array.from({ length: count }, () => {
    const grant = at.grant();
    at.answer(grant, outcome);
    at.clock.advanceSync(1);
    return grant.route.id;
  });
}

/** Past the ejection that the verdicts tell of. */
export function ejected(at: AtStore, pin: Route, outcome: Outcome = 'blocked'): number {
  const verdicts = repeatedly(at, pin, 10, outcome);
  const [verdict] = verdicts;
  if (verdicts.length !== 1 || verdict.kind !== 'ejected') throw new Error(`not ejected: ${kinds(verdicts)}`);
  return verdict.forMs;
}
