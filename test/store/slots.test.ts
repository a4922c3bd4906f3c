import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SlotTable } from '../../src/store/slots.ts';
import { SlotModel, type SlotRule } from '../support/slot-model.ts';

/** The next number below. */
function justBelow(n: number): number {
  const floats = new Float64Array([n]);
  const bits = new BigInt64Array(floats.buffer);
  bits[0] += n > 0 ? -1n : 1n;
  return floats[0];
}

type Step =
  | { readonly do: 'take'; entry: number; spacingMs: number }
  | { readonly do: 'cool'; entry: number; graceMs: number }
  | { readonly do: 'giveBack' | 'release'; entry: number }
  | { readonly do: 'cooldown'; entry: number; ms: number }
  | { readonly do: 'wait'; ms: number }
  | { readonly do: 'limit'; limit: number }
  | { readonly do: 'window'; windowMs: number }
  | { readonly do: 'allocate'; weight: number };

const entry = fc.nat();
const ms = fc.oneof(fc.integer({ min: 0, max: 100 }), fc.double({ min: 0, max: 100, noNaN: true }));
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant('take' as const), entry, spacingMs: fc.constantFrom(0, 0, 7) }) },
  {
    weight: 8,
    arbitrary: fc.record({ do: fc.constant('cool' as const), entry, graceMs: fc.oneof(fc.constant(0), ms) }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('giveBack' as const, 'release' as const), entry }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('cooldown' as const), entry, ms }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('wait' as const), ms }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('limit' as const), limit: fc.constantFrom(1, 2, 5, 12, 40, Infinity) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('window' as const), windowMs: fc.constantFrom(10, 100, 1000) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('allocate' as const), weight: fc.constantFrom(1, 1, 3, Infinity) }),
  },
);

interface Record {
  readonly at: number;
  readonly model: SlotModel;
  /** What each busy slot was taken with. */
  readonly taken: { spacedUntil: number; spacedBefore: number }[];
}

describe('SlotTable', () => {
  it('agrees with a list of releases: take, cool (also late), give back, cooldown, other limits and windows, reuse', () => {
    const limits = fc.constantFrom(1, 2, 3, 8, 9, 20, Infinity);
    fc.assert(
      fc.property(limits, fc.array(step, { maxLength: 200, size: 'max' }), (limit, steps) => {
        const table = new SlotTable(limit, 100);
        const rule: { -readonly [K in keyof SlotRule]: SlotRule[K] } = { limit, windowMs: 100 };
        let records: Record[] = [];
        let now = 0;
        const allocate = (weight: number): void => {
          records.push({ at: table.allocate(weight), model: new SlotModel('', weight), taken: [] });
        };
        allocate(1);
        for (const one of steps) {
          const record = 'entry' in one ? records[one.entry % records.length] : records[0];
          const { at, model, taken } = record;
          switch (one.do) {
            case 'take': {
              if (model.usableAt(rule, now) > now) break;
              const spacedUntil = now + one.spacingMs;
              taken.push({ spacedUntil, spacedBefore: table.spacedUntil(at) });
              table.take(at, spacedUntil);
              model.take(spacedUntil);
              break;
            }
            case 'cool':
              if (taken.pop() === undefined) break;
              table.cool(at, now + one.graceMs);
              model.cool(rule, now + one.graceMs);
              break;
            case 'giveBack': {
              const last = taken.pop();
              if (last === undefined) break;
              table.giveBack(at, last.spacedUntil, last.spacedBefore);
              model.giveBack(last.spacedUntil, last.spacedBefore);
              break;
            }
            case 'cooldown':
              table.cooldown(at, now + one.ms);
              model.cooldown(now + one.ms);
              break;
            case 'wait':
              now += one.ms;
              break;
            case 'limit':
              rule.limit = table.limit = one.limit;
              break;
            case 'window':
              // What has cooled stays free; what still cools does so by the new window.
              for (const { model: each } of records) each.releases = each.cooling(rule, now);
              for (const { at: each } of records) table.idle(each, now);
              rule.windowMs = table.windowMs = one.windowMs;
              break;
            case 'allocate':
              if (records.length < 12) allocate(one.weight);
              break;
            case 'release':
              if (records.length === 1 || !model.idle(rule, now)) break;
              expect(table.idle(at, now)).toBe(true);
              table.release(at);
              expect(table.exists(at)).toBe(false);
              records = records.filter((other) => other !== record);
          }
          for (const { at: each, model: its } of records) {
            expect(table.exists(each)).toBe(true);
            expect(table.usableAt(each, now)).toBe(its.usableAt(rule, now));
            expect(table.free(each, now)).toBe(its.free(rule, now));
            expect(table.idle(each, now)).toBe(its.idle(rule, now));
            expect(table.busy(each)).toBe(its.busy);
            expect(table.cooldownUntil(each)).toBe(its.cooldownUntil);
          }
        }
      }),
    );
  });

  it('frees a slot exactly one window after its release, and not one ulp before', () => {
    const times = fc.double({ min: 0, max: 1e9, noNaN: true });
    fc.assert(
      fc.property(
        times,
        fc.double({ min: 0.001, max: 1e7, noNaN: true }),
        fc.integer({ min: 1, max: 20 }),
        (at, windowMs, limit) => {
          const table = new SlotTable(limit, windowMs);
          const egress = table.allocate(1);
          for (let i = 0; i < limit; i++) table.take(egress, at);
          for (let i = 0; i < limit; i++) table.cool(egress, at);
          const freed = at + windowMs;
          expect(table.usableAt(egress, justBelow(freed))).toBe(freed);
          expect(table.free(egress, justBelow(freed))).toBe(0);
          expect(table.usableAt(egress, freed)).toBeLessThanOrEqual(freed);
          expect(table.free(egress, freed)).toBe(limit);
        },
      ),
    );
  });

  it('keeps releases in order when an aborted request cools later than one sent after it', () => {
    const table = new SlotTable(2, 100);
    const egress = table.allocate(1);
    table.take(egress, 0);
    table.take(egress, 0);
    table.cool(egress, 50); // aborted at 0, may still arrive until 50
    table.cool(egress, 10);
    expect(table.usableAt(egress, 20)).toBe(110);
    table.take(egress, 110);
    expect(table.usableAt(egress, 110)).toBe(150);
  });

  it('starts to count when a limit comes where there was none', () => {
    const table = new SlotTable(Infinity, 100);
    const egresses = [table.allocate(1), table.allocate(1), table.allocate(1)];
    table.limit = 2;
    for (const at of [10, 20]) {
      for (const egress of egresses) {
        table.take(egress, 0);
        table.cool(egress, at);
      }
    }
    for (const egress of egresses) {
      expect(table.usableAt(egress, 20)).toBe(110);
      expect(table.spacedUntil(egress)).toBe(0);
      expect([table.free(egress, 110), table.free(egress, 120)]).toEqual([1, 2]);
    }
  });

  it('keeps the order of releases when it makes room for more of them', () => {
    for (const limit of [9, 20, 100]) {
      const table = new SlotTable(limit, 100);
      const egresses = [table.allocate(1), table.allocate(1)];
      const cool = (at: number): void => {
        for (const egress of egresses) {
          table.take(egress, 0);
          table.cool(egress, at);
        }
      };
      for (let at = 0; at < 8; at++) cool(at);
      // Five of the first eight are free again; then all the slots are used.
      for (const egress of egresses) expect(table.free(egress, 104)).toBe(limit - 3);
      for (let i = 0; i < limit - 3; i++) cool(105 + i / 1000);
      for (const egress of egresses) {
        const free = [104.9, 105, 106, 107, 204.9, 300].map((now) => table.free(egress, now));
        expect(free).toEqual([0, 1, 2, 3, 3, limit]);
      }
    }
  });

  it('an egress without a budget of its own remembers no releases, however many', () => {
    const table = new SlotTable(2, 1e9);
    const blind = table.allocate(Infinity);
    const other = table.allocate(1);
    for (let i = 0; i < 100_000; i++) {
      table.take(blind, i);
      table.cool(blind, i);
    }
    expect(table.cooling(blind)).toBe(0);
    expect(table.idle(blind, 100_000)).toBe(true);
    expect(table.free(other, 0)).toBe(2);
  });
});
