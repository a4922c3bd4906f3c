import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IndexedHeap } from '../../src/store/heap.ts';

class Places extends Map<number, number> {
  override get(item: number): number {
    return super.get(item) ?? -1;
  }
}

const ITEMS = 100;

type Step = { readonly do: 'push' | 'update' | 'remove' | 'pop'; readonly item: number; readonly key: number };

const steps = fc.array(
  fc.record<Step>({
    do: fc.constantFrom('push', 'push', 'push', 'update', 'update', 'remove', 'pop'),
    item: fc.integer({ min: 0, max: ITEMS - 1 }),
    // Few keys, so that equal ones are common.
    key: fc.oneof(fc.integer({ min: -5, max: 5 }), fc.integer(), fc.constantFrom(-Infinity, 1e15, 0.5)),
  }),
  { maxLength: 400, size: 'max' },
);

describe('IndexedHeap', () => {
  it('always has the smallest key on top, whatever is pushed, updated, removed and popped', () => {
    fc.assert(
      fc.property(steps, (work) => {
        const places = new Places();
        const heap = new IndexedHeap(places);
        const model = new Map<number, number>();
        for (const { do: what, item, key } of work) {
          if (what === 'push' && !model.has(item)) {
            heap.push(item, key);
            model.set(item, key);
          } else if (what === 'update' && model.has(item)) {
            heap.update(item, key);
            model.set(item, key);
          } else if (what === 'remove' && model.has(item)) {
            heap.remove(item);
            model.delete(item);
          } else if (what === 'pop' && model.size > 0) {
            const { top } = heap;
            heap.remove(top);
            model.delete(top);
          }
          expect(heap.size).toBe(model.size);
          expect(heap.keyOf(item)).toBe(model.get(item));
          if (model.size === 0) continue;
          const sorted = [...model.values()].sort((a, b) => a - b);
          expect(heap.topKey).toBe(sorted[0]);
          expect(model.get(heap.top)).toBe(sorted[0]);
        }
        for (let i = 0; i < ITEMS; i++) expect(places.get(i) >= 0).toBe(model.has(i));
        for (const [known, its] of model) expect(heap.keyOf(known)).toBe(its);
      }),
    );
  });

  it('gives all items out in the order of their keys', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.double({ noNaN: true }).map((key) => key + 0),
          { maxLength: 500 },
        ),
        (keys) => {
          const heap = new IndexedHeap(new Places());
          for (const [item, key] of keys.entries()) heap.push(item, key);
          const out: number[] = [];
          while (heap.size > 0) {
            out.push(heap.topKey);
            heap.remove(heap.top);
          }
          expect(out).toEqual([...keys].sort((a, b) => a - b));
        },
      ),
    );
  });
});
