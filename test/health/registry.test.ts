import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { healthRegistry } from '../../src/health/registry.ts';
import { manualClock } from '../support/manual-clock.ts';

describe('healthRegistry', () => {
  test('retires under 40 % of the last 20 with at least 10, and takes back', () => {
    const health = healthRegistry();
    for (let i = 0; i < 9; i++) health.record('a', false);
    expect(health.isRetired('a')).toBe(false);
    health.record('a', false);
    expect(health.isRetired('a')).toBe(true);
    expect(health.score('a')).toBe(0);
    expect(health.stats()).toEqual({ total: 1, blocked: 1, active: 0 });
    for (let i = 0; i < 7; i++) health.record('a', true); // 7 of 17
    expect(health.score('a')).toBeCloseTo(7 / 17);
    expect(health.isRetired('a')).toBe(false);
    expect(health.stats()).toEqual({ total: 1, blocked: 0, active: 1 });
  });

  test('a key that is not known', () => {
    const health = healthRegistry();
    expect(health.score('constructor')).toBeUndefined();
    expect(health.isRetired('constructor')).toBe(false);
    expect(health.delete('constructor')).toBe(false);
    expect(health.stats()).toEqual({ total: 0, blocked: 0, active: 0 });
  });

  test('delete starts afresh', () => {
    const health = healthRegistry({ minSamples: 1 });
    health.record('a', false);
    expect(health.delete('a')).toBe(true);
    expect(health.stats()).toEqual({ total: 0, blocked: 0, active: 0 });
    expect(health.score('a')).toBeUndefined();
  });

  test('forget drops the idle ones', () => {
    const clock = manualClock();
    const health = healthRegistry({ minSamples: 1, clock });
    health.record('a', false);
    clock.advance(100);
    health.record('b', true);
    expect(health.forget(101)).toBe(0);
    expect(health.forget(100)).toBe(1);
    expect(health.stats()).toEqual({ total: 1, blocked: 0, active: 1 });
    expect(health.forget(0)).toBe(1);
    expect(() => health.forget(-1)).toThrow(expect.objectContaining({ option: 'idleMs' }));
  });

  test('stats are what a count of the keys would be', () => {
    const action = fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.constantFrom('ok', 'ok', 'bad', 'bad', 'bad', 'delete'));
    fc.assert(
      fc.property(fc.array(action, { maxLength: 200 }), (actions) => {
        const health = healthRegistry({ window: 5, minSamples: 3, threshold: 0.5 });
        const known = new Set<string>();
        for (const [key, what] of actions) {
          if (what === 'delete') {
            expect(health.delete(key)).toBe(known.delete(key));
          } else {
            health.record(key, what === 'ok');
            known.add(key);
          }
          const blocked = [...known].filter((k) => health.isRetired(k)).length;
          expect(health.stats()).toEqual({ total: known.size, blocked, active: known.size - blocked });
        }
      }),
    );
  });

  test('a small window brings the samples down with it', () => {
    const health = healthRegistry({ window: 3 });
    for (let i = 0; i < 3; i++) health.record('a', false);
    expect(health.isRetired('a')).toBe(true);
  });

  test.each([
    ['window', { window: 0 }],
    ['window', { window: 27 }],
    ['window', { window: 2.5 }],
    ['minSamples', { minSamples: 0 }],
    ['minSamples', { minSamples: 21 }],
    ['threshold', { threshold: 1.1 }],
    ['threshold', { threshold: Number.NaN }],
  ])('a bad %s is named: %o', (option, options) => {
    expect(() => healthRegistry(options)).toThrow(expect.objectContaining({ code: 'PACELINE_CONFIG', option }));
  });
});
