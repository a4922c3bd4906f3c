import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Direct } from '../../src/store/shared/direct.ts';
import { type LocalBackend, localBackend } from '../../src/store/shared/local.ts';
import { SharedStore } from '../../src/store/shared/shared-store.ts';
import type { Backend } from '../../src/store/shared/steps.ts';
import type { Demand, Grant, Policy, Reservation, Snapshot } from '../../src/store/store.ts';
import { type VirtualClock, virtualClock } from '../../src/testing/virtual-clock.ts';
import { offerOf, storeRoute } from '../support/store-trace.ts';

// Places among the requests that use a pool, of several workers on one state.

const POOL = 'pool@pool';
const policy: Policy = { limit: 1000, windowMs: 1000, spacingMs: 0, rates: [], concurrency: undefined };

let clock: VirtualClock;
let state: LocalBackend;
let asked: string[];

beforeEach(() => {
  clock = virtualClock();
  state = localBackend({ clock });
  asked = [];
});

function worker(places = 4) {
  const backend: Backend = {
    take(batch) {
      if (batch.target === POOL) asked.push(...batch.steps.map((step) => step.do));
      return state.take(batch);
    },
    close: () => {},
  };
  const store = new SharedStore(new Direct(backend, clock), { clock, random: () => 0.5 });
  const route = storeRoute(1, { egress: '192.0.2.1' });
  const demand: Demand = {
    count: 1,
    policy,
    pool: 'pool',
    ways: { key: 'pool', adopt: () => route, named: () => {} },
    poolConcurrency: places,
    offer: offerOf([route], clock),
    patienceMs: 0,
    horizonMs: 0,
    deadlineMs: 5000,
  };
  const report = { outcome: 'ok', retryAfterMs: undefined, graceMs: 0 } as const;
  return {
    store,
    reserve: (count = 1, deadlineMs = demand.deadlineMs) =>
      store.reserve('shop.test', { ...demand, count, deadlineMs }) as Reservation,
    end: (...grants: readonly Grant[]) =>
      void store.settle(
        'shop.test',
        grants.map((grant) => ({ ...report, grant, end: true })),
      ),
    headers: (grant: Grant) => void store.settle('shop.test', [{ ...report, grant, end: false }]),
  };
}

/** Places that are taken, as the state has it. */
function taken(): number {
  const seen = { born: 0, steps: 0, agoMs: 0 };
  const batch = {
    target: POOL,
    policy: { windowMs: 1, spacingMs: 0, rates: [] },
    seen,
    steps: [{ do: 'inspect' } as const],
  };
  return (state.take(batch).answers[0] as { active: number }).active;
}

describe('places in a pool', () => {
  let crew: SharedStore[] = [];
  const hire = (places?: number) => {
    const one = worker(places);
    crew.push(one.store);
    return one;
  };
  afterEach(async () => {
    for (const store of crew) await store.close();
    crew = [];
    expect([taken(), clock.pending]).toEqual([0, 0]);
  });

  it('are as many as the pool has, for all workers together', () => {
    const [one, other] = [hire(), hire()];
    const first = one.reserve(3).grants;
    expect(first).toHaveLength(3);
    const { grants, limiting, pollMs } = other.reserve(3);
    expect([grants.length, limiting, pollMs]).toEqual([1, 'concurrency', expect.any(Number)]);
    // What the target granted beyond is given back.
    expect((other.store.inspect('shop.test') as Snapshot).targets[0].active).toBe(4);
    one.end(...first);
    other.end(...grants);
  });

  it('go from one request to the next without a call', () => {
    const { reserve, end } = hire();
    for (let i = 0; i < 20; i++) {
      end(...reserve(2).grants);
      clock.advanceSync(10);
    }
    expect([asked, taken()]).toEqual([['reserve'], 2]);
  });

  it('go back when nobody wants them for a moment', () => {
    const { reserve, end } = hire();
    end(...reserve(3).grants);
    clock.advanceSync(49);
    expect(taken()).toBe(3);
    clock.advanceSync(1);
    expect(taken()).toBe(0);
  });

  it('go back after a second of being passed on', () => {
    const { reserve, end } = hire();
    for (let i = 0; i < 60; i++) {
      end(...reserve().grants);
      clock.advanceSync(20);
    }
    expect(asked).toEqual(['reserve', 'settle', 'reserve']);
    clock.advanceSync(50);
  });

  it('go back at once while they are short', () => {
    const [one, other] = [hire(2), hire(2)];
    const held = one.reserve(2).grants;
    expect(other.reserve().grants).toHaveLength(0);
    end(held[0]);
    const got = other.reserve().grants;
    expect(got).toHaveLength(1);
    other.end(...got);
    expect(taken()).toBe(1);
    one.end(held[1]);

    function end(grant: Grant): void {
      // Its own worker does not know that they are short: a moment later they are back.
      one.end(grant);
      clock.advanceSync(50);
    }
  });

  it('are kept for as long as a body is read, also by who got it from another', () => {
    const { reserve, end, headers } = hire();
    const [first] = reserve().grants;
    headers(first);
    end(first);
    const [second] = reserve().grants;
    headers(second);
    clock.advanceSync(600_000);
    expect(taken()).toBe(1);
    end(second);
  });

  it('last as long as those who got them from another, though these hold theirs for longer', async () => {
    const one = hire(1);
    one.end(...one.reserve().grants);
    const { grants } = one.reserve(1, 600_000);
    await clock.advance(300_000);
    expect([taken(), hire(1).reserve().grants.length]).toEqual([1, 0]);
    one.end(...grants);
    await clock.advance(100);
  });

  it('of a worker that was killed come back', () => {
    const { reserve } = worker();
    reserve(4);
    clock.advanceSync(5999);
    expect(hire().reserve().grants).toHaveLength(0);
    clock.advanceSync(1);
    const next = hire();
    const { grants } = next.reserve();
    expect(grants).toHaveLength(1);
    next.end(...grants);
  });
});
