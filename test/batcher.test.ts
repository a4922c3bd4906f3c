import { getEventListeners } from 'node:events';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type BatcherOptions, batcher } from '../src/batcher.ts';
import { manualClock } from './support/manual-clock.ts';
import { settle } from './support/settled.ts';

interface Call {
  readonly keys: readonly number[];
  readonly signal: AbortSignal;
  answer(results: unknown): void;
  fail(error: unknown): void;
}

/** A batcher whose batches are answered by hand. */
function make(options: Partial<BatcherOptions<number, string>> = {}) {
  const clock = manualClock();
  const calls: Call[] = [];
  const load = batcher<number, string>({
    maxSize: 3,
    maxDelayMs: 20,
    fetchMany: (keys, { signal }) =>
      new Promise<never>((resolve, fail) => {
        calls.push({ keys, signal, answer: (results) => resolve(results as never), fail });
      }),
    clock,
    ...options,
  });
  return { clock, calls, load };
}

const echo = (keys: readonly number[]): string[] => keys.map((key) => `v${key}`);
const later = <T>(promise: Promise<T>): Promise<PromiseSettledResult<T>> =>
  Promise.allSettled([promise]).then(([result]) => result);

describe('when a batch leaves', () => {
  test('when its first key has waited maxDelayMs', async () => {
    const { clock, calls, load } = make();
    const values = [load(1)];
    clock.advance(19);
    values.push(load(2));
    expect(calls).toHaveLength(0);
    clock.advance(1);
    expect(calls.map(({ keys }) => keys)).toEqual([[1, 2]]);
    expect(clock.timers).toBe(0);
    calls[0].answer(['a', 'b']);
    expect(await Promise.all(values)).toEqual(['a', 'b']);
  });

  test('when it is full, at once', async () => {
    const { clock, calls, load } = make();
    const values = [1, 2, 3, 4].map((key) => load(key));
    expect(calls.map(({ keys }) => keys)).toEqual([[1, 2, 3]]);
    expect(clock.timers).toBe(1);
    clock.advance(20);
    expect(calls[1].keys).toEqual([4]);
    for (const { keys, answer } of calls) answer(echo(keys));
    expect(await Promise.all(values)).toEqual(['v1', 'v2', 'v3', 'v4']);
    expect(clock.timers).toBe(0);
  });

  test('a batch of one leaves at once', async () => {
    const { clock, calls, load } = make({ maxSize: 1 });
    const value = load(7);
    expect(calls[0].keys).toEqual([7]);
    expect(clock.timers).toBe(0);
    calls[0].answer(['x']);
    expect(await value).toBe('x');
  });
});

describe('the same key', () => {
  test('is asked for once, while it waits and while it is under way, and anew afterwards', async () => {
    const { clock, calls, load } = make();
    const values = [load(1), load(1), load(2)];
    clock.advance(20);
    values.push(load(1), load(2));
    expect(clock.timers).toBe(0);
    expect(calls.map(({ keys }) => keys)).toEqual([[1, 2]]);
    calls[0].answer(['a', 'b']);
    expect(await Promise.all(values)).toEqual(['a', 'a', 'b', 'a', 'b']);
    void load(1);
    clock.advance(20);
    expect(calls[1].keys).toEqual([1]);
  });

  test('NaN is the same as NaN, 1 is not "1"', () => {
    const clock = manualClock();
    const seen: unknown[][] = [];
    const load = batcher<unknown, number>({
      fetchMany: (keys) => {
        seen.push([...keys]);
        return keys.map(() => 0);
      },
      clock,
    });
    for (const key of [Number.NaN, Number.NaN, 1, '1', 1]) void load(key);
    clock.advance(10);
    expect(seen).toEqual([[Number.NaN, 1, '1']]);
  });
});

describe('results', () => {
  test('by order or by Map, at once or later; undefined is a value', async () => {
    for (const results of [
      ['a', undefined],
      new Map([
        [2, undefined],
        [1, 'a'],
      ]),
    ]) {
      for (const fetchMany of [() => results, async () => results]) {
        const { clock, load } = make({ fetchMany: fetchMany as never });
        const values = [load(1), load(2)];
        clock.advance(20);
        expect(await Promise.all(values)).toEqual(['a', undefined]);
      }
    }
  });

  test('an Error in the place of a value rejects that key alone', async () => {
    const gone = new TypeError('gone');
    for (const results of [
      ['a', gone],
      new Map<number, string | Error>([
        [1, 'a'],
        [2, gone],
      ]),
    ]) {
      const { clock, load } = make({ fetchMany: () => results });
      const values = [load(1), load(2), load(2)].map(later);
      clock.advance(20);
      expect(await Promise.all(values)).toEqual([
        { status: 'fulfilled', value: 'a' },
        { status: 'rejected', reason: gone },
        { status: 'rejected', reason: gone },
      ]);
    }
  });

  test('what fetchMany throws, at once or later, rejects all of its batch and no other', async () => {
    const down = new Error('down');
    const throwing = (): never => {
      throw down;
    };
    for (const fetchMany of [throwing, async () => throwing()]) {
      const { clock, load } = make({ fetchMany });
      const values = [load(1), load(2)].map(later);
      clock.advance(20);
      expect(await Promise.all(values)).toMatchObject([{ reason: down }, { reason: down }]);
    }
    const { clock, calls, load } = make();
    const first = later(load(1));
    clock.advance(20);
    const second = load(2);
    clock.advance(20);
    calls[0].fail(down);
    calls[1].answer(['b']);
    expect([await first, await second]).toEqual([{ status: 'rejected', reason: down }, 'b']);
  });

  test.each([
    ['too few', ['a'], 'fetchMany: expected 2 results, one for each key in their order, got an array of 1'],
    ['too many', ['a', 'b', 'c'], 'fetchMany: expected 2 results, one for each key in their order, got an array of 3'],
    ['no array', { 0: 'a', 1: 'b' }, 'fetchMany: expected an array or a Map, got an object'],
    ['nothing', undefined, 'fetchMany: expected an array or a Map, got undefined'],
  ])('%s', async (_name, results, message) => {
    const { clock, calls, load } = make();
    const values = [load(1), load(2)].map(later);
    clock.advance(20);
    calls[0].answer(results);
    const reason = expect.objectContaining({ code: 'PACELINE_CONFIG', message });
    expect(await Promise.all(values)).toEqual([
      { status: 'rejected', reason },
      { status: 'rejected', reason },
    ]);
  });

  test('a Map without a key rejects that key alone', async () => {
    const { clock, load } = make({ fetchMany: () => new Map([[1, 'a']]) });
    const values = [load(1), load(2)].map(later);
    clock.advance(20);
    expect(await Promise.all(values)).toMatchObject([{ value: 'a' }, { reason: { option: 'fetchMany' } }]);
  });

  test('what fetchMany does to its keys changes nothing', async () => {
    const { clock, load } = make({
      fetchMany: (keys) => {
        (keys as number[]).reverse().pop();
        return ['a', 'b'];
      },
    });
    const values = [load(1), load(2)];
    clock.advance(20);
    expect(await Promise.all(values)).toEqual(['a', 'b']);
  });
});

describe('abort', () => {
  test('before it leaves: the key is not asked for, the others are', async () => {
    const { clock, calls, load } = make();
    const abort = new AbortController();
    const aborted = later(load(1, { signal: abort.signal }));
    const kept = load(2);
    abort.abort('stop');
    expect(await aborted).toEqual({ status: 'rejected', reason: 'stop' });
    clock.advance(20);
    expect(calls[0].keys).toEqual([2]);
    calls[0].answer(['b']);
    expect(await kept).toBe('b');
  });

  test('one of two who want a key leaves alone', async () => {
    const { clock, calls, load } = make();
    const abort = new AbortController();
    const values = [later(load(1, { signal: abort.signal })), later(load(1))];
    abort.abort('stop');
    clock.advance(20);
    expect(calls[0].keys).toEqual([1]);
    calls[0].answer(['a']);
    expect(await Promise.all(values)).toMatchObject([{ reason: 'stop' }, { value: 'a' }]);
  });

  test('when nobody is left it never leaves, and its timer is gone', async () => {
    const { clock, calls, load } = make();
    const abort = new AbortController();
    const values = [1, 2].map((key) => later(load(key, { signal: abort.signal })));
    abort.abort('stop');
    expect(clock.timers).toBe(0);
    await Promise.all(values);
    clock.advance(1000);
    expect(calls).toHaveLength(0);
    void load(1);
    expect(clock.timers).toBe(1);
  });

  test('under way: fetchMany hears of it when nobody is left, and the next one begins anew', async () => {
    const { clock, calls, load } = make();
    const aborts = [new AbortController(), new AbortController()];
    const values = aborts.map(({ signal }, key) => later(load(key, { signal })));
    clock.advance(20);
    aborts[0].abort('first');
    expect(calls[0].signal.aborted).toBe(false);
    aborts[1].abort('second');
    expect(calls[0].signal.aborted).toBe(true);
    expect(calls[0].signal.reason).toBe('second');
    const again = [load(0)];
    clock.advance(20);
    calls[0].fail(calls[0].signal.reason);
    expect(await Promise.all(values)).toMatchObject([{ reason: 'first' }, { reason: 'second' }]);
    again.push(load(0));
    expect(calls[1].keys).toEqual([0]);
    calls[1].answer(['anew']);
    expect(await Promise.all(again)).toEqual(['anew', 'anew']);
    expect(clock.timers).toBe(0);
  });

  test('a key that was given up under way can still be joined while its batch goes on', async () => {
    const { calls, load } = make();
    const abort = new AbortController();
    const first = later(load(1, { signal: abort.signal }));
    void load(2);
    void load(3);
    abort.abort('stop');
    const joined = load(1);
    calls[0].answer(['a', 'b', 'c']);
    expect(await joined).toBe('a');
    expect(await first).toMatchObject({ reason: 'stop' });
    expect(calls).toHaveLength(1);
  });

  test('already aborted: nothing happens', async () => {
    const { clock, load } = make();
    await expect(load(1, { signal: AbortSignal.abort('stop') })).rejects.toBe('stop');
    expect(clock.timers).toBe(0);
  });

  test('a settled key listens to its signal no more', async () => {
    const { clock, calls, load } = make();
    const { signal } = new AbortController();
    const value = load(1, { signal });
    expect(getEventListeners(signal, 'abort')).toHaveLength(1);
    clock.advance(20);
    calls[0].answer(['a']);
    await value;
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
  });
});

test('everybody gets the value of their key, from batches within the size, and nothing is left behind', async () => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ key: fc.nat(9) }) },
    { weight: 1, arbitrary: fc.record({ abort: fc.nat(30) }) },
    { weight: 2, arbitrary: fc.record({ ms: fc.nat(30) }) },
    { weight: 2, arbitrary: fc.record({ answer: fc.boolean() }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 80 }), async (steps) => {
      const { clock, calls, load } = make();
      const asked: { key: number; abort: AbortController; result: Promise<PromiseSettledResult<string>> }[] = [];
      let answered = 0;
      const answerNext = (ok: boolean): void => {
        const call = calls[answered++];
        if (ok) call?.answer(echo(call.keys));
        else call?.fail('failed');
      };
      for (const step of steps) {
        if ('key' in step) {
          const abort = new AbortController();
          asked.push({ key: step.key, abort, result: later(load(step.key, { signal: abort.signal })) });
        } else if ('abort' in step) asked[step.abort]?.abort.abort('aborted');
        else if ('ms' in step) clock.advance(step.ms);
        else if (answered < calls.length) answerNext(step.answer);
        await settle();
      }
      clock.advance(20);
      while (answered < calls.length) answerNext(true);
      await settle();
      for (const { key, abort, result } of asked) {
        const end = await result;
        if (end.status === 'fulfilled') expect(end.value).toBe(`v${key}`);
        else expect(['failed', ...(abort.signal.aborted ? ['aborted'] : [])]).toContain(end.reason);
      }
      for (const { keys } of calls) {
        expect(keys.length).toBeLessThanOrEqual(3);
        expect(new Set(keys).size).toBe(keys.length);
      }
      expect(clock.timers).toBe(0);
      for (const { abort } of asked) expect(getEventListeners(abort.signal, 'abort')).toHaveLength(0);
    }),
  );
});

test.each([
  ['maxSize', { maxSize: 0 }],
  ['maxSize', { maxSize: Number.POSITIVE_INFINITY }],
  ['maxDelayMs', { maxDelayMs: -1 }],
  ['maxDelayMs', { maxDelayMs: Number.NaN }],
  ['fetchMany', { fetchMany: undefined }],
])('a bad %s is named: %o', (option, options) => {
  const all = { fetchMany: () => [], ...options } as BatcherOptions<number, string>;
  expect(() => batcher(all)).toThrow(expect.objectContaining({ code: 'PACELINE_CONFIG', option }));
});
