import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type AdaptiveLimitOptions,
  type AdaptivePlace,
  adaptiveConcurrency,
  adaptiveLimit,
} from '../../src/limits/adaptive.ts';
import { type AimdPolicy, aimdCut, aimdLimit, aimdOk, aimdState } from '../../src/limits/aimd.ts';
import { manualClock } from '../support/manual-clock.ts';
import { settle } from '../support/settled.ts';

describe('adaptiveLimit', () => {
  const make = (options: Partial<AdaptiveLimitOptions> = {}) => {
    const clock = manualClock(1000);
    return { clock, limit: adaptiveLimit({ ceiling: 20, windowMs: 60_000, clock, ...options }) };
  };

  test('evidence cuts to 0.7, at most once a window, down to the floor', () => {
    const { clock, limit } = make({ floor: 3 });
    expect(limit.limit).toBe(20);
    const seen: number[] = [];
    for (let i = 0; i < 8; i++) {
      for (let k = 0; k < 5; k++) limit.limited();
      clock.advance(59_999);
      limit.limited();
      seen.push(limit.limit);
      clock.advance(1);
    }
    expect(seen).toEqual([14, 9, 6, 4, 3, 3, 3, 3]); // 14, 9.8, 6.86, 4.8, 3.36
  });

  test('a clean window that was used adds one, up to the ceiling', () => {
    const { clock, limit } = make({ start: 17 });
    const seen: number[] = [];
    for (let i = 0; i < 5; i++) {
      limit.ok();
      clock.advance(59_999);
      limit.ok();
      seen.push(limit.limit);
      clock.advance(1);
      limit.ok();
    }
    expect(seen).toEqual([17, 18, 19, 20, 20]);
  });

  test('steps add up with their fractions', () => {
    const { clock, limit } = make({ start: 10, increase: 0.1 });
    for (let i = 0; i < 10; i++) {
      clock.advance(60_000);
      limit.ok();
    }
    expect(limit.limit).toBe(11);
  });

  test.each([
    [10, 5, 11],
    [10, 4, 10],
    [11, 5, 11],
    [11, 6, 12],
    [1, 1, 2],
    [1, 0, 1],
  ])('a limit of %i with at most %i used becomes %i', (start, used, after) => {
    const { clock, limit } = make({ start });
    limit.ok(0);
    clock.advance(30_000);
    limit.ok(used);
    clock.advance(30_000);
    limit.ok(0);
    expect(limit.limit).toBe(after);
  });

  test('what was used in one window does not count for the next', () => {
    const { clock, limit } = make({ start: 10 });
    clock.advance(60_000);
    limit.ok(10);
    clock.advance(60_000);
    limit.ok(1);
    expect(limit.limit).toBe(11);
  });

  test('evidence starts the clean window anew, also when it does not cut', () => {
    const { clock, limit } = make();
    limit.limited();
    clock.advance(50_000);
    limit.limited();
    clock.advance(59_999);
    limit.ok();
    expect(limit.limit).toBe(14);
    clock.advance(1);
    limit.ok();
    expect(limit.limit).toBe(15);
  });

  test('evidence from before the last cut does not cut again, however late it comes', () => {
    const { clock, limit } = make();
    const sentAt = clock.now();
    clock.advance(10);
    limit.limited(sentAt);
    clock.advance(600_000);
    limit.limited(sentAt);
    expect(limit.limit).toBe(14);
    limit.limited(clock.now());
    expect(limit.limit).toBe(9);
  });

  test('a clock that steps back neither cuts nor grows', () => {
    const { clock, limit } = make();
    limit.limited();
    clock.jump(0);
    limit.limited();
    limit.ok();
    expect(limit.limit).toBe(14);
  });

  test.each([
    ['ceiling', { ceiling: 0 }],
    ['ceiling', { ceiling: Number.POSITIVE_INFINITY }],
    ['floor', { floor: 0 }],
    ['floor', { floor: 21 }],
    ['start', { start: 21 }],
    ['start', { start: 1.5 }],
    ['decrease', { decrease: 1 }],
    ['decrease', { decrease: 0 }],
    ['decrease', { decrease: Number.NaN }],
    ['increase', { increase: 0 }],
    ['windowMs', { windowMs: Number.NaN }],
  ])('a bad %s is named: %o', (option, options) => {
    expect(() => make(options)).toThrow(expect.objectContaining({ code: 'PACELINE_CONFIG', option }));
  });

  test('a bad used is named', () => {
    expect(() => make().limit.ok(-1)).toThrow(expect.objectContaining({ option: 'used' }));
  });
});

test('the limit is an integer in [floor, ceiling], one cut and one step a window, whatever happens', () => {
  const policy = fc
    .record({
      ...{ floor: fc.integer({ min: 1, max: 10 }), above: fc.nat(200), windowMs: fc.integer({ min: 1, max: 1000 }) },
      ...{ decrease: fc.constantFrom(0.01, 0.5, 0.7, 0.99), increase: fc.constantFrom(0.1, 1, 2.5, 1000) },
    })
    .map(({ above, ...rest }): AimdPolicy => ({ ...rest, ceiling: rest.floor + above }));
  const step = fc.record({ gapMs: fc.nat(700), bad: fc.boolean(), used: fc.nat(300), lateMs: fc.nat(2000) });
  fc.assert(
    fc.property(policy, fc.array(step, { maxLength: 200 }), (policy, steps) => {
      let now = 0;
      const state = aimdState(policy.ceiling, now);
      let cutAt = Number.NEGATIVE_INFINITY;
      let changedAt = 0;
      for (const { gapMs, bad, used, lateMs } of steps) {
        now += gapMs;
        const before = state.limit;
        const changed = bad ? aimdCut(state, policy, now - lateMs, now) : aimdOk(state, policy, used, now);
        expect(changed).toBe(state.limit !== before);
        if (changed && bad) {
          expect(now - cutAt).toBeGreaterThanOrEqual(policy.windowMs);
          expect(now - lateMs).toBeGreaterThan(cutAt);
          cutAt = now;
        } else if (changed) expect(now - changedAt).toBeGreaterThanOrEqual(policy.windowMs);
        if (changed) changedAt = now;
        const limit = aimdLimit(state, policy);
        expect(Number.isInteger(limit) && limit >= policy.floor && limit <= policy.ceiling).toBe(true);
      }
    }),
  );
});

test('a ceiling that was lowered holds at once, and is where the next cut begins', () => {
  const policy = { floor: 1, ceiling: 100, decrease: 0.7, increase: 1, windowMs: 1000 };
  const state = aimdState(100, 0);
  const lower = { ...policy, ceiling: 10 };
  expect(aimdLimit(state, lower)).toBe(10);
  expect(aimdCut(state, lower, 1, 1)).toBe(true);
  expect(aimdLimit(state, lower)).toBe(7);
  expect(aimdLimit(state, { ...policy, floor: 8 })).toBe(8);
});

describe('adaptiveConcurrency', () => {
  function fill(limit: ReturnType<typeof adaptiveConcurrency>): AdaptivePlace[] {
    const places: AdaptivePlace[] = [];
    for (let place = limit.tryAcquire(); place; place = limit.tryAcquire()) places.push(place);
    return places;
  }

  test('grows by one for each clean window at full use, up to max, and wakes who waits', async () => {
    const clock = manualClock();
    const limit = adaptiveConcurrency({ start: 2, max: 4, windowMs: 1000, clock });
    const seen: number[] = [];
    for (let i = 0; i < 5; i++) {
      const places = fill(limit);
      seen.push(places.length);
      const waited: AdaptivePlace[] = [];
      for (let k = 0; k < 2; k++) void limit.acquire().then((place) => waited.push(place));
      clock.advance(1000);
      places.pop()!.done(true);
      await settle();
      expect(limit.active).toBe(limit.limit);
      for (const place of places) place.done(true);
      await settle();
      for (const place of waited) place.done('ignore');
    }
    expect(seen).toEqual([2, 3, 4, 4, 4]);
    expect([limit.active, limit.waiting, clock.timers]).toEqual([0, 0, 0]);
  });

  test('does not grow while less than half is used', () => {
    const clock = manualClock();
    const limit = adaptiveConcurrency({ start: 10, max: 20, windowMs: 1000, clock });
    for (let i = 0; i < 20; i++) {
      const places = Array.from({ length: 4 }, () => limit.tryAcquire()!);
      clock.advance(500);
      for (const place of places) place.done(true);
    }
    expect(limit.limit).toBe(10);
  });

  test('a round trip of refusals cuts once; nobody gets in until there is room again', () => {
    const clock = manualClock();
    const limit = adaptiveConcurrency({ start: 10, max: 20, windowMs: 1000, clock });
    const places = fill(limit);
    for (const place of places.slice(0, 5)) {
      clock.advance(2000); // longer than the window: still the same round trip
      place.done(false);
    }
    expect([limit.limit, limit.active]).toEqual([7, 5]);
    const more = fill(limit);
    expect(more).toHaveLength(2);
    clock.advance(2000);
    more[0].done(false);
    expect([limit.limit, limit.active]).toEqual([4, 6]);
    expect(limit.tryAcquire()).toBeUndefined();
  });

  test('never under min', () => {
    const clock = manualClock();
    const limit = adaptiveConcurrency({ start: 5, max: 5, min: 3, windowMs: 1000, clock });
    for (let i = 0; i < 10; i++) {
      clock.advance(1000);
      limit.tryAcquire()!.done(false);
    }
    expect(limit.limit).toBe(3);
  });

  test('using frees the place and says nothing; ending twice is as once', () => {
    const clock = manualClock();
    const limit = adaptiveConcurrency({ start: 2, max: 5, windowMs: 10, clock });
    {
      using place = limit.tryAcquire()!;
      clock.advance(10);
      expect(place).toBeDefined();
    }
    expect([limit.limit, limit.active]).toEqual([2, 0]);
    const place = limit.tryAcquire()!;
    limit.tryAcquire();
    place.done('ignore');
    place.done(false);
    expect([limit.limit, limit.active]).toEqual([2, 1]);
  });

  test('an abort while waiting takes no place', async () => {
    const limit = adaptiveConcurrency({ start: 1, max: 1, clock: manualClock() });
    const held = limit.tryAcquire()!;
    const abort = new AbortController();
    const waiting = limit.acquire({ signal: abort.signal });
    abort.abort('stop');
    await expect(waiting).rejects.toBe('stop');
    held.done(true);
    expect([limit.active, limit.waiting]).toEqual([0, 0]);
  });

  test('active never rises above the limit, and the limit stays in [min, max]', async () => {
    const step = fc.record({
      what: fc.constantFrom('take', 'take', 'wait', 'ok', 'bad', 'ignore', 'time'),
      ms: fc.nat(1500),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 100 }), async (steps) => {
        const clock = manualClock();
        const limit = adaptiveConcurrency({ start: 4, max: 8, min: 2, windowMs: 1000, clock });
        const places: AdaptivePlace[] = [];
        for (const { what, ms } of steps) {
          const before = limit.active;
          if (what === 'take') {
            const place = limit.tryAcquire();
            if (place) places.push(place);
          } else if (what === 'wait') void limit.acquire().then((place) => places.push(place));
          else if (what === 'time') clock.advance(ms);
          else places.shift()?.done(what === 'ignore' ? what : what === 'ok');
          await settle();
          if (limit.active > before) expect(limit.active).toBeLessThanOrEqual(limit.limit);
          expect(limit.active).toBe(places.length);
          if (limit.waiting > 0) expect(limit.active).toBeGreaterThanOrEqual(limit.limit);
          expect(limit.limit >= 2 && limit.limit <= 8).toBe(true);
        }
      }),
    );
  });

  test.each([
    ['start', { start: 0 }],
    ['start', { start: 11 }],
    ['max', { max: 1.5 }],
    ['min', { min: 11 }],
    ['windowMs', { windowMs: 0 }],
    ['decrease', { decrease: 2 }],
    ['increase', { increase: -1 }],
  ])('a bad %s is named: %o', (option, options) => {
    expect(() => adaptiveConcurrency({ start: 5, max: 10, ...options })).toThrow(
      expect.objectContaining({ code: 'PACELINE_CONFIG', option }),
    );
  });
});
