import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/clock.ts';
import { IndexedHeap } from '../../src/store/heap.ts';
import { Line } from '../../src/store/line.ts';

class Places extends Map<number, number> {
  override get(item: number): number {
    return super.get(item) ?? -1;
  }
}

const ITEMS = 100;

interface Step {
  readonly do: 'push' | 'update' | 'remove' | 'pop';
  readonly item: number;
  readonly key: number;
  /** The key is a time from now: keys mostly rise. */
  readonly timed: boolean;
}

const steps = fc.array(
  fc.record<Step>({
    do: fc.constantFrom('push', 'push', 'push', 'update', 'update', 'remove', 'pop'),
    item: fc.integer({ min: 0, max: ITEMS - 1 }),
    // Few keys, so that equal ones are common.
    key: fc.oneof(fc.integer({ min: -5, max: 5 }), fc.integer(), fc.constantFrom(-Infinity, 1e15, 0.5)),
    timed: fc.constantFrom(true, true, true, false),
  }),
  { maxLength: 400, size: 'max' },
);

describe.each([
  ['IndexedHeap', IndexedHeap],
  ['Line', Line],
])('%s', (_, Queue) => {
  it('always has the smallest key on top, whatever is pushed, updated, removed and popped', () => {
    fc.assert(
      fc.property(steps, fc.boolean(), (work, clocked) => {
        const places = new Places();
        const queue = new Queue(places);
        const model = new Map<number, number>();
        for (const [now, step] of work.entries()) {
          const { do: what, item } = step;
          const key = clocked && step.timed ? now + Math.max(0, Math.min(step.key, 20)) : step.key;
          if (what === 'push' && !model.has(item)) {
            queue.push(item, key);
            model.set(item, key);
          } else if (what === 'update' && model.has(item)) {
            queue.update(item, key);
            model.set(item, key);
          } else if (what === 'remove' && model.has(item)) {
            queue.remove(item);
            model.delete(item);
          } else if (what === 'pop' && model.size > 0) {
            const { top } = queue;
            queue.remove(top);
            model.delete(top);
          }
          expect(queue.size).toBe(model.size);
          if (model.size === 0) continue;
          const smallest = Math.min(...model.values());
          expect(queue.topKey).toBe(smallest);
          expect(model.get(queue.top)).toBe(smallest);
        }
        for (let i = 0; i < ITEMS; i++) expect(places.get(i) >= 0).toBe(model.has(i));
      }),
      { numRuns: 200 },
    );
  });

  it('gives all items out in the order of their keys', () => {
    const numbers = fc.array(fc.double({ noNaN: true }), { maxLength: 500, size: 'max' });
    fc.assert(
      fc.property(numbers, (doubles) => {
        const keys = doubles.map((key) => key + 0);
        const queue = new Queue(new Places());
        for (const [item, key] of keys.entries()) queue.push(item, key);
        const out: number[] = [];
        while (queue.size > 0) {
          out.push(queue.topKey);
          queue.remove(queue.top);
        }
        expect(out).toEqual([...keys].sort((a, b) => a - b));
      }),
    );
  });

  it('stays right while tens of thousands are used in turn, some out of turn, and then all leave', () => {
    const random = seededRandom(1);
    const queue = new Queue(new Places());
    const keys: number[] = [];
    for (let item = 0; item < 20_000; item++) queue.push(item, (keys[item] = item / 1000));
    let last = -1;
    for (let now = 100; now < 60_100; now++) {
      const { top } = queue;
      if (queue.topKey !== keys[top]) expect(queue.topKey).toBe(keys[top]);
      queue.update(top, (keys[top] = random() < 0.1 ? now * (1 + random()) : now));
      const other = Math.floor(random() * keys.length);
      if (random() < 0.2) queue.update(other, (keys[other] = now));
    }
    while (queue.size > 0) {
      if (!(queue.topKey >= last)) expect(queue.topKey).toBeGreaterThanOrEqual(last);
      last = queue.topKey;
      queue.remove(queue.top);
    }
  });
});

it('IndexedHeap knows the key of each item', () => {
  const heap = new IndexedHeap(new Places());
  for (let item = 0; item < 50; item++) heap.push(item, (item * 37) % 50);
  for (let item = 0; item < 50; item += 3) heap.update(item, -1 - item);
  for (let item = 0; item < 50; item++) expect(heap.keyOf(item)).toBe(item % 3 === 0 ? -1 - item : (item * 37) % 50);
});
