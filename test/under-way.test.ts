import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Placed, UnderWay } from '../src/under-way.ts';

it('has what was added and not deleted, whatever the order, and tells strangers and the deleted apart', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), fc.nat(7)), { maxLength: 60 }), (steps) => {
      const ones: Placed[] = Array.from({ length: 8 }, () => ({ place: -1 }));
      const underWay = new UnderWay<Placed>();
      const model = new Set<Placed>();
      for (const [adds, i] of steps) {
        const one = ones[i];
        if (adds && !model.has(one)) {
          underWay.add(one);
          model.add(one);
        } else if (!adds) {
          underWay.delete(one);
          model.delete(one);
        }
        expect(underWay.size).toBe(model.size);
        expect(new Set(underWay)).toEqual(model);
        expect([...underWay].every(({ place }, at) => place === at)).toBe(true);
      }
    }),
  );
});
