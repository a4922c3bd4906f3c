import fc from 'fast-check';
import { expect } from 'vitest';
import type { Clock, Random } from '../../src/clock.ts';
import type { Demand, Grant, Outcome, Policy, Report, Route, Store } from '../../src/store/store.ts';
import { type VirtualClock, virtualClock } from '../../src/testing/virtual-clock.ts';
import { type Permit, ReferenceStore } from './reference-store.ts';

/** A way out with nothing behind it; every field can be set. */
export function storeRoute(seq: number, options: Partial<Route> = {}): Route {
  const { pool = 'pool' } = options;
  return {
    id: `${pool}/${seq}`,
    pool,
    session: `s${seq}`,
    egress: `${pool}/${seq}`,
    seq,
    expiresAt: Infinity,
    weight: 1,
    shared: true,
    trial: false,
    closed: false,
    ...options,
  };
}

/** What a pool with these routes offers. */
export function offerOf(routes: readonly Route[], clock: Clock): (after: number) => Route | undefined {
  return (after) => routes.find(({ seq, closed, expiresAt }) => seq > after && !closed && expiresAt > clock.now());
}

// What happens, in numbers that are taken modulo what there is.
type Step =
  | {
      readonly do: 'reserve';
      target: number;
      pool: number;
      count: number;
      cost: number;
      applies: readonly boolean[] | undefined;
      pin: number;
      patienceMs: number;
      horizonMs: number;
      deadlineMs: number;
    }
  | {
      readonly do: 'settle';
      permits: number[];
      outcome: Outcome;
      retryAfterMs: number | undefined;
      graceMs: number;
      end: boolean;
    }
  | { readonly do: 'bind'; permit: number; egress: number }
  | { readonly do: 'cancel'; permits: number[] }
  | { readonly do: 'wait'; ms: number }
  | { readonly do: 'limit'; target: number; limit: number }
  | { readonly do: 'end'; route: number };

export interface StoreTrace {
  readonly policy: Policy;
  readonly routes: readonly { kind: 'session' | 'named' | 'rotating'; lifeMs: number; trial: boolean }[];
  readonly steps: readonly Step[];
}

const TARGETS = ['a.test', 'b.test'];
const POOLS = ['session', 'named', 'rotating'] as const;
const EXITS = ['10.0.0.1', '10.0.0.2', '10.0.0.3', '2001:db8::/64', 'x'];
/** Which egress two pools share, and who goes first there, is a matter of its own. */
const NAMED_EXITS = ['192.0.2.1', '192.0.2.2', '192.0.2.77'];
const WINDOW_MS = 60;

const often = <T>(usual: T, ...others: fc.Arbitrary<T>[]): fc.Arbitrary<T> =>
  fc.oneof({ arbitrary: fc.constant(usual), weight: 3 }, ...others);
const ms = (max: number): fc.Arbitrary<number> => fc.integer({ min: 0, max });
const some = fc.array(fc.nat(), { minLength: 1, maxLength: 4 });

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('reserve' as const),
      target: fc.nat(),
      pool: fc.nat(),
      count: often(1, fc.integer({ min: 2, max: 6 })),
      cost: often(1, fc.integer({ min: 2, max: 3 })),
      applies: often<readonly boolean[] | undefined>(undefined, fc.array(fc.boolean(), { minLength: 2, maxLength: 2 })),
      pin: often(-1, fc.nat()),
      patienceMs: often(0, fc.constant(10)),
      horizonMs: often(0, ms(2 * WINDOW_MS)),
      deadlineMs: often(
        10_000,
        ms(2 * WINDOW_MS).map((n) => n + 1),
      ),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('settle' as const),
      permits: some,
      outcome: fc.constantFrom<Outcome>('ok', 'ok', 'ok', 'rate-limited', 'network-error'),
      retryAfterMs: often(undefined, ms(3 * WINDOW_MS)),
      graceMs: often(0, ms(WINDOW_MS)),
      end: fc.boolean(),
    }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('bind' as const), permit: fc.nat(), egress: fc.nat() }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('cancel' as const), permits: some }) },
  {
    weight: 8,
    // Often just to the edge of something.
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      ms: fc.oneof(ms(10), ms(WINDOW_MS), fc.constantFrom(WINDOW_MS - 1, WINDOW_MS)),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('limit' as const),
      target: fc.nat(),
      limit: fc.integer({ min: 1, max: 12 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('end' as const), route: fc.nat() }) },
);

/** Random work for a store: all that the contract allows, on few egresses, so that it gets tight. */
export const storeTrace: fc.Arbitrary<StoreTrace> = fc.record({
  policy: fc.record({
    limit: fc.oneof({ arbitrary: fc.integer({ min: 1, max: 4 }), weight: 9 }, fc.constantFrom(20, Infinity)),
    windowMs: fc.constant(WINDOW_MS),
    spacingMs: often(0, fc.constantFrom(5, 30)),
    rates: often<Policy['rates']>(
      [],
      fc.subarray(
        [
          { limit: 6, windowMs: 60, burst: 1 },
          { limit: 5, windowMs: 100, burst: 3 },
          { limit: 4, windowMs: 50, burst: 4 },
        ],
        { minLength: 1, maxLength: 2 },
      ),
    ),
    concurrency: often<number | undefined>(undefined, fc.integer({ min: 2, max: 6 })),
  }),
  routes: fc.array(
    fc.record({
      kind: fc.constantFrom(...POOLS),
      lifeMs: often(Infinity, ms(600)),
      trial: often(false, fc.constant(true)),
    }),
    { minLength: 1, maxLength: 8 },
  ),
  steps: fc.array(step, { maxLength: 60 }),
});

interface Held {
  readonly target: number;
  readonly grant: Grant;
  readonly permit: Permit;
}

/**
 * Does the same with the store and with the reference, and expects the same of both, answer by answer.
 * Nothing but the contract is used, so any store will do whose time and jitter can be given.
 */
export async function runTrace(
  makeStore: (clock: VirtualClock, random: Random) => Store,
  trace: StoreTrace,
): Promise<void> {
  const clock = virtualClock();
  const store = makeStore(clock, () => 0.5);
  const references = TARGETS.map(() => new ReferenceStore(() => 0.5));
  const policies = TARGETS.map(() => trace.policy);
  const routes = trace.routes.map(({ kind, lifeMs, trial }, i) =>
    storeRoute(i + 1, {
      pool: kind,
      egress: kind === 'named' ? `192.0.2.${i + 1}` : `${kind}/${i + 1}`,
      expiresAt: lifeMs,
      weight: kind === 'rotating' ? (i % 2 === 0 ? Infinity : 3) : 1,
      trial: trial && kind === 'session',
    }),
  );
  let open: Held[] = [];

  const reserve = async (target: number, demand: Demand): Promise<void> => {
    const now = clock.now();
    const { grants, retryInMs, limiting } = await store.reserve(TARGETS[target], demand);
    const expected = references[target].reserve(
      demand,
      now,
      grants.map(({ egress }) => egress),
    );
    expect(grants.map(({ egress, route, startInMs }) => [egress, route.id, startInMs])).toEqual(
      expected.grants.map(({ egress, route, start }) => [egress.key, route.id, start - now]),
    );
    expect(expected.limiting).toContain(limiting);
    expect(retryInMs).toBe(expected.retryInMs);
    grants.forEach((grant, i) => void open.push({ target, grant, permit: expected.grants[i] }));
  };

  const close = (route: Route): void => {
    route.closed = true;
    store.retired?.(route);
  };

  const pick = (numbers: readonly number[]): Held[] => {
    if (open.length === 0) return [];
    const first = open[numbers[0] % open.length];
    const picked = numbers.map((n) => open[n % open.length]).filter(({ target }) => target === first.target);
    return [...new Set(picked)];
  };

  // One permit is out for ever: what is in use is not forgotten, and the order of choice with it.
  for (const target of TARGETS.keys()) {
    const pin = storeRoute(99, { pool: 'kept' });
    const kept = { count: 1, policy: trace.policy, pool: 'kept', pin, patienceMs: 0, horizonMs: 0, deadlineMs: 1e9 };
    await reserve(target, kept);
  }
  const keptPermits = open;
  open = [];

  for (const step of trace.steps) {
    const now = clock.now();
    switch (step.do) {
      case 'reserve': {
        const target = step.target % TARGETS.length;
        const pool = POOLS[step.pool % POOLS.length];
        const { count, cost, applies, patienceMs, horizonMs, deadlineMs } = step;
        const pin = step.pin < 0 ? undefined : routes[step.pin % routes.length];
        const offer =
          pin === undefined
            ? offerOf(
                routes.filter((route) => route.pool === pool),
                clock,
              )
            : undefined;
        const demand = {
          count,
          cost,
          applies,
          policy: policies[target],
          pool: pin?.pool ?? pool,
          pin,
          offer,
          patienceMs,
          horizonMs,
          deadlineMs,
        };
        await reserve(target, demand);
        break;
      }
      case 'settle': {
        const held = pick(step.permits);
        if (held.length === 0) break;
        const { outcome, retryAfterMs, graceMs, end } = step;
        const report = { outcome, retryAfterMs, graceMs, end };
        const { target } = held[0];
        const verdicts = await store.settle(
          TARGETS[target],
          held.map(({ grant }): Report => ({ grant, ...report })),
        );
        const expected = references[target].settle(
          held.map(({ permit }) => ({ grant: permit, ...report })),
          now,
        );
        expect(
          verdicts.map((verdict) => (verdict.kind === 'cooldown' ? [verdict.egress, verdict.forMs] : verdict)),
        ).toEqual(expected);
        // Now and then it is settled again, or cancelled after all.
        if (end && outcome === 'ok') open = open.filter((one) => !held.includes(one));
        break;
      }
      case 'bind': {
        const [held] = pick([step.permit]);
        if (held === undefined) break;
        const { route } = held.grant;
        const exits = route.pool === 'named' ? NAMED_EXITS : EXITS;
        const egress = exits[step.egress % exits.length];
        route.trial = false;
        const binding = await store.bind(TARGETS[held.target], held.grant, egress);
        expect(binding).toEqual(references[held.target].bind(held.permit, egress, now));
        if (binding.ok) expect(held.grant.egress).toBe(egress);
        if (route.weight === 1) route.egress = egress;
        if (binding.duplicate && route.shared && step.egress % 2 === 0) close(route);
        break;
      }
      case 'cancel': {
        const held = pick(step.permits);
        if (held.length === 0) break;
        const { target } = held[0];
        await store.cancel(
          TARGETS[target],
          held.map(({ grant }) => grant),
        );
        references[target].cancel(
          held.map(({ permit }) => permit),
          now,
        );
        break;
      }
      case 'wait':
        clock.advanceSync(step.ms);
        break;
      case 'limit': {
        const target = step.target % TARGETS.length;
        policies[target] = { ...policies[target], limit: step.limit };
        break;
      }
      case 'end':
        close(routes[step.route % routes.length]);
    }
    for (const [target, reference] of references.entries()) {
      const [snapshot] = (await store.inspect(TARGETS[target])).targets;
      const expected = reference.inspect(clock.now());
      expect(snapshot.active).toBe(expected.active);
      // The store may have forgotten what is cold; nothing else.
      const known = new Map(snapshot.egresses.map((egress) => [egress.egress, egress]));
      for (const egress of expected.egresses) {
        if (known.has(egress.egress) || egress.busy > 0 || egress.usableInMs > 0) {
          expect(known.get(egress.egress)).toEqual(egress);
        }
      }
    }
  }

  // In the end nothing is left but what was kept.
  for (const [target, kept] of keptPermits.entries()) {
    await store.cancel(TARGETS[target], [
      ...open.filter((one) => one.target === target).map(({ grant }) => grant),
      kept.grant,
    ]);
    await store.settle(
      TARGETS[target],
      open
        .filter((one) => one.target === target)
        .map(({ grant }) => ({ grant, outcome: undefined, retryAfterMs: undefined, graceMs: 0, end: true })),
    );
    const [snapshot] = (await store.inspect(TARGETS[target])).targets;
    expect([snapshot.active, ...snapshot.egresses.map(({ busy }) => busy)].every((n) => n === 0)).toBe(true);
  }
}
