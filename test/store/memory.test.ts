import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/clock.ts';
import { MemoryStore, memoryStore } from '../../src/store/memory.ts';
import type { Grant, Policy, Route } from '../../src/store/store.ts';
import { virtualClock } from '../../src/testing/virtual-clock.ts';
import { worstWindow } from '../../src/testing/window.ts';
import { atStore, storePolicy, TARGET } from '../support/at-store.ts';
import { collectGarbage } from '../support/garbage.ts';
import { offerOf, storeRoute } from '../support/store-trace.ts';

const routes = (count: number, options: Partial<Route> = {}): Route[] =>
  Array.from({ length: count }, (_, i) => storeRoute(i + 1, options));

const ids = (grants: readonly Grant[]): string[] => grants.map(({ route }) => route.id);

describe('which egress, and when', () => {
  it('spends the slots of one egress before it takes another from the pool', () => {
    const { reserve } = atStore(routes(3));
    expect(ids(reserve(3).grants)).toEqual(['pool/1', 'pool/1', 'pool/2']);
  });

  it('of several usable egresses takes the longest idle', () => {
    const { clock, reserve, answer, grant } = atStore(routes(3), storePolicy({ limit: 1 }));
    const { grants } = reserve(3);
    for (const i of [1, 2, 0]) {
      clock.advanceSync(1);
      answer(grants[i]);
    }
    clock.advanceSync(200);
    expect(ids([grant(), grant(), grant()])).toEqual(['pool/2', 'pool/3', 'pool/1']);
  });

  it('names the instant of the soonest usable egress, to the millisecond', () => {
    const { clock, reserve, answer } = atStore(routes(3), storePolicy({ limit: 1 }));
    const { grants } = reserve(3);
    answer(grants[2], 'rate-limited', { retryAfterMs: 500 });
    clock.advanceSync(7);
    answer(grants[1]);
    clock.advanceSync(20);
    answer(grants[0]);
    expect(reserve(1)).toEqual({ grants: [], retryInMs: 80, limiting: 'budget' });
    clock.advanceSync(79.5);
    expect(reserve(1).retryInMs).toBe(0.5);
    clock.advanceSync(0.5);
    expect(ids(reserve(1).grants)).toEqual(['pool/2']);
  });

  it('knows no instant while all slots are in flight', () => {
    const { reserve } = atStore(routes(1));
    expect(reserve(3)).toMatchObject({ retryInMs: Infinity, limiting: 'budget' });
  });

  it('asks the pool for another route only when no known one is usable soon enough', () => {
    const { clock, reserve, answer, grant } = atStore(routes(3), storePolicy({ limit: 1 }));
    answer(grant());
    clock.advanceSync(60);
    expect(reserve(1, { patienceMs: 40 })).toMatchObject({ grants: [], retryInMs: 40 });
    expect(ids(reserve(1, { patienceMs: 39 }).grants)).toEqual(['pool/2']);
  });

  it('asks the pool again where it stopped, each pool in its own order', () => {
    const { store } = atStore([]);
    const asked: string[] = [];
    const demand = (pool: string, count: number) => ({
      count,
      policy: storePolicy({ limit: 1 }),
      pool,
      offer: (after: number) => {
        asked.push(`${pool}>${after}`);
        return after < 2 ? storeRoute(after + 1, { pool }) : undefined;
      },
      patienceMs: 0,
      horizonMs: 0,
      deadlineMs: 1000,
    });
    store.reserve(TARGET, demand('x', 1));
    store.reserve(TARGET, demand('y', 2));
    store.reserve(TARGET, demand('x', 2));
    store.reserve('other.test', demand('x', 1));
    expect(asked).toEqual(['x>0', 'y>0', 'y>1', 'x>1', 'x>2', 'x>0']);
  });

  it('never grants a route that was closed or has expired, though its egress is usable', () => {
    const given = [...routes(6).map((route) => ({ ...route, expiresAt: 50 })), ...routes(12).slice(6)];
    const { clock, reserve, answer } = atStore(given, storePolicy({ limit: 1 }));
    for (const grant of reserve(12).grants) answer(grant);
    clock.advanceSync(200);
    for (const route of given.slice(6, 11)) route.closed = true;
    expect(ids(reserve(12).grants)).toEqual(['pool/12']);
  });

  it('lets one request try a route whose exit is about to be named, and all others once it is', () => {
    const [route] = routes(1, { trial: true });
    const { reserve, store, grant } = atStore([route]);
    const first = grant();
    expect(reserve(1)).toEqual({ grants: [], retryInMs: Infinity, limiting: 'budget' });
    route.trial = false;
    store.bind(TARGET, first, '10.0.0.1');
    expect(reserve(1).grants).toMatchObject([{ egress: '10.0.0.1' }]);
  });

  it('serves two pools that lead to the same egress, from one budget', () => {
    const given = ['one', 'two'].map((pool) => storeRoute(1, { pool, egress: '10.0.0.1' }));
    const { clock, reserve, answer, grant } = atStore(given, storePolicy({ limit: 2 }));
    const ask = (pool: string) => ({
      pool,
      offer: offerOf(
        given.filter((route) => route.pool === pool),
        clock,
      ),
    });
    answer(grant(ask('one')));
    clock.advanceSync(10);
    const second = grant(ask('two'));
    expect(second).toMatchObject({ route: { id: 'two/1' }, egress: '10.0.0.1' });
    answer(second);
    expect(reserve(1, ask('two')).retryInMs).toBe(90);
    clock.advanceSync(90);
    answer(grant(ask('two')));
    // The first pool's route ends; the second pool's goes on, also after clean-up.
    given[0].closed = true;
    for (let i = 0; i < 20; i++) {
      clock.advanceSync(200);
      expect(reserve(1, ask('one')).grants).toEqual([]);
      answer(grant(ask('two')));
    }
    clock.advanceSync(200);
    expect(reserve(9, ask('two')).grants).toHaveLength(2);
  });
});

describe('all limits or none', () => {
  const rate = { limit: 4, windowMs: 100, burst: 2 };

  it('grants as many as every limit allows, and says which one stood in the way', () => {
    const { reserve } = atStore(routes(9), storePolicy({ concurrency: 3 }));
    expect(reserve(5)).toMatchObject({ grants: { length: 3 }, limiting: 'concurrency', retryInMs: Infinity });
    const paced = atStore(routes(9), storePolicy({ rates: [rate], concurrency: 3 }));
    const { grants, limiting, retryInMs } = paced.reserve(5);
    expect([grants.length, limiting]).toEqual([2, 'rate']);
    expect(retryInMs).toBeCloseTo(100 / 3);
    const tight = atStore(routes(1), storePolicy({ limit: 1, rates: [rate], concurrency: 3 }));
    expect(tight.reserve(5)).toMatchObject({ grants: { length: 1 }, limiting: 'budget' });
  });

  it('a limit that refuses takes nothing from the others', () => {
    const { store, clock, reserve, answer, grant } = atStore(
      routes(1),
      storePolicy({ limit: 1, rates: [rate], concurrency: 3 }),
    );
    answer(grant());
    const before = store.inspect(TARGET);
    for (let i = 0; i < 10; i++) expect(reserve(3).grants).toEqual([]);
    expect(store.inspect(TARGET)).toEqual(before);
    clock.advanceSync(100);
    // Rate and concurrency are there in full: the budget alone stood in the way.
    expect(reserve(3, { policy: storePolicy({ limit: 9, rates: [rate], concurrency: 3 }) }).grants).toHaveLength(2);
  });

  it('a place among the concurrent ones is free when the exchange ends, not when the headers come', () => {
    const { reserve, answer, grant } = atStore(routes(9), storePolicy({ concurrency: 1 }));
    const first = grant();
    answer(first, 'ok', { end: false });
    expect(reserve(1)).toEqual({ grants: [], retryInMs: Infinity, limiting: 'concurrency' });
    answer(first);
    expect(reserve(1).grants).toHaveLength(1);
  });

  it('keeps the rate over all egresses, also when permits are given back', () => {
    const { clock, reserve, store, grant } = atStore(routes(100), storePolicy({ rates: [{ ...rate, burst: 1 }] }));
    const first = grant();
    clock.advanceSync(30);
    grant();
    store.cancel(TARGET, [first]);
    // The first one's share had come back by itself at 25.
    expect(reserve(1)).toMatchObject({ grants: [], limiting: 'rate', retryInMs: 25 });
  });
});

describe('even spacing', () => {
  const even = storePolicy({ limit: 4, spacingMs: 25 });

  it('is kept between grants on one egress', () => {
    const { clock, reserve, answer, grant } = atStore(routes(1), even);
    answer(grant());
    clock.advanceSync(10);
    expect(reserve(1)).toEqual({ grants: [], retryInMs: 15, limiting: 'budget' });
    clock.advanceSync(15);
    expect(reserve(2)).toMatchObject({ grants: { length: 1 }, retryInMs: 25 });
  });

  it('is stretched by up to 4 %, never shortened', () => {
    const clock = virtualClock();
    const store = new MemoryStore(clock, () => 0.9999999);
    const demand = {
      count: 2,
      policy: even,
      pool: 'pool',
      offer: offerOf(routes(1), clock),
      patienceMs: 0,
      horizonMs: 0,
      deadlineMs: 1,
    };
    expect(store.reserve(TARGET, demand).retryInMs).toBeCloseTo(26);
  });

  it('is given back with a permit that was not used', () => {
    const { reserve, store, grant } = atStore(routes(1), even);
    store.cancel(TARGET, [grant()]);
    expect(reserve(1).grants).toHaveLength(1);
  });

  it('is not given back over the head of a later grant', () => {
    const { clock, reserve, store, grant } = atStore(routes(1), even);
    const first = grant();
    clock.advanceSync(25);
    grant();
    store.cancel(TARGET, [first]);
    expect(reserve(1)).toMatchObject({ grants: [], retryInMs: 25 });
  });
});

describe('bind', () => {
  it('to the egress it was granted for: the permit stays as it is', () => {
    const { store, egress, grant } = atStore(routes(1), storePolicy({ limit: 1 }));
    const permit = grant();
    expect(store.bind(TARGET, permit, 'pool/1')).toEqual({ ok: true, retryInMs: 0, duplicate: false });
    expect(egress('pool/1')).toMatchObject({ busy: 1 });
  });

  it('to another egress: the permit and the route move there', () => {
    const { clock, store, egress, reserve, answer, grant } = atStore(routes(1), storePolicy({ limit: 1 }));
    const permit = grant();
    expect(store.bind(TARGET, permit, '10.0.0.1')).toEqual({ ok: true, retryInMs: 0, duplicate: false });
    expect(permit.egress).toBe('10.0.0.1');
    expect(egress('10.0.0.1')).toMatchObject({ busy: 1 });
    expect(egress('pool/1')?.busy ?? 0).toBe(0);
    answer(permit);
    expect(reserve(1).retryInMs).toBe(100);
    clock.advanceSync(100);
    expect(grant()).toMatchObject({ egress: '10.0.0.1', route: { id: 'pool/1' } });
  });

  it('to an egress over budget: refused, and nothing is spent', () => {
    const policy = storePolicy({
      limit: 1,
      spacingMs: 50,
      rates: [{ limit: 2, windowMs: 100, burst: 2 }],
      concurrency: 2,
    });
    const { clock, store, reserve, answer, grant, egress } = atStore(routes(2), policy);
    const first = grant();
    store.bind(TARGET, first, '10.0.0.1');
    answer(first);
    clock.advanceSync(10);
    const second = grant();
    const before = store.inspect(TARGET);
    expect(store.bind(TARGET, second, '10.0.0.1')).toEqual({ ok: false, retryInMs: 90, duplicate: true });
    expect(egress('10.0.0.1')).toEqual(before.targets[0].egresses.find((one) => one.egress === '10.0.0.1'));
    expect(egress('pool/2')).toMatchObject({ busy: 0, usableInMs: 0 });
    expect(store.inspect(TARGET).targets[0].active).toBe(0);
    // Its share of the rate is there again.
    expect(reserve(2, { offer: offerOf(routes(9).slice(2), clock) }).grants).toHaveLength(1);
    // Settling what is gone does nothing.
    answer(second);
    expect(egress('10.0.0.1')).toMatchObject({ cooling: 1 });
  });

  it('to an egress in cooldown, though it came since the grant: refused', () => {
    const { store, reserve, answer } = atStore(routes(1));
    const [first, second] = reserve(2).grants;
    answer(first, 'rate-limited', { retryAfterMs: 300 });
    expect(store.bind(TARGET, second, 'pool/1')).toEqual({ ok: false, retryInMs: 300, duplicate: false });
  });

  it('says when another live route leads there already; the egress keeps that one', () => {
    const given = routes(2);
    const { clock, store, reserve, grant, answer } = atStore(given, storePolicy({ limit: 3 }));
    const first = grant();
    store.bind(TARGET, first, '10.0.0.1');
    const second = grant({ pin: given[1] });
    expect(store.bind(TARGET, second, '10.0.0.1')).toEqual({ ok: true, retryInMs: 0, duplicate: true });
    answer(first);
    answer(second);
    clock.advanceSync(200);
    expect(ids(reserve(3).grants)).toEqual(['pool/1', 'pool/1', 'pool/1']);
    const third = grant({ pin: given[1] });
    given[0].closed = true;
    expect(store.bind(TARGET, third, '10.0.0.9')).toMatchObject({ ok: true, duplicate: false });
  });

  it('of a rotating route without budget: every exit has its own, and the way in has none', () => {
    const [rotating] = routes(1, { weight: Infinity, egress: 'pool/rotating' });
    const { clock, store, reserve, egress } = atStore([rotating], storePolicy({ limit: 1 }));
    const { grants } = reserve(50);
    expect(grants).toHaveLength(50);
    for (const [i, grant] of grants.slice(0, 40).entries()) {
      expect(store.bind(TARGET, grant, `10.0.0.${i}`).ok).toBe(true);
    }
    expect(egress('10.0.0.7')).toMatchObject({ busy: 1, remaining: 0 });
    // Exits that are used up: each time in a row it waits twice as long before it dials blindly again, up to a window.
    const pauses = grants.slice(40).map((grant) => {
      expect(store.bind(TARGET, grant, '10.0.0.0')).toMatchObject({ ok: false, duplicate: false });
      const { retryInMs } = reserve(1);
      clock.advanceSync(retryInMs);
      return retryInMs;
    });
    expect(pauses).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 8].map((n) => (100 * 2 ** n) / 256));
    // One that is usable ends the row.
    const [found, next] = reserve(2).grants;
    expect(store.bind(TARGET, found, '10.1.0.0').ok).toBe(true);
    store.bind(TARGET, next, '10.0.0.0');
    expect(reserve(1).retryInMs).toBe(100 / 256);
  });

  it('forgets a row of futile dials after a while', () => {
    const [rotating] = routes(1, { weight: Infinity, egress: 'pool/rotating' });
    const { clock, store, reserve, grant } = atStore([rotating], storePolicy({ limit: 1 }));
    store.bind(TARGET, grant(), '10.0.0.0');
    const futile = (): number => {
      store.bind(TARGET, grant(), '10.0.0.0');
      return reserve(1).retryInMs;
    };
    const pauses = Array.from({ length: 3 }, () => {
      const pauseMs = futile();
      clock.advanceSync(pauseMs);
      return pauseMs;
    });
    expect(pauses).toEqual([100 / 256, 200 / 256, 400 / 256]);
    clock.advanceSync(200);
    expect(futile()).toBe(100 / 256);
  });

  it('never moves a permit that is over', () => {
    const { clock, store, reserve, answer } = atStore(routes(1), storePolicy({ limit: 4 }));
    const [settled, cancelled, lost] = reserve(3, { deadlineMs: 50 }).grants;
    answer(settled);
    store.cancel(TARGET, [cancelled]);
    clock.advanceSync(50);
    for (const grant of [settled, cancelled, lost]) {
      expect(store.bind(TARGET, grant, '10.0.0.1')).toEqual({ ok: false, retryInMs: 0, duplicate: false });
    }
    expect(store.inspect(TARGET).targets[0]).toMatchObject({ active: 0, egresses: [{ busy: 0, cooling: 2 }] });
  });
});

describe('how a permit ends', () => {
  it('a slot cools for one window from when the answer came, however long that took', () => {
    const { clock, reserve, answer, grant } = atStore(routes(1), storePolicy({ limit: 1 }));
    const permit = grant();
    clock.advanceSync(5000);
    answer(permit);
    expect(reserve(1).retryInMs).toBe(100);
  });

  it('a slot whose request may still arrive cools from then', () => {
    const { reserve, answer, grant } = atStore(routes(1), storePolicy({ limit: 1 }));
    answer(grant(), 'ignored', { graceMs: 40 });
    expect(reserve(1).retryInMs).toBe(140);
  });

  it('Retry-After cools the egress down for that long, for any outcome, and says so', () => {
    const { clock, reserve, answer, grant } = atStore(routes(1));
    expect(answer(grant(), 'target-error', { retryAfterMs: 700 })).toEqual([
      { kind: 'cooldown', target: TARGET, egress: 'pool/1', forMs: 700 },
    ]);
    expect(reserve(1)).toEqual({ grants: [], retryInMs: 700, limiting: 'cooldown' });
    clock.advanceSync(699);
    expect(reserve(1).retryInMs).toBe(1);
    clock.advanceSync(1);
    expect(reserve(1).grants).toHaveLength(1);
  });

  it('a shorter Retry-After does not end a longer one', () => {
    const { reserve, answer } = atStore(routes(1));
    const [first, second] = reserve(2).grants;
    answer(first, 'rate-limited', { retryAfterMs: 700 });
    answer(second, 'rate-limited', { retryAfterMs: 10 });
    expect(reserve(1).retryInMs).toBe(700);
  });

  it('rate-limited without Retry-After cools the egress down for one window', () => {
    const { reserve, answer, grant } = atStore(routes(1), storePolicy({ limit: 9 }));
    expect(answer(grant(), 'rate-limited')).toMatchObject([{ forMs: 100 }]);
    expect(reserve(1)).toEqual({ grants: [], retryInMs: 100, limiting: 'cooldown' });
  });

  it('a cancelled permit is as if it had never been', () => {
    const { store, egress, grant, active } = atStore(routes(1), storePolicy({ limit: 1, concurrency: 1 }));
    store.cancel(TARGET, [grant()]);
    expect([active, egress('pool/1')]).toEqual([
      0,
      { egress: 'pool/1', busy: 0, cooling: 0, remaining: 1, usableInMs: 0, cooldownMs: 0, ejectedMs: 0 },
    ]);
    grant();
  });

  it('ends once: settled twice, settled after cancel, cancelled after settle change nothing', () => {
    const { clock, store, answer, reserve } = atStore(routes(1), storePolicy({ limit: 3, concurrency: 3 }));
    const [settled, cancelled] = reserve(2).grants;
    answer(settled);
    store.cancel(TARGET, [cancelled, cancelled]);
    const before = store.inspect();
    answer(settled, 'rate-limited');
    answer(cancelled, 'rate-limited', { retryAfterMs: 500 });
    store.cancel(TARGET, [settled, cancelled]);
    expect(store.inspect()).toEqual(before);
    clock.advanceSync(10);
    answer(settled);
    expect(reserve(9)).toMatchObject({ grants: { length: 2 }, limiting: 'budget', retryInMs: 90 });
  });

  it('the second report, at the end of the body, only frees the place', () => {
    const { clock, store, answer, grant, egress } = atStore(routes(1), storePolicy({ limit: 1 }));
    const permit = grant();
    answer(permit, 'ok', { end: false });
    clock.advanceSync(60);
    answer(permit, 'rate-limited', { retryAfterMs: 1000 });
    expect(egress('pool/1')).toMatchObject({ usableInMs: 40, cooldownMs: 0 });
    expect(store.inspect(TARGET).targets[0].active).toBe(0);
  });

  it('a permit that is never settled ends at its deadline: its place is free, its slot cools from there, a late report changes nothing', () => {
    const { clock, store, reserve, answer } = atStore(routes(1), storePolicy({ limit: 1, concurrency: 1 }));
    const [lost] = reserve(1, { deadlineMs: 1000 }).grants;
    clock.advanceSync(999);
    expect(store.inspect(TARGET).targets[0]).toMatchObject({
      active: 1,
      egresses: [{ busy: 1, usableInMs: Infinity }],
    });
    clock.advanceSync(31);
    expect(store.inspect(TARGET).targets[0]).toMatchObject({
      active: 0,
      egresses: [{ busy: 0, cooling: 1, usableInMs: 70 }],
    });
    const before = store.inspect();
    expect(answer(lost, 'rate-limited', { retryAfterMs: 1e6 })).toEqual([]);
    store.cancel(TARGET, [lost]);
    expect(store.inspect()).toEqual(before);
    expect(reserve(1)).toEqual({ grants: [], retryInMs: 70, limiting: 'budget' });
    clock.advanceSync(70);
    expect(reserve(1).grants).toHaveLength(1);
  });

  it('the first who reports late finds the permit gone, though nobody has asked for another one meanwhile', () => {
    const { clock, answer, egress, grant } = atStore(routes(1), storePolicy({ limit: 1 }));
    const lost = grant({ deadlineMs: 1000 });
    clock.advanceSync(1050);
    expect(answer(lost, 'rate-limited')).toEqual([]);
    expect(egress('pool/1')).toMatchObject({ usableInMs: 50, cooldownMs: 0 });
  });

  it('permits end by their deadlines, not in the order they were made', () => {
    const { clock, grant, egress } = atStore(routes(1), storePolicy({ limit: 3 }));
    for (const deadlineMs of [900, 300, 600]) grant({ deadlineMs });
    for (const busy of [2, 1, 0]) {
      clock.advanceSync(300);
      expect(egress('pool/1')).toMatchObject({ busy });
    }
  });

  it('neither settle nor cancel nor bind minds a target it does not know', () => {
    const { store, answer, grant } = atStore(routes(1));
    const permit = grant();
    store.close();
    expect(answer(permit)).toEqual([]);
    store.cancel(TARGET, [permit]);
    expect(store.bind(TARGET, permit, 'x')).toMatchObject({ ok: false });
    expect(store.inspect('never.test')).toEqual({ targets: [] });
  });
});

describe('pinned', () => {
  it('only that route will do, whatever else is free', () => {
    const given = routes(3);
    const { reserve, answer } = atStore(given, storePolicy({ limit: 1 }));
    const pinned = reserve(2, { pin: given[1] });
    expect(ids(pinned.grants)).toEqual(['pool/2']);
    expect(pinned).toMatchObject({ retryInMs: Infinity, limiting: 'budget' });
    answer(pinned.grants[0]);
    expect(reserve(1, { pin: given[1] })).toMatchObject({ grants: [], retryInMs: 100 });
  });

  it('shares the budget of its egress with everybody else', () => {
    const given = routes(1, { egress: '10.0.0.1' });
    const sticky = storeRoute(0, { egress: '10.0.0.1', shared: false, session: 'mine', id: 'pool/mine' });
    const { reserve, grant } = atStore(given);
    grant();
    grant({ pin: sticky });
    expect(reserve(1).limiting).toBe('budget');
    expect(reserve(1, { pin: sticky }).limiting).toBe('budget');
  });

  it('a sticky route is never lent to a request that did not ask for it', () => {
    const sticky = storeRoute(0, { shared: false, session: 'mine', id: 'pool/mine', egress: 'pool/mine' });
    const { store, reserve, answer, grant } = atStore(routes(1), storePolicy({ limit: 1 }));
    const permit = grant({ pin: sticky });
    store.bind(TARGET, permit, '10.0.0.9');
    answer(permit);
    expect(ids(reserve(9).grants)).toEqual(['pool/1']);
  });
});

describe('bookings ahead', () => {
  it('start when the slot is free, soonest first', () => {
    const { clock, reserve, answer } = atStore(routes(2), storePolicy({ limit: 1 }));
    const [first, second] = reserve(2).grants;
    answer(first);
    clock.advanceSync(30);
    answer(second);
    const { grants, retryInMs } = reserve(5, { horizonMs: 100 });
    expect(grants.map(({ route, startInMs }) => [route.id, startInMs])).toEqual([
      ['pool/1', 70],
      ['pool/2', 100],
    ]);
    expect(retryInMs).toBe(Infinity);
  });

  it('never put more than the limit into a window, whenever within its time a request arrives', () => {
    const work = fc.array(
      fc.record({
        wait: fc.integer({ min: 0, max: 60 }),
        count: fc.integer({ min: 0, max: 4 }),
        horizonMs: fc.constantFrom(0, 50, 250),
        latency: fc.integer({ min: 0, max: 80 }),
        arrives: fc.double({ min: 0, max: 1, noNaN: true }),
        cancels: fc.boolean(),
      }),
      { maxLength: 60 },
    );
    const budget = fc.record({ limit: fc.integer({ min: 1, max: 4 }), spacingMs: fc.constantFrom(0, 20) });
    fc.assert(
      fc.property(budget, work, (options, steps) => {
        const { clock, reserve, answer, store } = atStore(routes(2), storePolicy(options));
        const arrivals = new Map<string, number[]>();
        for (const { wait, count, horizonMs, latency, arrives, cancels } of steps) {
          clock.advanceSync(wait);
          for (const [i, grant] of reserve(count, { horizonMs }).grants.entries()) {
            if (cancels && i % 2 === 0) {
              store.cancel(TARGET, [grant]);
              continue;
            }
            clock.setTimeout(() => {
              const times = arrivals.get(grant.egress) ?? [];
              times.push(clock.now() + arrives * latency);
              arrivals.set(grant.egress, times);
              clock.setTimeout(() => answer(grant), latency);
            }, grant.startInMs);
          }
        }
        clock.advanceSync(1000);
        for (const times of arrivals.values()) {
          expect(worstWindow(times, 100)).toBeLessThanOrEqual(options.limit);
        }
      }),
    );
  });

  it('keep the rate by when they start', () => {
    const rate = { limit: 4, windowMs: 100, burst: 1 };
    const { clock, reserve, grant, answer } = atStore(
      routes(8),
      storePolicy({ limit: 1, windowMs: 1000, rates: [rate] }),
    );
    const first: Grant[] = [];
    for (let i = 0; i < 8; i++) {
      first.push(grant());
      clock.advanceSync(25);
    }
    for (const permit of first) answer(permit);
    const starts: number[] = [];
    for (let i = 0; i < 400; i++) {
      for (const { startInMs } of reserve(1, { horizonMs: 2000, offer: undefined }).grants)
        starts.push(clock.now() + startInMs);
      clock.advanceSync(10);
    }
    expect(starts).toHaveLength(8);
    expect(worstWindow(starts, 100 * (1 - 1e-9))).toBeLessThanOrEqual(4);
  });
});

describe('a limit that changes', () => {
  it('is kept at once when it falls, by whichever egress has room', () => {
    const given = routes(2);
    const { reserve, clock, grant, answer } = atStore(given, storePolicy({ limit: 4 }));
    for (let i = 0; i < 3; i++) answer(grant({ pin: given[0] }));
    clock.advanceSync(1);
    for (let i = 0; i < 5; i++) answer(grant());
    // pool/1 was the longest idle; with two a window only pool/2 has room.
    clock.advanceSync(1);
    const policy = storePolicy({ limit: 5 });
    expect(ids(reserve(9, { policy }).grants)).toHaveLength(2);
    expect(reserve(9, { policy: storePolicy({ limit: 1 }) }).grants).toEqual([]);
  });

  it('a fall of the limit hides no egress that has room', () => {
    const given = routes(2);
    const { clock, reserve, grant, answer } = atStore(given, storePolicy({ limit: 4 }));
    for (let i = 0; i < 2; i++) grant({ pin: given[0] });
    clock.advanceSync(10);
    answer(grant({ pin: given[1] }));
    expect(ids(reserve(1, { patienceMs: 0 }).grants)).toEqual(['pool/1']);
    // pool/1 is used longer ago than pool/2, but has three in flight.
    expect(ids(reserve(1, { policy: storePolicy({ limit: 2 }) }).grants)).toEqual(['pool/2']);
  });

  it('a rise opens the egresses that were full', () => {
    const { reserve } = atStore(routes(1), storePolicy({ limit: 1 }));
    reserve(1);
    expect(reserve(1).grants).toEqual([]);
    expect(reserve(9, { policy: storePolicy({ limit: 3 }) }).grants).toHaveLength(2);
  });

  it('a longer window holds for what cools already, also while the target is not used', () => {
    const { clock, reserve, answer, grant } = atStore(routes(1), storePolicy({ limit: 1 }));
    answer(grant());
    const longer = storePolicy({ limit: 1, windowMs: 1000 });
    expect(reserve(1, { policy: longer }).retryInMs).toBe(1000);
    clock.advanceSync(500);
    for (let i = 0; i < 100; i++) answer(grant({}, `other${i}.test`));
    expect(reserve(1, { policy: longer }).retryInMs).toBe(500);
  });
});

describe('memory follows the work', () => {
  const count = (store: MemoryStore): number => store.inspect().targets.length;

  it('forgets 10,000 targets that were used once', () => {
    const { clock, store, answer, grant } = atStore(routes(1));
    for (let i = 0; i < 10_000; i++) answer(grant({}, `t${i}.test`));
    expect(count(store)).toBe(10_000);
    clock.advanceSync(100);
    for (let i = 0; i < 200_000; i++) {
      answer(grant());
      clock.advanceSync(50);
    }
    expect(count(store)).toBe(1);
  });

  it('does not grow with the targets of a crawl that uses each of them once', () => {
    const { clock, store, answer, grant } = atStore(routes(1));
    let most = 0;
    for (let i = 0; i < 20_000; i++) {
      answer(grant({}, `t${i}.test`));
      clock.advanceSync(1);
      if (i % 100 === 0) most = Math.max(most, count(store));
    }
    // A hundred of them are still cooling at any time.
    expect(most).toBeLessThanOrEqual(400);
  });

  it('forgets a target whose permit was lost, too', () => {
    const { clock, store, answer, grant } = atStore(routes(1));
    for (let i = 0; i < 10; i++) grant({}, `lost${i}.test`);
    clock.advanceSync(10_100);
    for (let i = 0; i < 400; i++) {
      answer(grant());
      clock.advanceSync(50);
    }
    expect(count(store)).toBe(1);
  });

  it('keeps no permit that is over', () => {
    const { clock, answer, grant } = atStore(routes(1));
    const permits: WeakRef<Grant>[] = [];
    // In a function of its own, so that no stack slot is left with one of them.
    const use = (): void => {
      for (let i = 0; i < 500; i++) {
        const permit = grant();
        answer(permit);
        permits.push(new WeakRef(permit));
        clock.advanceSync(100);
      }
      grant();
    };
    use();
    // What a WeakRef was made for, or asked for, is kept until the job is over.
    return new Promise((resolve) => setImmediate(resolve)).then(() => {
      collectGarbage();
      expect(permits.filter((permit) => permit.deref() !== undefined).length).toBeLessThanOrEqual(1);
    });
  });

  it('a target is never forgotten while anything of it matters: use, cooling, spacing, cooldown, rate, pause', () => {
    const policies: [string, Policy, (permit: Grant, at: ReturnType<typeof atStore>) => void, number][] = [
      ['cooling', storePolicy({ limit: 1 }), (permit, at) => void at.answer(permit), 100],
      ['grace', storePolicy({ limit: 1 }), (permit, at) => void at.answer(permit, 'ignored', { graceMs: 50 }), 150],
      ['spacing', storePolicy({ limit: 9, windowMs: 10, spacingMs: 300 }), (permit, at) => void at.answer(permit), 300],
      ['cooldown', storePolicy(), (permit, at) => void at.answer(permit, 'rate-limited', { retryAfterMs: 900 }), 900],
      [
        'rate',
        storePolicy({ limit: 9, windowMs: 1, rates: [{ limit: 1, windowMs: 400, burst: 1 }] }),
        (permit, at) => void at.answer(permit),
        400,
      ],
      ['in flight', storePolicy({ limit: 1 }), () => {}, Infinity],
    ];
    for (const [name, policy, end, usableInMs] of policies) {
      const at = atStore(routes(1), policy);
      end(at.grant(), at);
      const ask = () => at.reserve(1, { offer: undefined, pin: undefined }).retryInMs;
      for (let waited = 0; waited < 1000; waited += 50) {
        for (let i = 0; i < 40; i++) at.answer(at.grant({ policy: storePolicy({ limit: Infinity }) }, 'busy.test'));
        if (usableInMs > waited) expect(ask(), `${name} after ${waited}`).toBe(usableInMs - waited);
        at.clock.advanceSync(50);
      }
    }
  });

  it('a target that was forgotten answers as one that was not', () => {
    const given = routes(4);
    const policy = storePolicy({
      limit: 2,
      spacingMs: 10,
      rates: [{ limit: 9, windowMs: 100, burst: 5 }],
      concurrency: 6,
    });
    const run = (forget: boolean): unknown[] => {
      const { clock, store, reserve, answer } = atStore(given, policy);
      const use = (): unknown[] => {
        const answers: unknown[] = [];
        for (let i = 0; i < 12; i++) {
          const { grants, ...rest } = reserve(3);
          answers.push(grants.length, rest);
          for (const grant of grants) answer(grant, i === 3 ? 'rate-limited' : 'ok');
          clock.advanceSync(9);
        }
        return answers;
      };
      use();
      clock.advanceSync(1000);
      for (let i = 0; forget && i < 100; i++) reserve(1, {}, 'other.test');
      expect(store.inspect(TARGET).targets).toHaveLength(forget ? 0 : 1);
      return use();
    };
    expect(run(true)).toEqual(run(false));
  });

  it('forgets the egress of a dead route once it is cold, and not before', () => {
    const given = [storeRoute(1, { egress: '10.0.0.1' }), storeRoute(2, { egress: '10.0.0.2' })];
    const { clock, reserve, answer, grant, egress } = atStore(given, storePolicy({ limit: 1 }));
    const [first] = reserve(2).grants;
    given[0].closed = true;
    const churn = (): void => {
      for (let i = 0; i < 20; i++) reserve(1);
    };
    churn();
    expect(egress('10.0.0.1')).toMatchObject({ busy: 1 });
    answer(first);
    clock.advanceSync(99);
    churn();
    // Another session comes up on the same exit: it is still hot.
    const again = storeRoute(3, { egress: '10.0.0.1' });
    expect(reserve(1, { offer: offerOf([again], clock) }).retryInMs).toBe(1);
    again.closed = true;
    clock.advanceSync(1);
    churn();
    expect(egress('10.0.0.1')).toBeUndefined();
    expect(egress('10.0.0.2')).toBeDefined();
    expect(grant({ pin: storeRoute(4, { egress: '10.0.0.1' }) })).toMatchObject({ startInMs: 0 });
  });

  it('whether a cold egress has been forgotten makes no difference when another route leads to it', () => {
    const run = (questions: number): string => {
      const { clock, reserve, answer, grant } = atStore(routes(1));
      answer(grant());
      clock.advanceSync(10);
      answer(grant({ pin: storeRoute(2, { egress: '10.0.0.1' }) }));
      for (let i = 10; i < 30; i++) grant({ pin: storeRoute(i) });
      clock.advanceSync(500);
      for (let i = 0; i < questions; i++) reserve(0);
      // pool/1 is the longer idle, if anybody remembers.
      const again = storeRoute(3, { egress: '10.0.0.1' });
      return grant({ offer: offerOf([again], clock), patienceMs: -1000 }).egress;
    };
    expect(run(20)).toEqual(run(0));
  });

  it('keeps as many egresses as there are sessions, however many came and went', () => {
    const clock = virtualClock();
    const store = memoryStore({ clock, random: seededRandom(1) });
    let seq = 0;
    for (let i = 0; i < 20_000; i++) {
      const { grants } = store.reserve(TARGET, {
        count: 1,
        policy: storePolicy({ limit: 1, windowMs: 50 }),
        pool: 'pool',
        offer: () =>
          storeRoute(++seq, {
            expiresAt: clock.now() + 60,
            egress: i % 2 === 0 ? `10.0.${i >> 8}.${i & 255}` : `x${i}`,
          }),
        patienceMs: 0,
        horizonMs: 0,
        deadlineMs: 1000,
      });
      store.settle(
        TARGET,
        grants.map((grant) => ({ grant, outcome: 'ok', retryAfterMs: undefined, graceMs: 0, end: true })),
      );
      clock.advanceSync(1);
    }
    expect(store.inspect(TARGET).targets[0].egresses.length).toBeLessThan(200);
  });
});

describe('inspect', () => {
  it('tells what is busy, cooling, left, when the next may go, and how long the cooldown lasts', () => {
    const { clock, store, reserve, answer } = atStore(routes(1), storePolicy({ limit: 4 }));
    const [first, second] = reserve(2).grants;
    answer(first, 'rate-limited', { retryAfterMs: 30, end: false });
    clock.advanceSync(10);
    const snapshot = {
      egress: 'pool/1',
      busy: 1,
      cooling: 1,
      remaining: 0,
      usableInMs: 20,
      cooldownMs: 20,
      ejectedMs: 0,
    };
    const whole = { limit: 4, concurrency: Infinity, circuit: 'closed', restMs: 0 };
    expect(store.inspect()).toEqual({ targets: [{ target: TARGET, active: 2, ...whole, egresses: [snapshot] }] });
    clock.advanceSync(20);
    expect(store.inspect(TARGET).targets[0].egresses).toEqual([
      { ...snapshot, remaining: 2, usableInMs: 0, cooldownMs: 0 },
    ]);
    answer(second);
    clock.advanceSync(70);
    expect(store.inspect(TARGET).targets[0]).toMatchObject({
      active: 1,
      egresses: [{ busy: 0, cooling: 1, remaining: 3 }],
    });
  });
});

describe('the wall clock', () => {
  it.each([3_600_000, -3_600_000])('set by %i ms changes nothing', (ms) => {
    const run = (jump: number): unknown[] => {
      const { clock, reserve, answer } = atStore(
        routes(2),
        storePolicy({ spacingMs: 10, rates: [{ limit: 5, windowMs: 100, burst: 2 }] }),
      );
      return Array.from({ length: 40 }, (_, i) => {
        if (i % 7 === 3) clock.jumpWall(i % 2 === 0 ? jump : -jump);
        const { grants, ...rest } = reserve(2);
        for (const grant of grants) answer(grant, i % 5 === 0 ? 'rate-limited' : 'ok');
        clock.advanceSync(9);
        return [ids(grants), rest];
      });
    };
    expect(run(ms)).toEqual(run(0));
  });
});
