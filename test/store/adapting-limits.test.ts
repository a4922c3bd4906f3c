import { describe, expect, it } from 'vitest';
import type { Policy, Verdict } from '../../src/store/store.ts';
import { AIMD, introduce, kinds, proxies } from '../support/adapting.ts';
import { type AtStore, atStore, storePolicy, TARGET } from '../support/at-store.ts';

const ten: Policy = storePolicy({ limit: 10, adaptBudget: AIMD });
const limit = (at: AtStore): number | undefined => at.store.inspect(TARGET).targets[0]?.limit;
const places = (at: AtStore): number | undefined => at.store.inspect(TARGET).targets[0]?.concurrency;

/** Told to go on at once, so that nothing but the limit comes down. */
const refused = (at: AtStore): readonly Verdict[] => at.answer(at.grant(), 'rate-limited', { retryAfterMs: 0 });

describe('the budget comes down on evidence', () => {
  it('by three tenths, for every egress', () => {
    const at = atStore(proxies(2), ten);
    expect(refused(at)).toEqual([{ kind: 'budget', target: TARGET, limit: 7 }]);
    expect(at.reserve(99).grants).toHaveLength(6 + 7);
  });

  it('at most once a window, and not by requests that left before', () => {
    const at = atStore(proxies(9), ten);
    const { grants } = at.reserve(30);
    const cut = (i: number): string[] => kinds(at.answer(grants[i], 'rate-limited', { retryAfterMs: 0 }));
    expect([cut(0), cut(1)]).toEqual([['budget'], []]);
    at.clock.advanceSync(99);
    expect(refused(at)).toEqual([]);
    at.clock.advanceSync(1);
    expect(cut(2)).toEqual([]);
    expect(limit(at)).toBe(7);
    expect(refused(at)).toEqual([{ kind: 'budget', target: TARGET, limit: 4 }]);
  });

  it('not by a block, nor by trouble of the target', () => {
    const at = atStore(proxies(9), ten);
    const outcomes = ['blocked', 'target-error', 'network-error'] as const;
    for (const outcome of outcomes) at.answer(at.grant(), outcome, { retryAfterMs: 10 });
    expect(limit(at)).toBe(10);
  });

  it('never below the floor', () => {
    const at = atStore(proxies(1), { ...ten, adaptBudget: { ...AIMD, floor: 3 } });
    for (let i = 0; i < 9; i++) {
      refused(at);
      at.clock.advanceSync(100);
    }
    expect(limit(at)).toBe(3);
    expect(at.reserve(9).grants).toHaveLength(3);
  });

  it('and comes back by one a window in which half of it was used, up to the ceiling', () => {
    const at = atStore(proxies(1), ten);
    refused(at);
    const limits: (number | undefined)[] = [];
    for (let i = 0; i < 6; i++) {
      at.clock.advanceSync(100);
      for (const grant of at.reserve(5).grants) at.answer(grant);
      limits.push(limit(at));
    }
    expect(limits).toEqual([8, 9, 10, 10, 10, 10]);
  });

  it('but not by a window in which it was hardly used', () => {
    const at = atStore(proxies(1), ten);
    refused(at);
    for (let i = 0; i < 5; i++) {
      at.clock.advanceSync(100);
      at.answer(at.grant());
    }
    expect(limit(at)).toBe(7);
  });

  it('is spread as evenly as before', () => {
    const at = atStore(proxies(1), { ...ten, spacingMs: 10 });
    at.answer(at.grant());
    expect(at.reserve(1).retryInMs).toBe(10);
    at.clock.advanceSync(10);
    refused(at);
    at.clock.advanceSync(10);
    at.grant();
    expect(at.reserve(1).retryInMs).toBeCloseTo(100 / 7);
  });

  it('still lets a request through that costs more: it takes all there is, and its full price of the rates', () => {
    const rates = [{ limit: 10, windowMs: 1000, burst: 10 }];
    const at = atStore(proxies(1), { ...ten, rates, adaptBudget: { ...AIMD, decrease: 0.2 } });
    refused(at);
    at.clock.advanceSync(10_000);
    at.answer(at.grant({ cost: 5 }), 'ignored');
    expect(at.reserve(1)).toMatchObject({ grants: [], limiting: 'budget', retryInMs: 100 });
    at.clock.advanceSync(100);
    at.answer(at.grant({ cost: 5 }), 'ignored');
    at.clock.advanceSync(100);
    expect(at.reserve(1)).toMatchObject({ grants: [], limiting: 'rate' });
    at.clock.advanceSync(10_000);
    // Given back in full, too.
    at.store.cancel(TARGET, at.reserve(1, { cost: 5 }).grants);
    expect(at.reserve(9, { policy: { ...ten, rates, adaptBudget: undefined } }).grants).toHaveLength(9);
  });

  it('is remembered for a while when nobody asks', () => {
    const at = atStore(proxies(1), ten);
    refused(at);
    at.clock.advanceSync(900);
    for (let i = 0; i < 100; i++) at.reserve(1, {}, `other${i}.test`);
    expect(limit(at)).toBe(7);
    at.clock.advanceSync(200);
    for (let i = 0; i < 200; i++) at.reserve(1, {}, `another${i}.test`);
    expect(limit(at)).toBeUndefined();
  });
});

describe('the requests in flight', () => {
  const adaptConcurrency = { ...AIMD, start: 4, ceiling: 6 };
  const policy = storePolicy({ limit: 100, adaptConcurrency });
  const using = (count = 2, options: Partial<Policy> = {}, session?: string): AtStore => {
    const at = atStore(proxies(count, { session }), { ...policy, ...options });
    introduce(at, count, { ...policy, ...options });
    return at;
  };

  it('begin with a few, and grow one a window while half of them are used', () => {
    const at = using();
    const most = (): number => {
      const { grants } = at.reserve(99);
      for (const grant of grants) at.answer(grant);
      at.clock.advanceSync(100);
      return grants.length;
    };
    expect([most(), most(), most(), most(), most()]).toEqual([4, 4, 5, 6, 6]);
    expect(at.reserve(99)).toMatchObject({ limiting: 'concurrency', retryInMs: Infinity });
  });

  it('tell when they grow, also when the budget does at the same time', () => {
    const at = using(1, { limit: 10, adaptBudget: AIMD });
    refused(at);
    for (let i = 0; i < 2; i++) {
      at.clock.advanceSync(100);
      const verdicts = at.reserve(2).grants.flatMap((grant) => at.answer(grant));
      for (const grant of at.reserve(9).grants) at.answer(grant);
      if (i === 1) expect(kinds(verdicts)).toEqual(['budget', 'concurrency']);
    }
  });

  it('do not grow while they are hardly used', () => {
    const at = using();
    for (let i = 0; i < 9; i++) {
      at.answer(at.grant());
      at.clock.advanceSync(100);
    }
    expect(places(at)).toBe(4);
  });

  it('never are more than what was asked for', () => {
    expect(using(2, { concurrency: 3 }).reserve(9).grants).toHaveLength(3);
  });

  const cut = { kind: 'concurrency', target: TARGET, limit: 2 };

  it('are cut when a cooldown widens', () => {
    const at = using(5, { limit: 1 });
    const [first, second, third] = at.reserve(3).grants;
    for (const grant of [first, second]) {
      expect(kinds(at.answer(grant, 'rate-limited', { retryAfterMs: 10 }))).toEqual(['cooldown']);
    }
    expect(at.answer(third, 'rate-limited', { retryAfterMs: 10 }).at(-1)).toEqual(cut);
    at.clock.advanceSync(10);
    expect(at.reserve(9)).toMatchObject({ grants: { length: 2 }, limiting: 'concurrency' });
  });

  it('are cut when the target says that it is overloaded', () => {
    const at = using();
    expect(at.answer(at.grant(), 'target-error', { retryAfterMs: 10 }).at(-1)).toEqual(cut);
    expect(at.answer(at.grant(), 'target-error', { retryAfterMs: undefined })).toEqual([]);
  });

  it('are cut when the only egress is refused, and not by one of several, nor by a session', () => {
    expect(refused(using(1))).toEqual([cut]);
    expect(refused(using(2))).toEqual([]);
    expect(refused(using(1, {}, 's'))).toEqual([]);
  });

  it('are not cut by what a way out is refused that has ended since: that one is no part of the pool any more', () => {
    const [route] = proxies(1);
    const at = atStore([route], policy);
    const grant = at.grant();
    Object.assign(route, { closed: true });
    expect(at.answer(grant, 'rate-limited', { retryAfterMs: 0 })).toEqual([]);
  });

  it('are not cut by one exit of a gateway that rotates', () => {
    const [gateway] = proxies(1, { weight: Infinity });
    expect(refused(atStore([gateway], policy))).toEqual([]);
  });

  it('are cut at most once a window, and never to less than one', () => {
    const at = using(1);
    const counts: (number | undefined)[] = [];
    for (let i = 0; i < 6; i++) {
      refused(at);
      refused(at);
      counts.push(places(at));
      at.clock.advanceSync(100);
    }
    expect(counts).toEqual([2, 1, 1, 1, 1, 1]);
  });
});
