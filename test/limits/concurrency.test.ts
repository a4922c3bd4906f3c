import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { concurrencyLimit, type Releaser } from '../../src/limits/concurrency.ts';
import { settle } from '../support/settled.ts';

describe('concurrencyLimit', () => {
  test('at most limit at a time; a release lets the next one in', async () => {
    const limit = concurrencyLimit({ limit: 2 });
    const a = limit.tryAcquire()!;
    const b = await limit.acquire();
    expect(limit.tryAcquire()).toBeUndefined();
    expect([limit.active, limit.waiting]).toEqual([2, 0]);
    let c: Releaser | undefined;
    void limit.acquire().then((place) => (c = place));
    expect(limit.waiting).toBe(1);
    a.release();
    a.release();
    a[Symbol.dispose]();
    await settle();
    expect(c).toBeDefined();
    expect([limit.active, limit.waiting]).toEqual([2, 0]);
    b.release();
    c!.release();
    expect(limit.active).toBe(0);
  });

  test('using releases', () => {
    const limit = concurrencyLimit({ limit: 1 });
    {
      using place = limit.tryAcquire()!;
      expect(place).toBeDefined();
      expect(limit.active).toBe(1);
    }
    expect(limit.active).toBe(0);
  });

  test('higher priority first, equals first come, first served', async () => {
    const limit = concurrencyLimit({ limit: 1 });
    const held = limit.tryAcquire()!;
    const order: string[] = [];
    const enter = (name: string, priority?: number): void => {
      void limit.acquire({ priority }).then((place) => {
        order.push(name);
        place.release();
      });
    };
    enter('a');
    enter('b', 0);
    enter('low', -1);
    enter('high', 5);
    enter('c');
    enter('high 2', 5);
    enter('higher', 5.5);
    held.release();
    await settle();
    await settle();
    expect(order).toEqual(['higher', 'high', 'high 2', 'a', 'b', 'c', 'low']);
    expect(limit.active).toBe(0);
  });

  test('raising the limit wakes waiters, lowering it lets nobody in until it is kept', async () => {
    const limit = concurrencyLimit({ limit: 1 });
    const places: Releaser[] = [];
    for (let i = 0; i < 5; i++) void limit.acquire().then((place) => places.push(place));
    await settle();
    expect(places).toHaveLength(1);
    limit.limit = 4;
    await settle();
    expect(places).toHaveLength(4);
    limit.limit = 2;
    expect([limit.limit, limit.active, limit.waiting]).toEqual([2, 4, 1]);
    places[0].release();
    places[1].release();
    await settle();
    expect([limit.active, limit.waiting]).toEqual([2, 1]);
    expect(limit.tryAcquire()).toBeUndefined();
    places[2].release();
    await settle();
    expect([limit.active, limit.waiting]).toEqual([2, 0]);
  });

  test('abort: the reason, no place taken, the turn handed on', async () => {
    const limit = concurrencyLimit({ limit: 1 });
    const held = limit.tryAcquire()!;
    const abort = new AbortController();
    const aborted = limit.acquire({ signal: abort.signal, priority: 9 });
    const next = limit.acquire();
    abort.abort('stop');
    await expect(aborted).rejects.toBe('stop');
    expect(limit.waiting).toBe(1);
    held.release();
    (await next).release();
    expect(limit.active).toBe(0);
    await expect(limit.acquire({ signal: abort.signal })).rejects.toBe('stop');
  });

  test('never more than limit, and nobody is lost, whatever happens', async () => {
    const action = fc.constantFrom('acquire', 'acquire', 'try', 'release', 'abort', 'raise', 'lower');
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 80 }), async (actions) => {
        const limit = concurrencyLimit({ limit: 2 });
        const held: Releaser[] = [];
        const aborts: AbortController[] = [];
        let highest = 2;
        for (const [i, what] of actions.entries()) {
          if (what === 'acquire') {
            const abort = new AbortController();
            aborts.push(abort);
            limit.acquire({ signal: abort.signal, priority: i % 3 }).then(
              (place) => held.push(place),
              () => {},
            );
          } else if (what === 'try') {
            const place = limit.tryAcquire();
            if (place) held.push(place);
          } else if (what === 'release') held.shift()?.release();
          else if (what === 'abort') aborts.pop()?.abort();
          else if (what === 'raise') highest = Math.max(highest, ++limit.limit);
          else if (limit.limit > 1) limit.limit--;
          await settle();
          expect(limit.active).toBe(held.length);
          expect(limit.active).toBeLessThanOrEqual(highest);
          if (limit.waiting > 0) expect(limit.active).toBeGreaterThanOrEqual(limit.limit);
        }
        while (limit.active > 0) {
          held.shift()!.release();
          await settle();
        }
        expect(limit.waiting).toBe(0);
      }),
    );
  });

  test.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '2'])(
    'a limit of %s is refused, then and later',
    (bad) => {
      expect(() => concurrencyLimit({ limit: bad as number })).toThrow(expect.objectContaining({ option: 'limit' }));
      const limit = concurrencyLimit({ limit: 3 });
      expect(() => {
        limit.limit = bad as number;
      }).toThrow(expect.objectContaining({ option: 'limit' }));
      expect(limit.limit).toBe(3);
    },
  );

  test.each([Number.NaN, Number.POSITIVE_INFINITY, 'high'])('a priority of %s is refused', async (priority) => {
    const limit = concurrencyLimit({ limit: 1 });
    await expect(limit.acquire({ priority: priority as number })).rejects.toMatchObject({ option: 'priority' });
    expect(limit.active).toBe(0);
  });
});
