import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { localBackend } from '../../src/store/shared/local.ts';
import type {
  Backend,
  BatchAnswer,
  BindAnswer,
  ReserveAnswer,
  ReserveStep,
  Seen,
  SnapshotAnswer,
  Step,
  StepPolicy,
  StepReport,
  StepRoute,
} from '../../src/store/shared/steps.ts';
import { SqliteBackend } from '../../src/store/sqlite/sqlite-backend.ts';
import type { Verdict } from '../../src/store/store.ts';
import { type VirtualClock, virtualClock } from '../../src/testing/virtual-clock.ts';
import { BREAKER, HEALTH } from '../support/adapting.ts';
import { reserveStep, stepReport, stepRoute } from '../support/plain-steps.ts';

const NOT_SEEN: Seen = { born: 0, steps: 0, agoMs: 0 };
const POLICY: StepPolicy = { limit: 2, windowMs: 100, spacingMs: 0, rates: [] };

const backends: Record<string, (clock: VirtualClock) => Backend> = {
  memory: (clock) => localBackend({ clock }),
  sqlite: (clock) => new SqliteBackend(':memory:', 0, () => clock.now()),
};

const route = (n: number, options: Partial<StepRoute> = {}): StepRoute => stepRoute(`r${n}`, `e${n}`, options);

let calls = 0;
const reserve = (options: Partial<ReserveStep> = {}): ReserveStep => reserveStep(`call${++calls}`, options);

describe.each(Object.keys(backends))('steps over records: %s', (name) => {
  let clock: VirtualClock;
  let backend: Backend;
  beforeEach(() => {
    clock = virtualClock();
    clock.advanceSync(1000);
    backend = backends[name](clock);
  });
  afterEach(() => backend.close());

  const take = (steps: readonly Step[], policy = POLICY, seen = NOT_SEEN): BatchAnswer =>
    backend.take({ target: 't', policy, seen, steps }) as BatchAnswer;
  const ask = (options?: Partial<ReserveStep>, policy?: StepPolicy): ReserveAnswer =>
    take([reserve(options)], policy).answers[0] as ReserveAnswer;
  const settle = (reports: readonly StepReport[], policy?: StepPolicy): readonly Verdict[] =>
    take([{ do: 'settle', reports }], policy).answers[0] as readonly Verdict[];
  const inspect = (policy?: StepPolicy): SnapshotAnswer =>
    take([{ do: 'inspect' }], policy).answers[0] as SnapshotAnswer;
  const egress = (key: string) => inspect().egresses.find((one) => one.egress === key);

  it('takes nothing twice when a call is asked again', () => {
    const step = reserve({ count: 2, offers: [route(1, { endsInMs: 5000 })] });
    const [first] = take([step]).answers as ReserveAnswer[];
    expect(first.grants).toEqual([
      [0, 'e1', 0, 'r1', null, 5000, false],
      [1, 'e1', 0, 'r1', null, 5000, false],
    ]);
    clock.advanceSync(10);
    const [again] = take([step]).answers as ReserveAnswer[];
    expect(again.grants).toEqual([
      [0, 'e1', 0, 'r1', null, 4990, false],
      [1, 'e1', 0, 'r1', null, 4990, false],
    ]);
    expect([egress('e1')?.busy, inspect().active]).toEqual([2, 2]);
    settle([stepReport(`${step.id}.0`)]);
    const [rest] = take([step]).answers as ReserveAnswer[];
    expect(rest.grants.map(([n]) => n)).toEqual([1]);
    expect([rest.limiting, rest.retryInMs! > 0, inspect().active]).toEqual(['budget', true, 1]);
  });

  it('takes up offers only as they are needed, and says when it would take another', () => {
    const offers = [route(1, { closed: true }), route(2, { endsInMs: 0 }), route(3), route(4), route(5)];
    const some = ask({ count: 3, offers, more: true });
    expect(some.grants.map(([, key]) => key)).toEqual(['e3', 'e3', 'e4']);
    expect([some.taken, some.wants]).toEqual([4, false]);
    const none = ask({ count: 2, more: true });
    expect(none).toMatchObject({ taken: 0, wants: true, limiting: 'budget' });
    expect(none.grants.length).toBe(1);
    settle([stepReport(`call${calls}.0`)]);
    // It could be booked ahead.
    const ahead = ask({ more: true, horizonMs: 500 });
    expect([ahead.grants.length, ahead.wants, ahead.limiting]).toEqual([0, true, undefined]);
    const booked = ask({ horizonMs: 500 });
    expect(booked.grants).toEqual([[0, 'e4', 100, 'r4', null, null, false]]);
    expect(booked.wants).toBe(false);
  });

  it('rests for a window when what a process has seen is gone, or is an older state', () => {
    const seen = take([reserve({ offers: [route(1)] })]);
    const { born, steps } = seen;
    expect([born, steps, seen.setBack]).toEqual([1000, 1, false]);
    const same = take([reserve()], POLICY, { born, steps, agoMs: 5 });
    expect([same.setBack, (same.answers[0] as ReserveAnswer).grants.length]).toEqual([false, 1]);
    const long = take([], POLICY, { born: 7, steps, agoMs: 60_100 });
    expect(long.setBack).toBe(false);
    for (const other of [
      { born: 7, steps: 1, agoMs: 5 },
      { born, steps: 9, agoMs: 5 },
    ]) {
      const lost = take([reserve({ offers: [route(2)] })], POLICY, other);
      expect(lost.setBack).toBe(true);
      expect(lost.answers[0]).toMatchObject({ grants: [], limiting: 'target', retryInMs: 100 });
      clock.advanceSync(100);
      expect(ask({ offers: [route(2)] }).grants.length).toBe(1);
    }
    const gone = backend.take({ target: 'u', policy: POLICY, seen: { born, steps, agoMs: 5 }, steps: [] });
    expect(gone).toMatchObject({ setBack: true, steps: 1, born: clock.now() });
  });

  it('keeps the place of a body that is being read for as long as it is told so', () => {
    const policy = { ...POLICY, concurrency: 1 };
    ask({ offers: [route(1)] }, policy);
    const id = `call${calls}.0`;
    settle([stepReport(id, { end: false, keepMs: 300 })], policy);
    expect(ask({}, policy)).toMatchObject({ grants: [], limiting: 'concurrency' });
    clock.advanceSync(250);
    take([{ do: 'renew', permits: [id, 'unknown'], keepMs: 300 }], policy);
    clock.advanceSync(299);
    expect(inspect(policy).active).toBe(1);
    clock.advanceSync(1);
    expect(inspect(policy).active).toBe(0);
    expect(ask({}, policy).grants.length).toBe(1);
  });

  it('takes over permits that were given elsewhere, whatever is free', () => {
    take([
      {
        do: 'import',
        permits: [
          { id: 'x.0', egress: 'e1', cost: 2, keepMs: 500 },
          { id: 'x.1', egress: 'e1', cost: 1, keepMs: 0, cooledForMs: 40 },
          { id: 'x.2', egress: 'e1', cost: 1, keepMs: 500, cooledForMs: 10 },
        ],
      },
    ]);
    expect(egress('e1')).toMatchObject({ busy: 2, cooling: 2, remaining: 0, usableInMs: undefined });
    expect(inspect().active).toBe(2);
    // Known ones are passed by.
    take([{ do: 'import', permits: [{ id: 'x.0', egress: 'e1', cost: 2, keepMs: 500 }] }]);
    expect(egress('e1')?.busy).toBe(2);
    settle([stepReport('x.0'), stepReport('x.2')]);
    expect(inspect().active).toBe(0);
    // Four slots cool, two there are: it is usable when three have cooled.
    expect(egress('e1')).toMatchObject({ busy: 0, cooling: 4, usableInMs: 100 });
    expect(ask({ offers: [route(1)] })).toMatchObject({ grants: [], retryInMs: 100 });
    clock.advanceSync(100);
    expect(ask().grants.length).toBe(1);
  });

  it('finds a permit lost that was taken over and never settled', () => {
    take([{ do: 'import', permits: [{ id: 'x.0', egress: 'e1', cost: 2, keepMs: 50 }] }]);
    clock.advanceSync(50);
    expect(egress('e1')).toMatchObject({ busy: 0, cooling: 2, usableInMs: 100 });
    expect(settle([stepReport('x.0', { outcome: 'rate-limited' })])).toEqual([]);
  });

  it('takes over what an account spent elsewhere', () => {
    const policy = { ...POLICY, account: true };
    const { grants } = ask({ offers: [route(1)] }, policy);
    expect(grants.length).toBe(1);
    take([{ do: 'import', permits: [{ id: 'x.0', egress: 'e2', cost: 1, keepMs: 500 }] }], policy);
    expect(ask({}, policy)).toMatchObject({ grants: [], limiting: 'target' });
    take([{ do: 'cancel', permits: ['x.0', 'x.0', 'unknown'] }], policy);
    expect(ask({}, policy).grants.length).toBe(1);
  });

  it('rests as it is told', () => {
    take([
      { do: 'rest', forMs: 70 },
      { do: 'rest', forMs: 30 },
    ]);
    expect(inspect().restMs).toBe(70);
    expect(ask({ offers: [route(1)] })).toMatchObject({ grants: [], retryInMs: 70, limiting: 'target' });
  });

  it('leaves routes alone that are dropped', () => {
    ask({ count: 3, offers: [route(1), route(2)] });
    const drop = (id: string, key: string): void =>
      void take([{ do: 'drop', routes: [{ id, pool: 'pool', egress: key }] }]);
    drop('r9', 'e2');
    drop('r2', 'e3');
    expect(ask().grants.length).toBe(1);
    take([{ do: 'cancel', permits: [`call${calls}.0`] }]);
    drop('r2', 'e2');
    expect(ask({ more: true })).toMatchObject({ grants: [], wants: true, limiting: 'budget' });
  });

  it('lets one request try a route on trial, until it is told what it leads to', () => {
    const trial = route(1, { trial: true });
    expect(ask({ count: 2, offers: [trial] }).grants).toMatchObject([[0, 'e1', 0, 'r1', null, null, true]]);
    const id = `call${calls}.0`;
    const bind = { do: 'bind', permit: id, egress: 'x', route: { ...trial, trial: false } } as const;
    expect(take([bind]).answers[0] as BindAnswer).toEqual({ ok: true, retryInMs: 0, duplicate: false });
    expect(ask({ count: 2 }).grants).toMatchObject([[0, 'x', 0, 'r1', null, null, false]]);
  });

  it('goes on when the clock has stepped back', () => {
    ask({ count: 2, offers: [route(1)] });
    settle([stepReport(`call${calls}.0`), stepReport(`call${calls}.1`)]);
    const behind = virtualClock();
    (backend as unknown as { clock: VirtualClock; now: () => number }).clock = behind;
    if (backend instanceof SqliteBackend) Object.assign(backend, { now: () => behind.now() });
    expect(ask()).toMatchObject({ grants: [], retryInMs: 100 });
    behind.advanceSync(100);
    expect(ask().grants.length).toBe(1);
  });

  it('finds new places one by one where egresses are many, and loses none', () => {
    const many = Array.from({ length: 600 }, (_, i) => route(i));
    expect(ask({ count: 600, offers: many }, { ...POLICY, limit: 1 }).grants.length).toBe(600);
    const busy = calls;
    // Twice as many slots: all of them are usable at once, but are found as something happens to them.
    settle(
      Array.from({ length: 300 }, (_, i) => stepReport(`call${busy}.${i}`)),
      { ...POLICY, limit: 1 },
    );
    clock.advanceSync(100);
    const more = ask({ count: 700 }, { ...POLICY, limit: 2 });
    expect(more.grants.length).toBe(600);
    const keys = more.grants.map(([, key]) => key);
    expect(new Set(keys).size).toBe(300);
    // Fewer slots: nobody gets more than there are.
    settle(
      Array.from({ length: 600 }, (_, i) => stepReport(`call${calls}.${i}`)),
      { ...POLICY, limit: 2 },
    );
    clock.advanceSync(100);
    const fewer = ask({ count: 700 }, { ...POLICY, limit: 1 });
    expect(fewer.grants.length).toBe(300);
    expect(new Set(fewer.grants.map(([, key]) => key)).size).toBe(300);
  });

  it('looks past those that are full by now where egresses are many', () => {
    const many = Array.from({ length: 600 }, (_, i) => route(i));
    const all = ask({ count: 600, offers: many }, { ...POLICY, limit: 1 });
    expect(all.grants.length).toBe(600);
    take([{ do: 'cancel', permits: Array.from({ length: 600 }, (_, i) => `call${calls}.${i}`) }]);
    // Half of them have one in flight, of two; the others have been used since, and have cooled.
    const held = ask({ count: 300 });
    clock.advanceSync(10);
    const used = ask({ count: 300 });
    const keys = new Set(used.grants.map(([, key]) => key));
    expect([keys.size, held.grants.some(([, key]) => keys.has(key))]).toEqual([300, false]);
    settle(Array.from({ length: 300 }, (_, i) => stepReport(`call${calls}.${i}`)));
    clock.advanceSync(100);
    const fewer = ask({ count: 600 }, { ...POLICY, limit: 1 });
    expect(fewer.grants.length).toBe(300);
    expect(fewer.grants.every(([, key]) => keys.has(key))).toBe(true);
    take([{ do: 'cancel', permits: Array.from({ length: 300 }, (_, i) => `call${calls}.${i}`) }]);
    expect(ask({ count: 300, cost: 2 }, { ...POLICY, limit: 2 }).grants.every(([, key]) => keys.has(key))).toBe(true);
  });

  it('keeps what it knows of the quota of an egress that no route leads to', () => {
    ask({ offers: [route(1)] });
    const quota = { spacingMs: 40, forMs: 1000, exhausted: false, account: false };
    settle([stepReport(`call${calls}.0`, { quota })]);
    take([{ do: 'drop', routes: [{ id: 'r1', pool: 'pool', egress: 'e1' }] }]);
    clock.advanceSync(200);
    for (let i = 0; i < 4; i++) ask();
    const { grants } = ask({ count: 2, pin: route(1), horizonMs: 100 });
    expect(grants.map(([, , startInMs]) => startInMs)).toEqual([0, 40]);
    settle([stepReport(`call${calls}.0`), stepReport(`call${calls}.1`)]);
    clock.advanceSync(1000);
    for (let i = 0; i < 4; i++) ask();
    expect(inspect().egresses).toEqual([]);
  });

  it('does not take a route on trial for one that can stand in', () => {
    const policy = { ...POLICY, limit: 100, health: { ...HEALTH, minSamples: 2 } };
    ask({ count: 3, offers: [route(1), route(2, { trial: true })] }, { ...policy, limit: 2 });
    const permits = [0, 1, 2].map((n) => `call${calls}.${n}`);
    const blocked = (n: number) => stepReport(permits[n], { outcome: 'blocked' });
    expect(settle([blocked(0), blocked(1)], policy)).toEqual([]);
    settle([stepReport(permits[2])], policy);
    clock.advanceSync(100);
    const { grants } = ask({ pin: route(1) }, policy);
    expect(grants.length).toBe(1);
    expect(settle([stepReport(`call${calls}.0`, { outcome: 'blocked' })], policy)).toMatchObject([{ kind: 'ejected' }]);
    expect(ask({ pin: route(1) }, policy)).toMatchObject({ grants: [], limiting: 'health' });
  });

  it('takes an egress that is led to again for a new one, whether it was forgotten or not', () => {
    const one = { ...POLICY, limit: 1 };
    const fillers = Array.from({ length: 20 }, (_, i) => route(50 + i, { pool: 'other' }));
    ask({ offers: [route(2)] }, one);
    ask({ count: 20, pool: 'other', offers: fillers }, one);
    settle([stepReport(`call${calls - 1}.0`)], one);
    clock.advanceSync(10);
    ask({ offers: [route(1)] }, one);
    settle([stepReport(`call${calls}.0`)], one);
    take([{ do: 'drop', routes: [{ id: 'r1', pool: 'pool', egress: 'e1' }] }], one);
    clock.advanceSync(140);
    const both = ask({ count: 2, offers: [route(3, { egress: 'e1' })] }, one);
    expect(both.grants.map(([, key]) => key)).toEqual(['e2', 'e1']);
    take([{ do: 'cancel', permits: [`call${calls}.0`, `call${calls}.1`] }], one);
    // The other one has been used, long ago as it was.
    expect(ask({}, one).grants.map(([, key]) => key)).toEqual(['e1']);
  });

  it('takes the longest idle one for several slots, too', () => {
    ask({ count: 2, offers: [route(2)] });
    settle([0, 1].map((n) => stepReport(`call${calls}.${n}`)));
    clock.advanceSync(10);
    ask({ offers: [route(1)] });
    settle([stepReport(`call${calls}.0`)]);
    clock.advanceSync(300);
    expect(ask({ cost: 2 }).grants.map(([, key]) => key)).toEqual(['e2']);
  });

  it('finds what was out at once when nobody asks for health any more', () => {
    const policy = { ...POLICY, limit: 100, health: { ...HEALTH, minSamples: 2 } };
    ask({ count: 2, offers: [route(1), route(2)] }, { ...policy, limit: 1 });
    const permits = [`call${calls}.0`, `call${calls}.1`];
    ask({ pin: route(1) }, policy);
    const verdicts = settle(
      [permits[0], `call${calls}.0`].map((id) => stepReport(id, { outcome: 'blocked' })),
      policy,
    );
    expect(verdicts).toMatchObject([{ kind: 'ejected', egress: 'e1' }]);
    clock.advanceSync(100);
    take([
      { do: 'cancel', permits: [permits[1]] },
      { do: 'drop', routes: [{ id: 'r2', pool: 'pool', egress: 'e2' }] },
    ]);
    const healthy = ask({ offers: [route(3)] }, policy);
    expect(healthy.grants.map(([, key]) => key)).toEqual(['e3']);
    take([{ do: 'drop', routes: [{ id: 'r3', pool: 'pool', egress: 'e3' }] }]);
    const { health: _, ...other } = policy;
    const careless = ask({ offers: [route(4)] }, other);
    expect([careless.grants.map(([, key]) => key), careless.taken]).toEqual([['e1'], 0]);
  });

  it('lets a permit that was granted before its egress went out be the probe', () => {
    const policy = { ...POLICY, limit: 100, health: { ...HEALTH, minSamples: 2 } };
    ask({ count: 2, offers: [route(1), route(2)] }, { ...policy, limit: 1 });
    const [early] = [`call${calls}.0`];
    ask({ count: 2, pin: route(1) }, policy);
    const bad = [0, 1].map((n) => stepReport(`call${calls}.${n}`, { outcome: 'blocked' }));
    const [ejected] = settle(bad, policy);
    expect(ejected).toMatchObject({ kind: 'ejected', egress: 'e1' });
    clock.advanceSync((ejected as { forMs: number }).forMs - 1000);
    const bind = { do: 'bind', permit: early, egress: 'e1', route: route(1) } as const;
    // Granted again, for the first one is lost by now.
    take([{ do: 'import', permits: [{ id: 'x.0', egress: 'e1', cost: 1, keepMs: 9000 }] }], policy);
    clock.advanceSync(1000);
    expect(take([{ ...bind, permit: 'x.0' }], policy).answers).toMatchObject([{ ok: true }]);
    expect(ask({ pin: route(1) }, policy)).toMatchObject({ grants: [], limiting: 'health' });
    expect(settle([stepReport('x.0')], policy)).toMatchObject([{ kind: 'returned', egress: 'e1' }]);
  });

  it('waits longer after each blind dial in a row that came to nothing', () => {
    const rotating = route(1, { weight: undefined });
    const long = { ...POLICY, windowMs: 25_600 };
    ask({ pin: route(2) }, { ...long, limit: 1 });
    const dial = (to: string): void => {
      const { grants } = ask({ pin: rotating }, { ...long, limit: 1 });
      expect(grants.length).toBe(1);
      take([{ do: 'bind', permit: `call${calls}.0`, egress: to, route: rotating }], { ...long, limit: 1 });
    };
    const pauses: (number | undefined)[] = [];
    for (const to of ['e2', 'e2', 'e2', 'e3', 'e2']) {
      dial(to);
      const pauseMs = inspect({ ...long, limit: 1 }).egresses.find((one) => one.egress === 'e1')!.cooldownMs;
      pauses.push(pauseMs);
      clock.advanceSync(pauseMs);
      take([{ do: 'import', permits: [{ id: `y${calls}`, egress: 'e2', cost: 1, keepMs: 500_000 }] }], long);
    }
    expect(pauses).toEqual([100, 200, 400, 0, 100]);
  });

  it('ejects no more than the share where egresses are many', () => {
    const policy = { ...POLICY, limit: 100, health: { ...HEALTH, minSamples: 2, maxEjectedShare: 0.01 } };
    const many = Array.from({ length: 600 }, (_, i) => route(i));
    ask({ count: 600, offers: many }, { ...policy, limit: 1 });
    const verdicts: Verdict[] = [];
    for (let i = 0; i < 20; i++) {
      const { grants } = ask({ count: 2, pin: many[i] }, policy);
      expect(grants.length).toBe(2);
      verdicts.push(
        ...settle(
          [0, 1].map((n) => stepReport(`call${calls}.${n}`, { outcome: 'blocked' })),
          policy,
        ),
      );
    }
    expect(verdicts.map(({ kind }) => kind)).toEqual(new Array(6).fill('ejected'));
  });

  it('tells apart the probes of a circuit that opened since', () => {
    const policy = { ...POLICY, limit: 100, breaker: { ...BREAKER, minCalls: 1, halfOpenCalls: 1 } };
    take([{ do: 'import', permits: [{ id: 'x.0', egress: 'e1', cost: 1, keepMs: 5000 }] }], policy);
    expect(settle([stepReport('x.0', { outcome: 'target-error' })], policy)).toMatchObject([
      { kind: 'circuit', open: true },
    ]);
    take([{ do: 'import', permits: [{ id: 'x.1', egress: 'e1', cost: 1, keepMs: 5000 }] }], policy);
    expect(settle([stepReport('x.1', { outcome: 'ok' })], policy)).toEqual([]);
    expect(inspect(policy).circuit).toBe('open');
    clock.advanceSync(1000);
    expect(ask({ count: 2, offers: [route(1)] }, policy)).toMatchObject({
      grants: [[0, 'e1', 0, 'r1', null, null, false]],
      limiting: 'breaker',
      probing: true,
    });
    expect(settle([stepReport(`call${calls}.0`)], policy)).toMatchObject([{ kind: 'circuit', open: false }]);
  });

  it('forgets a target that nobody has used for long, and only then', () => {
    const { born } = take([reserve({ offers: [route(1)], deadlineMs: 200_000 })]);
    const others = (): void => {
      for (let i = 0; i < 100; i++) {
        void backend.take({ target: `u${i % 3}`, policy: POLICY, seen: NOT_SEEN, steps: [] });
      }
    };
    clock.advanceSync(200_050);
    others();
    // Lost at its deadline, it cools.
    expect(inspect()).toMatchObject({ active: 0, egresses: [{ egress: 'e1', cooling: 1 }] });
    clock.advanceSync(60_050);
    others();
    expect(take([]).born).toBe(born);
    clock.advanceSync(60_101);
    others();
    expect(take([]).born).toBe(clock.now());
  });
});
