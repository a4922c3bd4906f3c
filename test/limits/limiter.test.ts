import { getEventListeners } from 'node:events';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BudgetExceededError, ConfigError } from '../../src/errors.ts';
import { leakyBucket } from '../../src/limits/leaky-bucket.ts';
import type { Limiter } from '../../src/limits/limiter.ts';
import { slidingWindowCounter } from '../../src/limits/sliding-window-counter.ts';
import { tokenBucket } from '../../src/limits/token-bucket.ts';
import { type ManualClock, manualClock } from '../support/manual-clock.ts';
import { mostInWindow, settle } from '../support/settled.ts';

interface Common {
  readonly limit: number;
  readonly windowMs: number;
  readonly clock?: ManualClock;
}
type Factory = (options: Common) => Limiter;

const factories: [string, Factory][] = [
  ['tokenBucket', tokenBucket],
  ['tokenBucket, strict', (options) => tokenBucket({ ...options, strict: true, burst: Math.ceil(options.limit / 2) })],
  ['leakyBucket', leakyBucket],
  ['slidingWindowCounter', slidingWindowCounter],
];

/** Takes one after the other for `ms`, as soon as it may, and returns when. */
function takenGreedily(limiter: Limiter, clock: ManualClock, ms: number): number[] {
  const times: number[] = [];
  const endMs = clock.now() + ms;
  while (clock.now() < endMs) {
    if (limiter.tryTake()) times.push(clock.now());
    else clock.advance(limiter.waitMs());
  }
  return times;
}

describe.each(factories)('%s', (_name, make) => {
  test('take is first come, first served, with one timer for all, and leaves none behind', async () => {
    const clock = manualClock(5);
    const limiter = make({ limit: 4, windowMs: 1000, clock });
    const order: number[] = [];
    for (let i = 0; i < 20; i++) void limiter.take().then(() => order.push(i));
    await settle();
    const atOnce = order.length;
    expect(atOnce).toBeGreaterThan(0);
    expect(atOnce).toBeLessThanOrEqual(4);
    expect(clock.timers).toBe(1);
    clock.advance(20_000);
    await settle();
    expect(order).toEqual(Array.from({ length: 20 }, (_, i) => i));
    expect(clock.timers).toBe(0);
  });

  test('a timer that fires early is set again, not trusted', async () => {
    const clock = manualClock();
    const limiter = make({ limit: 1, windowMs: 1000, clock });
    await limiter.take();
    let taken = false;
    void limiter.take().then(() => (taken = true));
    clock.advance(400);
    clock.fireEarly();
    await settle();
    expect(taken).toBe(false);
    expect(clock.timers).toBe(1);
    clock.advance(2000);
    await settle();
    expect(taken).toBe(true);
  });

  test('nobody overtakes: while anyone waits, tryTake is false and nothing is available', async () => {
    const clock = manualClock();
    const limiter = make({ limit: 2, windowMs: 1000, clock });
    while (limiter.tryTake());
    const waiting = limiter.take();
    expect(limiter.available).toBe(0);
    const wait = limiter.waitMs();
    expect(wait).toBeGreaterThan(0);
    clock.jump(wait - 1);
    expect(limiter.tryTake()).toBe(false); // though the one in front is due, and the timer late
    await waiting;
    expect(clock.timers).toBe(0);
  });

  test('tryTake takes exactly when waitMs is 0 and available is not', () => {
    const step = fc.record({ advanceMs: fc.nat(700), cost: fc.integer({ min: 1, max: 4 }) });
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 7 }), fc.array(step, { maxLength: 60 }), (limit, steps) => {
        const clock = manualClock(3);
        const limiter = make({ limit, windowMs: 1000, clock });
        for (const { advanceMs, cost } of steps) {
          clock.advance(advanceMs);
          const { available } = limiter;
          expect(available > 0).toBe(limiter.waitMs(1) === 0);
          const waitMs = limiter.waitMs(cost);
          expect(limiter.tryTake(cost)).toBe(waitMs === 0);
          if (Number.isFinite(waitMs)) {
            clock.advance(waitMs);
            expect(limiter.waitMs(waitMs === 0 ? 1 : cost)).toBeGreaterThanOrEqual(0);
            if (waitMs > 0) expect(limiter.tryTake(cost)).toBe(true);
          }
        }
      }),
    );
  });

  test('an aborted take rejects with the reason, takes nothing and hands its place on', async () => {
    const clock = manualClock();
    const limiter = make({ limit: 1, windowMs: 1000, clock });
    await limiter.take();
    const abort = new AbortController();
    const aborted = limiter.take({ signal: abort.signal });
    const waitMs = limiter.waitMs();
    let last = false;
    void limiter.take().then(() => (last = true));
    const reason = new Error('enough');
    abort.abort(reason);
    await expect(aborted).rejects.toBe(reason);
    expect(limiter.waitMs()).toBe(waitMs); // one waits, as before
    clock.advance(1000);
    clock.advance(1000);
    await settle();
    expect(last).toBe(true);
    await expect(limiter.take({ signal: abort.signal })).rejects.toBe(reason);
    expect(clock.timers).toBe(0);
  });

  test('aborting the only waiter clears the timer', async () => {
    const clock = manualClock();
    const limiter = make({ limit: 1, windowMs: 1000, clock });
    await limiter.take();
    const abort = new AbortController();
    const aborted = limiter.take({ signal: abort.signal });
    expect(clock.timers).toBe(1);
    abort.abort();
    await expect(aborted).rejects.toMatchObject({ name: 'AbortError' });
    expect(clock.timers).toBe(0);
  });

  test('a signal has one listener while its waiters wait, and none after', async () => {
    const clock = manualClock();
    const limiter = make({ limit: 1, windowMs: 10, clock });
    const { signal } = new AbortController();
    await limiter.take({ signal });
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
    const waiting = Array.from({ length: 20 }, () => limiter.take({ signal }));
    expect(getEventListeners(signal, 'abort')).toHaveLength(1);
    clock.advance(10_000);
    await Promise.all(waiting);
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
  });

  test('one signal over many waiters: all reject, the others keep their order', async () => {
    const clock = manualClock();
    const limiter = make({ limit: 1, windowMs: 10, clock });
    const abort = new AbortController();
    const served: number[] = [];
    let rejected = 0;
    await limiter.take();
    for (let i = 0; i < 1000; i++) {
      const signal = i % 3 === 0 ? undefined : abort.signal;
      limiter.take({ signal }).then(
        () => served.push(i),
        () => rejected++,
      );
    }
    abort.abort();
    clock.advance(10_000);
    await settle();
    expect(rejected).toBe(666);
    expect(served).toEqual(Array.from({ length: 334 }, (_, i) => i * 3));
  });

  test('a clock that steps back stands still: nothing extra, nothing thrown', () => {
    const clock = manualClock(10_000);
    const limiter = make({ limit: 3, windowMs: 1000, clock });
    while (limiter.tryTake());
    const waitMs = limiter.waitMs();
    clock.jump(0);
    expect(limiter.tryTake()).toBe(false);
    expect(limiter.waitMs()).toBe(waitMs);
    expect(limiter.available).toBe(0);
    clock.jump(10_000);
    expect(limiter.tryTake()).toBe(false);
    clock.jump(30_000);
    expect(limiter.tryTake()).toBe(true);
  });

  test.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '1', null])('a cost of %s is refused', async (cost) => {
    const limiter = make({ limit: 3, windowMs: 1000, clock: manualClock() });
    expect(() => limiter.tryTake(cost as number)).toThrow(ConfigError);
    expect(() => limiter.waitMs(cost as number)).toThrow(ConfigError);
    await expect(limiter.take({ cost: cost as number })).rejects.toMatchObject({ option: 'cost' });
  });

  test('a cost that can never fit: false, Infinity, ConfigError', async () => {
    const limiter = make({ limit: 3, windowMs: 1000, clock: manualClock() });
    expect(limiter.tryTake(4)).toBe(false);
    expect(limiter.waitMs(4)).toBe(Number.POSITIVE_INFINITY);
    await expect(limiter.take({ cost: 4 })).rejects.toMatchObject({ code: 'PACELINE_CONFIG', option: 'cost' });
  });

  test.each([
    ['limit', { limit: 0, windowMs: 1 }],
    ['limit', { limit: 1.5, windowMs: 1 }],
    ['limit', { limit: Number.NaN, windowMs: 1 }],
    ['windowMs', { limit: 1, windowMs: 0 }],
    ['windowMs', { limit: 1, windowMs: Number.POSITIVE_INFINITY }],
    ['windowMs', { limit: 1, windowMs: '1' as unknown as number }],
  ])('a bad %s is named: %o', (option, options) => {
    expect(() => make(options)).toThrow(expect.objectContaining({ code: 'PACELINE_CONFIG', option }));
  });
});

describe('tokenBucket', () => {
  test.each([
    // [limit, windowMs, burst, after ms, taken at once, wait for the next]
    [10, 1000, undefined, 0, 10, 100],
    [10, 1000, 3, 0, 3, 100],
    [10, 1000, 3, 250, 3, 100],
    [3, 1000, 3, 0, 3, 334],
    [1, 60_000, 1, 0, 1, 60_000],
  ])('limit %i per %i ms, burst %s', (limit, windowMs, burst, afterMs, atOnce, waitMs) => {
    const clock = manualClock();
    const bucket = tokenBucket({ limit, windowMs, burst, clock });
    clock.advance(afterMs);
    expect(bucket.available).toBe(atOnce);
    for (let i = 0; i < atOnce; i++) expect(bucket.tryTake()).toBe(true);
    expect(bucket.tryTake()).toBe(false);
    expect(bucket.waitMs()).toBe(waitMs);
  });

  test('no rounding piles up: three a second for a day is three a second', () => {
    const clock = manualClock();
    const bucket = tokenBucket({ limit: 3, windowMs: 1000, clock });
    for (let i = 0; i < 10_000; i++) {
      expect([bucket.tryTake(), bucket.tryTake(3), bucket.tryTake(2), bucket.tryTake()]).toEqual([
        true,
        false,
        true,
        false,
      ]);
      clock.advance(1000);
    }
  });

  test('a burst of b lets limit + b into a window, as documented; strict keeps it at limit', () => {
    const greedy = (strict: boolean, burst: number): number => {
      const clock = manualClock();
      return mostInWindow(
        takenGreedily(tokenBucket({ limit: 10, windowMs: 1000, burst, strict, clock }), clock, 5000),
        1000,
      );
    };
    expect(greedy(false, 10)).toBe(20 - 1); // the 20th is due as the half-open window ends
    expect(greedy(true, 10)).toBe(10);
    expect(greedy(true, 4)).toBe(10);
    expect(greedy(true, 1)).toBe(10);
  });

  test('strict: in every half-open window at most limit, whatever the arrivals', () => {
    fc.assert(
      fc.property(
        fc
          .integer({ min: 1, max: 12 })
          .chain((limit) => fc.tuple(fc.constant(limit), fc.integer({ min: 1, max: limit }))),
        fc.integer({ min: 1, max: 1000 }),
        fc.array(fc.nat(300), { maxLength: 200 }),
        ([limit, burst], windowMs, gaps) => {
          const clock = manualClock();
          const bucket = tokenBucket({ limit, windowMs, burst, strict: true, clock });
          const times: number[] = [];
          for (const gap of gaps) {
            clock.advance((gap % (windowMs / 2 + 1)) | 0);
            for (let i = 0; i < 3; i++) if (bucket.tryTake()) times.push(clock.now());
          }
          expect(mostInWindow(times, windowMs)).toBeLessThanOrEqual(limit);
        },
      ),
    );
  });

  test('a dear one in front is not overtaken, and what it leaves goes on when it aborts', async () => {
    const clock = manualClock();
    const bucket = tokenBucket({ limit: 10, windowMs: 1000, clock });
    bucket.tryTake(8);
    const abort = new AbortController();
    const dear = bucket.take({ cost: 10, signal: abort.signal });
    let cheap = false;
    void bucket.take({ cost: 1 }).then(() => (cheap = true));
    await settle();
    expect(cheap).toBe(false);
    expect(bucket.tryTake()).toBe(false);
    expect(bucket.available).toBe(0); // of the two that are there
    expect(bucket.waitMs()).toBe(1000); // 8 + 10 + 1 + 1 − 10 at one in 100 ms
    abort.abort();
    await expect(dear).rejects.toThrow();
    await settle();
    expect(cheap).toBe(true);
    expect(clock.timers).toBe(0);
  });

  test.each([{ burst: 0 }, { burst: 1.5 }, { burst: 11, strict: true }])('a bad burst is named: %o', (options) => {
    expect(() => tokenBucket({ limit: 10, windowMs: 1000, ...options })).toThrow(
      expect.objectContaining({ option: 'burst' }),
    );
  });
});

describe('leakyBucket', () => {
  test('releases are evenly spaced, after a rest too', async () => {
    const clock = manualClock(7);
    const bucket = leakyBucket({ limit: 4, windowMs: 1000, clock });
    clock.advance(10_000);
    const times: number[] = [];
    for (let i = 0; i < 5; i++) void bucket.take().then(() => times.push(clock.now()));
    await settle();
    for (let i = 0; i < 1000; i++) {
      clock.advance(1);
      await settle();
    }
    expect(times).toEqual([10_007, 10_257, 10_507, 10_757, 11_007]);
  });

  test('a cost of c is followed by a pause of c intervals', () => {
    const clock = manualClock();
    const bucket = leakyBucket({ limit: 4, windowMs: 1000, clock });
    expect(bucket.available).toBe(1);
    expect(bucket.tryTake(3)).toBe(true);
    expect(bucket.available).toBe(0);
    expect(bucket.waitMs()).toBe(750);
    expect(bucket.waitMs(4)).toBe(750);
  });

  test('capacity bounds those who wait: the next is told at once, with the wait', async () => {
    const clock = manualClock();
    const bucket = leakyBucket({ limit: 10, windowMs: 1000, capacity: 2, clock });
    await bucket.take();
    const waiting = [bucket.take(), bucket.take()];
    const error = await bucket.take().catch((e: unknown) => e);
    expect(error).toBeInstanceOf(BudgetExceededError);
    expect(error).toMatchObject({ waitMs: 300, maxWaitMs: 200 });
    clock.advance(100);
    clock.advance(100);
    await Promise.all(waiting);
    const late = bucket.take();
    clock.advance(100);
    await late;
  });

  test('capacity 0: take is all or nothing', async () => {
    const clock = manualClock();
    const bucket = leakyBucket({ limit: 10, windowMs: 1000, capacity: 0, clock });
    await bucket.take({ cost: 5 });
    await expect(bucket.take()).rejects.toMatchObject({ code: 'PACELINE_BUDGET_EXCEEDED' });
    clock.advance(500);
    await bucket.take();
  });

  test('an aborted signal wins over a full queue', async () => {
    const bucket = leakyBucket({ limit: 1, windowMs: 1000, capacity: 0, clock: manualClock() });
    await bucket.take();
    await expect(bucket.take({ signal: AbortSignal.abort('stop') })).rejects.toBe('stop');
  });

  test('with costs of 1, at most limit in every half-open window', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 2000 }), (limit, windowMs) => {
        const clock = manualClock();
        const times = takenGreedily(leakyBucket({ limit, windowMs, clock }), clock, windowMs * 5);
        expect(mostInWindow(times, windowMs)).toBeLessThanOrEqual(limit);
      }),
    );
  });

  test.each([-1, 0.5, Number.NaN, '3'])('a capacity of %s is refused', (capacity) => {
    expect(() => leakyBucket({ limit: 1, windowMs: 1, capacity: capacity as number })).toThrow(
      expect.objectContaining({ option: 'capacity' }),
    );
  });
});

describe('slidingWindowCounter', () => {
  test.each([
    // [taken in the first window, ms into the second, available then, wait for one]
    [10, 0, 0, 100],
    [10, 50, 0, 50],
    [10, 100, 1, 0],
    [10, 500, 5, 0],
    [4, 0, 6, 0],
    [10, 1000, 10, 0],
  ])('%i in the window before, %i ms into this one: %i are there', (before, atMs, available, waitMs) => {
    const clock = manualClock();
    const limiter = slidingWindowCounter({ limit: 10, windowMs: 1000, clock });
    limiter.tryTake(before);
    clock.advance(1000 + atMs);
    expect(limiter.available).toBe(available);
    expect(limiter.waitMs()).toBe(waitMs);
  });

  test('the wait reaches into the next window when this one is used up', () => {
    const clock = manualClock();
    const limiter = slidingWindowCounter({ limit: 10, windowMs: 1000, clock });
    limiter.tryTake(10);
    clock.advance(400);
    expect(limiter.waitMs()).toBe(700);
    expect(limiter.waitMs(10)).toBe(1600);
  });

  test('is no bound, as documented: nearly twice the limit in one window', () => {
    const clock = manualClock();
    const limiter = slidingWindowCounter({ limit: 10, windowMs: 1000, clock });
    limiter.tryTake(); // opens the window
    const times = [0];
    clock.advance(999);
    while (limiter.tryTake()) times.push(clock.now());
    times.push(...takenGreedily(limiter, clock, 999));
    const most = mostInWindow(times, 1000);
    expect(most).toBeGreaterThan(15);
    expect(most).toBeLessThanOrEqual(20);
  });
});
