import fc from 'fast-check';
import { expect } from 'vitest';
import type {
  Backend,
  Batch,
  BatchAnswer,
  ReserveAnswer,
  ReserveStep,
  SnapshotAnswer,
  Step,
  StepPolicy,
  StepReport,
  StepRoute,
} from '../../src/store/shared/steps.ts';
import type { Outcome } from '../../src/store/store.ts';
import { AIMD, BREAKER, HEALTH } from './adapting.ts';

// Random batches for two backends, in numbers that are taken modulo what there is.

const POOLS = ['a', 'b "quoted" {x}', 'c\u00e9\n'];
const EXITS = ['10.0.0.1', '10.0.0.2', '2001:db8::/64', 'x"y\\', '\u00fc'];
const ROTATING = [undefined, 3];
const OUTCOMES: Outcome[] = [
  'ok',
  'rate-limited',
  'blocked',
  'challenged',
  'target-error',
  'gateway-error',
  'network-error',
  'ignored',
];

/** Batches in which each thing is `usual` times as likely to be as it mostly is as otherwise. */
function tracesOf(usual: number) {
  const often = <T>(mostly: T, ...others: fc.Arbitrary<T>[]): fc.Arbitrary<T> =>
    fc.oneof({ arbitrary: fc.constant(mostly), weight: usual }, ...others);
  const seldom = <T>(other: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => often<T | undefined>(undefined, other);
  // Steps so large that no two times differ by less than a microsecond: to the script's lanes these are one.
  const ms = (max: number): fc.Arbitrary<number> => fc.integer({ min: 0, max: 8 * max }).map((n) => n / 8);
  const some = fc.array(fc.nat(1000), { minLength: 1, maxLength: 6 });
  const random = fc.nat(63).map((n) => n / 64);

  const route = fc.record({
    pool: often(0, fc.nat(POOLS.length - 1)),
    number: fc.nat(5),
    exit: often(-1, fc.nat(EXITS.length - 1)),
    endsInMs: seldom(ms(300)),
    shared: often(true, fc.constant(false)),
    trial: often(false, fc.constant(true)),
    closed: often(false, often(false, fc.constant(true))),
  });

  const reserve = fc.record({
    do: fc.constant('reserve' as const),
    again: often(false, often(false, fc.constant(true))),
    count: often(1, fc.integer({ min: 0, max: 9 })),
    cost: often(1, fc.integer({ min: 2, max: 3 })),
    applies: often<boolean[] | undefined>(undefined, fc.array(fc.boolean(), { minLength: 2, maxLength: 2 })),
    pool: often(0, fc.nat(POOLS.length - 1)),
    pin: seldom(route),
    offers: fc.array(route, { maxLength: 4 }),
    more: fc.boolean(),
    patienceMs: often(0, ms(20)),
    horizonMs: often(0, ms(100)),
    deadlineMs: often(10_000, ms(120)),
    random: fc.array(random, { minLength: 9, maxLength: 9 }),
  });

  const report = fc.record({
    permit: fc.nat(1000),
    trial: often(false, fc.constant(true)),
    outcome: often<Outcome | undefined>('ok', fc.constantFrom(...OUTCOMES), fc.constant(undefined)),
    retryAfterMs: seldom(ms(200)),
    quota: seldom(fc.record({ spacingMs: ms(40), forMs: ms(150), exhausted: fc.boolean(), account: fc.boolean() })),
    graceMs: often(0, ms(30)),
    end: often(true, fc.constant(false)),
    random: fc.tuple(random, random),
    keepMs: ms(200),
  });

  const step = fc.oneof(
    { weight: 3 * usual, arbitrary: reserve },
    {
      weight: 3 * usual,
      arbitrary: fc.record({
        do: fc.constant('settle' as const),
        reports: fc.array(report, { minLength: 1, maxLength: 6 }),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant('bind' as const),
        permit: fc.nat(1000),
        exit: fc.nat(EXITS.length),
        route,
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('cancel' as const), permits: some }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('renew' as const), permits: some, keepMs: ms(200) }) },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant('drop' as const), routes: fc.array(route, { maxLength: 2 }) }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant('import' as const),
        permits: fc.array(
          fc.record({
            id: fc.nat(30),
            exit: fc.nat(EXITS.length - 1),
            cost: fc.integer({ min: 1, max: 3 }),
            cooledForMs: fc.option(ms(100), { nil: undefined }),
            keepMs: ms(200),
          }),
          { maxLength: 3 },
        ),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('rest' as const), forMs: ms(50) }) },
    { weight: 3, arbitrary: fc.constant({ do: 'inspect' as const }) },
  );

  const health = { ...HEALTH, baseMs: 320, maxMs: 1600, healthyMs: 320, probeTimeoutMs: 200, minSamples: 3 };

  const policy: fc.Arbitrary<StepPolicy> = fc
    .record({
      limit: fc.constantFrom<number | undefined>(1, 2, 4, 9, undefined),
      // One for all: whether what a longer one would still count is forgotten already is nobody's promise.
      windowMs: fc.constant(60),
      spacingMs: often(0, fc.constant(7)),
      account: often<boolean | undefined>(undefined, often<boolean | undefined>(undefined, fc.constant(true))),
      concurrency: often<number | undefined>(undefined, fc.constant(6)),
      rates: often<StepPolicy['rates']>(
        [],
        fc.constant([[12, 100, 4]] as const),
        fc.constant([
          [12, 100, 4],
          [5, 70, 1],
        ] as const),
      ),
      share: fc.constantFrom(0, 0.3, 0.5, 1),
      breaker: fc.boolean(),
      adapts: fc.boolean(),
    })
    .map(({ share, breaker, adapts, ...rest }) => ({
      ...rest,
      health: { ...health, maxEjectedShare: share },
      breaker: breaker ? { ...BREAKER, openMs: 50, maxOpenMs: 400, probeTimeoutMs: 150 } : undefined,
      adaptBudget: adapts && rest.limit !== undefined ? { ...AIMD, ceiling: rest.limit, windowMs: 60 } : undefined,
      adaptConcurrency: adapts ? { ...AIMD, start: 6, windowMs: 50 } : undefined,
    }));

  return fc.record({
    policies: fc.array(policy, { minLength: 1, maxLength: 2 }),
    ill: fc.boolean(),
    batches: fc.array(
      fc.record({
        policy: often(0, often(0, fc.constant(1))),
        waitMs: fc.oneof(fc.constant(0), ms(5), ms(60), ms(400), fc.constantFrom(-3.25, -70)),
        steps: fc.array(step, { minLength: 1, maxLength: 4 }),
      }),
      { minLength: 5, maxLength: 50, size: 'max' },
    ),
  });
}

type Traces = ReturnType<typeof tracesOf>;
export type BatchTrace = Traces extends fc.Arbitrary<infer T> ? T : never;
type DrawnStep = BatchTrace['batches'][number]['steps'][number];
type DrawnRoute = Extract<DrawnStep, { do: 'bind' }>['route'];

/** In which all kinds of things happen. */
export const batchTrace: Traces = tracesOf(3);
/** In which few unusual ones do. */
export const calmBatchTrace: Traces = fc.oneof(tracesOf(10), tracesOf(40));

/** Always the same for an egress: it is the first teller's, and who is the first depends on what has been forgotten. */
function weightOf(egress: string): number | undefined {
  const number = EXITS.includes(egress) ? 0 : Number(egress.split('/')[1]);
  return number > 3 ? ROTATING[number - 4] : 1;
}

function plainRoute({ pool, number, exit, ...rest }: DrawnRoute): StepRoute {
  const id = `${POOLS[pool]}/${number}`;
  const egress = exit < 0 ? id : EXITS[exit];
  const session = number % 2 === 0 ? `s${number}` : undefined;
  return { id, pool: POOLS[pool], session, egress, weight: weightOf(egress), ...rest };
}

/**
 * What is cold may have been forgotten, at one time or another; the order of egresses is free; and when a call is asked
 * `again`, its routes may be told as they were or as they are.
 */
function comparable({ answers, ...rest }: BatchAnswer, again: readonly boolean[], account: boolean): unknown {
  return {
    ...rest,
    answers: answers.map((answer, i) => {
      const { egresses, grants } = (answer ?? {}) as Partial<SnapshotAnswer & ReserveAnswer>;
      if (again[i]) return { ...answer, grants: grants?.map((grant) => grant.slice(0, 4)) };
      if (egresses === undefined) return answer;
      const warm = egresses.filter(
        ({ busy, cooling, usableInMs, cooldownMs, ejectedMs }) =>
          busy + cooling + cooldownMs + ejectedMs > 0 || (usableInMs !== 0 && !account),
      );
      return { ...answer, egresses: warm.sort((a, b) => (a.egress < b.egress ? -1 : 1)) };
    }),
  };
}

/** Gives both the same batches, and expects the same answers to the last digit. `time` is what their clocks show. */
export async function runBatches(
  one: Backend,
  other: Backend,
  { policies, ill, batches }: BatchTrace,
  time: { now: number },
): Promise<void> {
  let seen = { born: 0, steps: 0 };
  let calls = 0;
  let last: ReserveStep | undefined;
  const asked = new Set<string>();
  const routes = new Map<string, StepRoute>();
  /** Of each permit: its route, which a bind tells of. */
  const own = new Map<string, Partial<StepRoute>>();
  const permits: string[] = [];
  /** Calls of this batch. */
  const asking = new Set<string>();
  /** Mostly one of the latest: the others are over. */
  const permitOf = (n: number): string => {
    const from = n % 5 === 0 ? 0 : Math.max(0, permits.length - 9);
    return permits.length === 0 || n % 20 === 0 ? 'nobody' : permits[from + (n % (permits.length - from))];
  };

  const routeOf = (drawn: DrawnRoute): StepRoute => {
    const made = plainRoute(drawn);
    routes.set(made.id, made);
    return made;
  };
  const stepOf = (drawn: DrawnStep): Step => {
    switch (drawn.do) {
      case 'reserve': {
        const { again, pool, pin, offers, ...rest } = drawn;
        if (again && last !== undefined && asked.has(last.id)) {
          asking.add(last.id);
          return last;
        }
        last = {
          ...rest,
          id: `r${++calls}`,
          pool: pin === undefined ? POOLS[pool] : POOLS[pin.pool],
          pin: pin === undefined ? undefined : routeOf({ ...pin, closed: false, endsInMs: undefined }),
          offers: pin === undefined ? offers.map((offer) => routeOf({ ...offer, pool })) : [],
          more: pin === undefined && drawn.more,
          deadlineMs: drawn.deadlineMs + 1,
        };
        return last;
      }
      case 'settle':
        return {
          do: 'settle',
          reports: drawn.reports.map((one): StepReport => ({ ...one, permit: permitOf(one.permit) })),
        };
      case 'bind': {
        const drawnPermit = permitOf(drawn.permit);
        // Of a permit that may be another one by then nobody knows the route yet.
        const permit = asking.has(drawnPermit.replace(/\.\d+$/, '')) ? 'nobody' : drawnPermit;
        // A route is on trial from the start or never.
        const told = { ...routeOf(drawn.route), ...own.get(permit), trial: false };
        // An exit has one weight whoever tells of it first.
        const egress = EXITS[drawn.exit] ?? (told.weight === 1 ? told.egress : EXITS[0]);
        return { do: 'bind', permit, egress, route: told };
      }
      case 'cancel':
        return { do: 'cancel', permits: drawn.permits.map(permitOf) };
      case 'renew':
        return { do: 'renew', permits: drawn.permits.map(permitOf), keepMs: drawn.keepMs };
      case 'drop':
        return { do: 'drop', routes: drawn.routes.map(routeOf) };
      case 'import':
        return {
          do: 'import',
          permits: drawn.permits.map(({ id, exit, keepMs, ...rest }) => {
            permits.push(`i${id}`);
            return { id: `i${id}`, egress: EXITS[exit], keepMs: keepMs + 1, ...rest };
          }),
        };
      default:
        return drawn;
    }
  };

  const take = async (batch: Batch): Promise<void> => {
    const expected = await one.take(JSON.parse(JSON.stringify(batch)) as Batch);
    const answer = await other.take(batch);
    const again = batch.steps.map((step) => step.do === 'reserve' && asked.has(step.id));
    const account = batch.policy.account === true;
    expect(comparable(answer, again, account)).toEqual(comparable(expected, again, account));
    seen = answer;
    batch.steps.forEach((step, i) => {
      if (step.do !== 'reserve') return;
      asked.add(step.id);
      for (const [n, egress, , id] of (expected.answers[i] as ReserveAnswer).grants) {
        permits.push(`${step.id}.${n}`);
        // The route made last under this name may lead elsewhere.
        const { session, shared } = routes.get(id)!;
        own.set(`${step.id}.${n}`, { id, pool: step.pool, session, weight: weightOf(egress), shared, egress });
      }
    });
  };

  const target = 'shop.test';
  // Where health counts, what is forgotten is not the same: so nothing is, for something is in flight everywhere.
  const of = ({ health: ejects, ...rest }: StepPolicy): StepPolicy => (ill ? { ...rest, health: ejects } : rest);
  if (ill) {
    const names = [...EXITS, ...POOLS.flatMap((pool) => Array.from({ length: 6 }, (_, i) => `${pool}/${i}`))];
    const kept = names.map((egress, i) => ({ id: `kept${i}`, egress, cost: 1, keepMs: 1e9 }));
    await take({
      target,
      policy: of(policies[0]),
      seen: { ...seen, agoMs: 0 },
      steps: [{ do: 'import', permits: kept }],
    });
  }
  for (const { policy: n, waitMs, steps } of batches) {
    time.now = Math.max(0, time.now + waitMs);
    const { born, steps: taken } = seen;
    asking.clear();
    await take({
      target,
      policy: of(policies[n % policies.length]),
      seen: { born, steps: taken, agoMs: Math.max(0, waitMs) },
      steps: steps.map(stepOf),
    });
  }
}
