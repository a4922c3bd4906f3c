import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Slot, slidingWindow } from '../../src/limits/sliding-window.ts';
import { manualClock } from '../support/manual-clock.ts';
import { mostInWindow, settle } from '../support/settled.ts';

describe('slidingWindow', () => {
  test('a slot is busy until released, then cools for one window', () => {
    const clock = manualClock();
    const window = slidingWindow({ limit: 2, windowMs: 1000, clock });
    expect(window.available).toBe(2);
    const first = window.tryAcquire()!;
    const second = window.tryAcquire()!;
    expect(window.tryAcquire()).toBeUndefined();
    expect(window.waitMs()).toBe(Number.POSITIVE_INFINITY);
    clock.advance(5000); // however long it takes
    expect(window.tryAcquire()).toBeUndefined();
    first.release();
    expect(window.waitMs()).toBe(1000);
    clock.advance(400);
    second.release();
    expect(window.waitMs()).toBe(600);
    clock.advance(599);
    expect(window.available).toBe(0);
    clock.advance(1);
    expect(window.available).toBe(1);
    clock.advance(400);
    expect(window.available).toBe(2);
  });

  test('only the first end of a slot counts', () => {
    const clock = manualClock();
    const window = slidingWindow({ limit: 1, windowMs: 1000, clock });
    const slot = window.tryAcquire()!;
    slot.release();
    clock.advance(600);
    slot.release(9999);
    slot.giveBack();
    slot[Symbol.dispose]();
    expect(window.waitMs()).toBe(400);
    clock.advance(400);
    expect(window.available).toBe(1);
    window.tryAcquire();
    slot.release();
    expect(window.available).toBe(0);
    expect(window.waitMs()).toBe(Number.POSITIVE_INFINITY);
  });

  test('using releases', () => {
    const clock = manualClock();
    const window = slidingWindow({ limit: 1, windowMs: 1000, clock });
    {
      using slot = window.tryAcquire()!;
      expect(slot).toBeDefined();
      clock.advance(50);
    }
    expect(window.waitMs()).toBe(1000);
  });

  test('a grace cools for longer, and does not hold up slots released later', () => {
    const clock = manualClock();
    const window = slidingWindow({ limit: 3, windowMs: 1000, clock });
    const [a, b, c] = [window.tryAcquire()!, window.tryAcquire()!, window.tryAcquire()!];
    a.release(5000);
    b.release(300);
    clock.advance(100);
    c.release();
    expect(window.waitMs()).toBe(1000); // c, at 1100; b at 1300, a at 6000
    clock.advance(1000);
    expect(window.available).toBe(1);
    clock.advance(200);
    expect(window.available).toBe(2);
    clock.advance(4699);
    expect(window.available).toBe(2);
    clock.advance(1);
    expect(window.available).toBe(3);
  });

  test('a slot given back is free at once', async () => {
    const clock = manualClock();
    const window = slidingWindow({ limit: 1, windowMs: 1000, clock });
    const slot = window.tryAcquire()!;
    let next: Slot | undefined;
    void window.acquire().then((s) => (next = s));
    slot.giveBack();
    await settle();
    expect(next).toBeDefined();
    expect(window.available).toBe(0);
  });

  test('hit is the plain log', () => {
    const clock = manualClock();
    const window = slidingWindow({ limit: 2, windowMs: 1000, clock });
    expect([window.hit(), window.hit(), window.hit()]).toEqual([true, true, false]);
    clock.advance(999);
    expect(window.hit()).toBe(false);
    clock.advance(1);
    expect([window.hit(), window.hit(), window.hit()]).toEqual([true, true, false]);
  });

  test('acquire waits in order, on one timer, and not on the clock while all slots are busy', async () => {
    const clock = manualClock();
    const window = slidingWindow({ limit: 2, windowMs: 1000, clock });
    const held: [number, Slot][] = [];
    for (let i = 0; i < 5; i++) void window.acquire().then((slot) => held.push([i, slot]));
    await settle();
    expect(held.map(([i]) => i)).toEqual([0, 1]);
    expect(clock.timers).toBe(0);
    expect(window.waitMs()).toBe(Number.POSITIVE_INFINITY);
    held[1][1].release();
    expect(clock.timers).toBe(1);
    clock.advance(100);
    held[0][1].release();
    expect(clock.timers).toBe(1);
    expect(window.waitMs()).toBe(Number.POSITIVE_INFINITY); // two cool, three wait
    clock.advance(900);
    await settle();
    expect(held.map(([i]) => i)).toEqual([0, 1, 2]);
    expect(window.tryAcquire()).toBeUndefined();
    expect(window.hit()).toBe(false);
    clock.fireEarly();
    await settle();
    expect(held).toHaveLength(3);
    clock.advance(100);
    await settle();
    expect(held.map(([i]) => i)).toEqual([0, 1, 2, 3]);
    expect(clock.timers).toBe(0);
  });

  test('waitMs counts those who wait already', async () => {
    const clock = manualClock();
    const window = slidingWindow({ limit: 2, windowMs: 1000, clock });
    window.hit();
    clock.advance(300);
    window.hit();
    expect(window.waitMs()).toBe(700);
    void window.acquire();
    expect(window.waitMs()).toBe(1000);
  });

  test('an aborted acquire takes no slot', async () => {
    const clock = manualClock();
    const window = slidingWindow({ limit: 1, windowMs: 1000, clock });
    window.hit();
    const abort = new AbortController();
    const aborted = window.acquire({ signal: abort.signal });
    abort.abort('stop');
    await expect(aborted).rejects.toBe('stop');
    await expect(window.acquire({ signal: abort.signal })).rejects.toBe('stop');
    expect(clock.timers).toBe(0);
    clock.advance(1000);
    expect(window.available).toBe(1);
  });

  test('a bad grace is refused and the slot stays busy', () => {
    const window = slidingWindow({ limit: 1, windowMs: 1000, clock: manualClock() });
    const slot = window.tryAcquire()!;
    for (const grace of [-1, Number.NaN, Number.POSITIVE_INFINITY, '5' as unknown as number]) {
      expect(() => slot.release(grace)).toThrow(expect.objectContaining({ option: 'graceMs' }));
    }
    expect(window.waitMs()).toBe(Number.POSITIVE_INFINITY);
    slot.release();
    expect(window.waitMs()).toBe(1000);
  });

  test.each([
    ['limit', { limit: 0, windowMs: 1 }],
    ['limit', { limit: 2 ** 24 + 1, windowMs: 1 }],
    ['limit', { limit: 1.5, windowMs: 1 }],
    ['windowMs', { limit: 1, windowMs: -1 }],
    ['windowMs', { limit: 1, windowMs: Number.NaN }],
  ])('a bad %s is named: %o', (option, options) => {
    expect(() => slidingWindow(options)).toThrow(expect.objectContaining({ code: 'PACELINE_CONFIG', option }));
  });

  // The promise: wherever between grant and release the target saw each request.
  const step = fc.record({
    gapMs: fc.nat(120),
    latencyMs: fc.nat(800),
    seenAt: fc.oneof(fc.constant(0), fc.constant(1), fc.double({ min: 0, max: 1, noNaN: true })),
    end: fc.constantFrom('release', 'release', 'grace', 'giveBack'),
  });
  test('at most limit arrivals in every half-open window, however late each one arrives', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 1000 }),
        fc.array(step, { minLength: 20, maxLength: 150 }),
        (limit, windowMs, steps) => {
          const clock = manualClock();
          const window = slidingWindow({ limit, windowMs, clock });
          const arrivals: number[] = [];
          for (const { gapMs, latencyMs, seenAt, end } of steps) {
            clock.advance(gapMs);
            const slot = window.tryAcquire();
            if (slot === undefined) continue;
            const sentMs = clock.now();
            if (end === 'giveBack') {
              clock.setTimeout(() => slot.giveBack(), latencyMs); // it never arrived
              continue;
            }
            const graceMs = end === 'grace' ? 200 : 0; // aborted after latencyMs, seen up to 200 ms after that
            arrivals.push(sentMs + Math.floor(seenAt * (latencyMs + graceMs)));
            clock.setTimeout(() => slot.release(graceMs), latencyMs);
          }
          expect(mostInWindow(arrivals, windowMs)).toBeLessThanOrEqual(limit);
        },
      ),
      { numRuns: 500 },
    );
  });

  test('and no fewer than it may: with instant answers every window is used up', () => {
    const clock = manualClock();
    const window = slidingWindow({ limit: 7, windowMs: 1000, clock });
    let sent = 0;
    for (let i = 0; i < 10_000; i++) {
      while (window.hit()) sent++;
      clock.advance(1);
    }
    expect(sent).toBe(70);
  });
});
