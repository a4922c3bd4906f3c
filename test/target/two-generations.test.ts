import fc from 'fast-check';
import { expect, test } from 'vitest';
import { twoGenerations } from '../../src/target/two-generations.ts';

test('never answers wrongly, never holds more than its capacity', () => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 9 }), fc.array(fc.nat(12), { maxLength: 200 }), (capacity, keys) => {
      const cache = twoGenerations<string>(capacity);
      for (const key of keys) {
        const value = cache.get(`${key}`);
        if (value === undefined) expect(cache.set(`${key}`, `v${key}`)).toBe(`v${key}`);
        else expect(value).toBe(`v${key}`);
        expect(cache.get(`${key}`)).toBe(`v${key}`);
        expect(cache.size).toBeLessThanOrEqual(capacity);
      }
    }),
  );
});

test('what is used stays, what is not goes', () => {
  const cache = twoGenerations<number>(10);
  cache.set('used', 1);
  cache.set('unused', 2);
  for (let i = 0; i < 100; i++) {
    cache.set(`k${i}`, i);
    expect(cache.get('used')).toBe(1);
  }
  expect(cache.get('unused')).toBeUndefined();
});
