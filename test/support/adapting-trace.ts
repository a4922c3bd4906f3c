import fc from 'fast-check';
import { expect } from 'vitest';
import type { Random } from '../../src/clock.ts';
import type { MemoryStore } from '../../src/store/memory.ts';
import type { Grant, Outcome, Policy, QuotaReport, Route, Store } from '../../src/store/store.ts';
import type { VirtualClock } from '../../src/testing/virtual-clock.ts';
import { AIMD, BREAKER, HEALTH } from './adapting.ts';
import { Promises } from './adapting-promises.ts';
import { atStore, storePolicy, TARGET } from './at-store.ts';
import { checkBooks, checkShare } from './store-books.ts';
import { storeRoute } from './store-trace.ts';

// Random work for a store that adapts, in numbers that are taken modulo what there is, and what may never happen meanwhile.
type Step =
  | {
      readonly do: 'reserve';
      count: number;
      cost: number;
      pool: number;
      pin: number;
      horizonMs: number;
      lateMs: number;
    }
  | {
      readonly do: 'settle';
      permit: number;
      count: number;
      outcome: Outcome;
      retryAfterMs: number | undefined;
      quota: QuotaReport | undefined;
      graceMs: number;
    }
  | { readonly do: 'bind'; permit: number; egress: number }
  | { readonly do: 'cancel'; permit: number }
  | { readonly do: 'wait'; ms: number }
  | { readonly do: 'end'; route: number };

export interface AdaptingTrace {
  readonly policy: Policy;
  readonly routes: readonly { readonly pool: number; readonly session: boolean; readonly lifeMs: number }[];
  readonly steps: readonly Step[];
}

const POOLS = ['a', 'b'];
/** None that a route is believed to have from the start: two of a pool with one exit are for the pool to find. */
const EXITS = ['x', 'y', 'z'];
const often = <T>(usual: T, ...others: fc.Arbitrary<T>[]): fc.Arbitrary<T> =>
  fc.oneof({ arbitrary: fc.constant(usual), weight: 3 }, ...others);
const seldom = <T>(other: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.oneof({ arbitrary: fc.constant(undefined), weight: 9 }, other);
const ms = (max: number): fc.Arbitrary<number> => fc.integer({ min: 0, max });
const number = fc.nat({ max: 1000 });

const health = { ...HEALTH, baseMs: 320, maxMs: 1600, healthyMs: 320, probeTimeoutMs: 200, minSamples: 3 };

const policy: fc.Arbitrary<Policy> = fc
  .record({
    limit: fc.constantFrom(2, 9, 30),
    spacingMs: often(0, fc.constant(7)),
    scope: often<'ip' | 'account'>('ip', fc.constant('account')),
    concurrency: often<number | undefined>(undefined, fc.constant(4)),
    rates: often<Policy['rates']>([], fc.constant([{ limit: 12, windowMs: 100, burst: 4 }])),
    share: fc.constantFrom(0, 0.3, 0.5, 1),
    breaker: fc.boolean(),
    adapts: fc.boolean(),
  })
  .map(({ share, breaker, adapts, ...rest }) =>
    storePolicy({
      ...rest,
      windowMs: 60,
      health: { ...health, maxEjectedShare: share },
      breaker: breaker ? { ...BREAKER, openMs: 50, maxOpenMs: 400, probeTimeoutMs: 150 } : undefined,
      adaptBudget: adapts ? { ...AIMD, ceiling: rest.limit, windowMs: 60 } : undefined,
      adaptConcurrency: adapts ? { ...AIMD, start: 6, windowMs: 50 } : undefined,
    }),
  );

const quota: fc.Arbitrary<QuotaReport> = fc.record({
  spacingMs: ms(40),
  forMs: ms(150),
  exhausted: fc.boolean(),
  account: fc.boolean(),
});

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('reserve' as const),
      count: fc.integer({ min: 1, max: 8 }),
      cost: often(1, fc.constant(2)),
      pool: number,
      pin: often(-1, number),
      horizonMs: often(0, ms(100)),
      lateMs: often(10_000, ms(120)),
    }),
  },
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('settle' as const),
      permit: number,
      count: fc.integer({ min: 1, max: 8 }),
      outcome: fc.oneof(
        { weight: 3, arbitrary: fc.constant<Outcome>('ok') },
        { weight: 6, arbitrary: fc.constantFrom<Outcome[]>('blocked', 'challenged', 'network-error') },
        {
          weight: 3,
          arbitrary: fc.constantFrom<Outcome[]>('rate-limited', 'target-error', 'gateway-error', 'ignored'),
        },
      ),
      retryAfterMs: seldom(ms(200)),
      quota: seldom(quota),
      graceMs: often(0, ms(30)),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('bind' as const), permit: number, egress: number }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('cancel' as const), permit: number }) },
  {
    weight: 8,
    arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.oneof(ms(10), ms(10), ms(80), ms(400)) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('end' as const), route: number }) },
);

export const adaptingTrace: fc.Arbitrary<AdaptingTrace> = fc.record({
  policy,
  routes: fc.array(
    fc.record({ pool: fc.constantFrom(0, 0, 0, 1), session: fc.boolean(), lifeMs: often(Infinity, ms(1500)) }),
    { minLength: 1, maxLength: 7 },
  ),
  steps: fc.array(step, { minLength: 20, maxLength: 120, size: 'max' }),
});

interface Held {
  readonly grant: Grant;
  readonly startAt: number;
  readonly deadline: number;
}

/** Runs a trace against a memory store, expects that every promise is kept, and returns how often an egress was ejected. */
export function runAdapting(
  { policy, routes: drawn, steps }: AdaptingTrace,
  makeStore?: (clock: VirtualClock, random: Random) => MemoryStore,
): number {
  const routes: Route[] = drawn.map(({ pool, session, lifeMs }, i) =>
    storeRoute(i + 1, { pool: POOLS[pool], session: session ? 's' : undefined, expiresAt: lifeMs }),
  );
  let jitter = 0;
  const at = atStore(routes, policy, () => (jitter++ % 4) / 4, makeStore);
  const promises = new Promises(policy);
  const ejectedBefore = (egress: string): boolean => promises.outs.has(egress);
  let open: Held[] = [];

  const offerOf = (pool: string) => (after: number) =>
    routes.find((one) => one.seq > after && one.pool === pool && !one.closed && one.expiresAt > at.clock.now());

  const close = (route: Route): void => {
    route.closed = true;
    (at.store as Store).retired?.(route);
  };

  const lose = (): void => {
    const lost = open.filter(({ deadline }) => deadline <= at.clock.now());
    for (const { grant } of lost) promises.ended(grant);
    open = open.filter((one) => !lost.includes(one));
  };

  const reserve = (step: Step & { do: 'reserve' }): void => {
    const pin = step.pin < 0 ? undefined : routes[step.pin % routes.length];
    const pool = pin?.pool ?? POOLS[step.pool % 4 === 3 ? 1 : 0];
    const cost = Math.min(step.cost, policy.limit);
    const deadlineMs = step.lateMs + 1;
    const offer = pin === undefined ? offerOf(pool) : undefined;
    const now = at.clock.now();
    const { horizonMs, count } = step;
    const { grants, retryInMs, limiting } = at.reserve(count, { cost, pool, pin, horizonMs, deadlineMs, offer });
    for (const grant of grants) {
      const startAt = now + grant.startInMs;
      promises.uses(grant, startAt);
      open.push({ grant, startAt, deadline: startAt + deadlineMs });
    }
    if (grants.length < count) {
      expect(limiting).toBeDefined();
      expect(retryInMs).toBeGreaterThan(0);
    }
  };

  for (const step of steps) {
    const now = at.clock.now();
    switch (step.do) {
      case 'reserve':
        reserve(step);
        break;
      case 'settle': {
        const { outcome, retryAfterMs, quota, graceMs } = step;
        for (const held of open.splice(step.permit % (open.length + 1), step.count)) {
          const verdicts = at.answer(held.grant, outcome, { retryAfterMs, quota, graceMs });
          promises.settled(held.grant, outcome, retryAfterMs, quota, now);
          for (const verdict of verdicts) {
            const again = verdict.kind === 'ejected' && ejectedBefore(verdict.egress);
            promises.judged(verdict, now);
            if (verdict.kind === 'ejected' && !again) checkShare(at, policy, verdict.egress);
          }
        }
        break;
      }
      case 'bind': {
        if (open.length === 0) break;
        const held = open[step.permit % open.length];
        const { grant } = held;
        // Not before it is to leave, as the engine does.
        if (held.startAt > now) break;
        const before = grant.egress;
        const egress = step.egress % 2 === 0 ? before : EXITS[step.egress % EXITS.length];
        const { ok, duplicate } = at.store.bind(TARGET, grant, egress);
        // As a pool does with a session that has another's exit.
        if (duplicate) close(grant.route);
        if (ok) {
          expect(grant.egress).toBe(egress);
          if (before !== egress) promises.ended(grant, before);
          promises.uses(grant, now, true);
          grant.route.egress = egress;
        } else {
          promises.ended(grant, before);
          open = open.filter((one) => one !== held);
          if (before !== egress) grant.route.egress = egress;
        }
        break;
      }
      case 'cancel':
        for (const { grant } of open.splice(step.permit % (open.length + 1), 1)) {
          at.store.cancel(TARGET, [grant]);
          promises.ended(grant);
        }
        break;
      case 'wait':
        at.clock.advanceSync(step.ms);
        break;
      case 'end':
        close(routes[step.route % routes.length]);
    }
    lose();
    at.store.inspect(TARGET); // what is overdue is lost now
    checkBooks(at);
  }

  // Whatever has happened, once everything is over a permit comes while there is a route at all: nothing is stuck.
  if (!routes.some((one) => one.pool === POOLS[0] && !one.closed && one.expiresAt === Infinity)) {
    routes.push(storeRoute(routes.length + 1, { pool: POOLS[0] }));
  }
  for (const { grant } of open) at.answer(grant, 'ignored');
  for (let i = 0; ; i++) {
    expect(i, 'a permit in the end').toBeLessThan(100);
    const { grants, retryInMs, limiting } = at.reserve(1, { pool: POOLS[0], offer: offerOf(POOLS[0]) });
    if (grants.length === 1) break;
    expect([Number.isFinite(retryInMs), retryInMs > 0], `${limiting}`).toEqual([true, true]);
    at.clock.advanceSync(retryInMs);
  }
  return promises.ejections;
}
