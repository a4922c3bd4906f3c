import { seededRandom } from 'paceline';
import { virtualClock } from 'paceline/testing';
import { describe, expect, it, vi } from 'vitest';

const sleep = (clock: ReturnType<typeof virtualClock>, ms: number): Promise<void> =>
  new Promise((resolve) => clock.setTimeout(resolve, ms));

describe('virtualClock', () => {
  it('stands still until it is moved', async () => {
    const clock = virtualClock({ startMs: 500, wallMs: 1_000_000 });
    expect([clock.now(), clock.wallNow(), clock.pending]).toEqual([500, 1_000_000, 0]);
    await clock.advance(0.25);
    expect([clock.now(), clock.wallNow()]).toEqual([500.25, 1_000_000.25]);
    await clock.advanceTo(600);
    expect(clock.now()).toBe(600);
    await expect(clock.advanceTo(599)).rejects.toThrow('nowMs');
    await expect(clock.advance(-1)).rejects.toThrow('ms');
  });

  it('fires in the order due, first set first among equals, each at its own instant', async () => {
    const clock = virtualClock();
    const fired: [string, number][] = [];
    const at = (name: string, ms: number) => clock.setTimeout(() => fired.push([name, clock.now()]), ms);
    at('c', 30);
    at('a', 10.5);
    at('b1', 20);
    at('b2', 20);
    at('late', 30.001);
    await clock.advance(30);
    expect(fired).toEqual([
      ['a', 10.5],
      ['b1', 20],
      ['b2', 20],
      ['c', 30],
    ]);
    expect([clock.now(), clock.pending]).toEqual([30, 1]);
  });

  it('keeps the order under random sets and cancels', async () => {
    const clock = virtualClock();
    const random = seededRandom(7);
    const expected: [number, number][] = [];
    const fired: [number, number][] = [];
    const handles = Array.from({ length: 2_000 }, (_, i) => {
      const due = Math.floor(random() * 300);
      return { due, i, cancel: random() < 0.4, handle: clock.setTimeout(() => fired.push([due, i]), due) };
    });
    for (const { due, i, cancel, handle } of handles) {
      if (cancel) clock.clearTimeout(handle);
      else expected.push([due, i]);
    }
    expect(clock.pending).toBe(expected.length);
    clock.advanceSync(300);
    expect(fired).toEqual(expected.sort(([a, i], [b, j]) => a - b || i - j));
  });

  it('ignores a handle that has fired, was cancelled before, or is none', async () => {
    const clock = virtualClock();
    const fired = vi.fn();
    const handle = clock.setTimeout(fired, 1);
    const other = clock.setTimeout(fired, 1);
    clock.clearTimeout(undefined);
    clock.clearTimeout(other);
    clock.clearTimeout(other);
    await clock.advance(1);
    clock.clearTimeout(handle);
    expect([fired.mock.calls.length, clock.pending]).toEqual([1, 0]);
  });

  it('lets the code under test react between timers, and fires what it sets in time', async () => {
    const clock = virtualClock();
    const seen: number[] = [];
    const loop = async (): Promise<void> => {
      for (let i = 0; i < 5; i++) {
        await sleep(clock, 10);
        await new Promise((resolve) => setImmediate(resolve));
        seen.push(clock.now());
      }
    };
    const done = loop();
    await clock.advance(35);
    expect(seen).toEqual([10, 20, 30]);
    await clock.advance(15);
    await done;
    expect(seen).toEqual([10, 20, 30, 40, 50]);
  });

  it('moves without a turn when asked to', async () => {
    const clock = virtualClock();
    const seen: string[] = [];
    void sleep(clock, 5).then(() => seen.push('promise'));
    clock.setTimeout(() => {
      seen.push('timer');
      clock.setTimeout(() => seen.push('nested'), 1);
    }, 5);
    clock.advanceSync(10);
    expect(seen).toEqual(['timer', 'nested']);
    await Promise.resolve();
    expect(seen).toEqual(['timer', 'nested', 'promise']);
  });

  it('moves only the wall when the wall jumps', async () => {
    const clock = virtualClock({ wallMs: 10_000 });
    const fired = vi.fn();
    clock.setTimeout(fired, 5);
    clock.jumpWall(-3_600_000);
    expect([clock.now(), clock.wallNow()]).toEqual([0, 10_000 - 3_600_000]);
    await clock.advance(4);
    expect([fired.mock.calls.length, clock.wallNow()]).toEqual([0, 10_004 - 3_600_000]);
  });

  it('cuts a delay as Node cuts it, and takes none for nonsense', async () => {
    const clock = virtualClock();
    const fired: string[] = [];
    clock.setTimeout(() => fired.push('far'), Number.POSITIVE_INFINITY);
    clock.setTimeout(() => fired.push('NaN'), Number.NaN);
    clock.setTimeout(() => fired.push('past'), -5);
    await clock.advance(0);
    expect(fired).toEqual(['NaN', 'past']);
    await clock.advance(2 ** 31 - 1);
    expect(fired).toEqual(['NaN', 'past', 'far']);
  });

  it('passes on what a callback throws, and goes on afterwards', async () => {
    const clock = virtualClock();
    clock.setTimeout(() => {
      throw new Error('oh');
    }, 1);
    await expect(clock.advance(5)).rejects.toThrow('oh');
    await clock.advance(1);
    expect(clock.now()).toBe(2);
  });

  it('refuses two drivers at once', async () => {
    const clock = virtualClock();
    const first = clock.advance(5);
    await expect(clock.advance(5)).rejects.toThrow('being advanced already');
    expect(() => clock.advanceSync(1)).toThrow('being advanced already');
    await first;
    expect(clock.now()).toBe(5);
  });

  it('does not spin for ever on a timer that sets itself again at once', () => {
    const clock = virtualClock();
    const again = (): void => void clock.setTimeout(again, 0);
    again();
    expect(() => clock.advanceSync(1)).toThrow('sets itself again');
  });

  it('fires 100,000 timers, and forgets 100,000 cancelled ones, quickly', async () => {
    const clock = virtualClock();
    const random = seededRandom(3);
    let fired = 0;
    const started = performance.now();
    const handles = Array.from({ length: 200_000 }, () => clock.setTimeout(() => fired++, random() * 60_000));
    for (let i = 0; i < handles.length; i += 2) clock.clearTimeout(handles[i]);
    expect(clock.pending).toBe(100_000);
    clock.advanceSync(60_000);
    expect(fired).toBe(100_000);
    // Generous: a scan of all timers for each would take minutes.
    expect(performance.now() - started).toBeLessThan(5_000);
  });
});

describe('runUntil', () => {
  it('moves as far as the promise needs, and no further', async () => {
    const clock = virtualClock();
    clock.setTimeout(() => {}, 10_000);
    const work = sleep(clock, 100)
      .then(() => sleep(clock, 200))
      .then(() => 'done');
    expect(await clock.runUntil(work)).toBe('done');
    expect([clock.now(), clock.pending]).toEqual([300, 1]);
  });

  it('rejects as the promise does', async () => {
    const clock = virtualClock();
    const work = sleep(clock, 5).then(() => Promise.reject(new Error('no')));
    await expect(clock.runUntil(work)).rejects.toThrow('no');
  });

  it('calls a deadlock a deadlock', async () => {
    const clock = virtualClock();
    const stuck = sleep(clock, 5).then(() => new Promise(() => {}));
    await expect(clock.runUntil(stuck)).rejects.toThrow('deadlock at 5 ms');
  });

  it('stops after the most virtual time it may take', async () => {
    const clock = virtualClock();
    const beat = (): void => void clock.setTimeout(beat, 1_000);
    beat();
    await expect(clock.runUntil(new Promise(() => {}), { maxMs: 10_000 })).rejects.toThrow('after 10000 ms');
    expect(clock.now()).toBe(10_000);
  });

  it('runs until nothing waits', async () => {
    const clock = virtualClock();
    const work = sleep(clock, 5).then(() => sleep(clock, 7));
    await clock.runUntilIdle(100);
    await work;
    expect(clock.now()).toBe(12);
    void sleep(clock, 500);
    await expect(clock.runUntilIdle(100)).rejects.toThrow('still waiting');
  });
});
