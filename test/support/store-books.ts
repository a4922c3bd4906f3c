import { expect } from 'vitest';
import type { MemoryTarget } from '../../src/store/memory-target.ts';
import type { Lane, RouteBook } from '../../src/store/route-book.ts';
import type { Policy } from '../../src/store/store.ts';
import { type AtStore, TARGET } from './at-store.ts';

const targetOf = ({ store }: AtStore): MemoryTarget | undefined =>
  (store as unknown as { targets: Map<string, MemoryTarget> }).targets.get(TARGET);
const lanesOf = (book: RouteBook): Map<string, Lane> => (book as unknown as { lanes: Map<string, Lane> }).lanes;

/** The store's books against a count from end to end. */
export function checkBooks(at: AtStore): void {
  const target = targetOf(at);
  if (target === undefined) return;
  const { book, health, slots } = target.table;
  const now = at.clock.now();
  for (const [pool, lane] of lanesOf(book)) {
    const own: number[] = [];
    for (let entry = 0; entry < slots.end; entry++) {
      if (slots.exists(entry) && book.ownRoute(entry)?.pool === pool) own.push(entry);
    }
    expect([lane.members, lane.outs]).toEqual([own.length, own.filter((entry) => health.isOut(entry)).length]);
    for (const entry of lane.guests.keys()) expect(book.ownRoute(entry)?.pool).not.toBe(pool);
    const inLine = own.filter((entry) => slots.get(entry) >= 0);
    expect(lane.size).toBe(inLine.length);
    for (const entry of own) {
      const route = book.ownRoute(entry)!;
      const key = book.keyFor(entry, route, now);
      expect(slots.get(entry) >= 0, 'in the line unless only a settle can tell').toBe(key !== Infinity);
    }
    // The first in line is as soon as any: no key is out of date.
    const soonest = Math.min(...own.map((entry) => Math.max(now, book.keyFor(entry, book.ownRoute(entry)!, now))));
    if (lane.size > 0) expect(Math.max(now, lane.topKey)).toBeCloseTo(soonest, 6);
  }
}

/** Of every pool at most the share is out when one more goes out. */
export function checkShare(at: AtStore, policy: Policy, egress: string): void {
  const { table } = targetOf(at)!;
  const now = at.clock.now();
  const routes = [...Array(table.slots.end).keys()].map((entry) => table.book.ownRoute(entry));
  const mine = routes[table.entryFor(egress, 1)];
  if (mine === undefined || mine.closed || mine.expiresAt <= now) return;
  const live = [...routes.keys()].filter((entry) => {
    const route = routes[entry];
    return route !== undefined && route.pool === mine.pool && !route.closed && route.expiresAt > now;
  });
  const guests = [...table.book.lane(mine.pool).guests].filter(([, one]) => !one.closed && one.expiresAt > now);
  const members = live.length + guests.length + (mine.session === undefined ? 0 : 1);
  const outs = [...live, ...guests.map(([entry]) => entry)].filter((entry) => table.health.isOut(entry)).length;
  expect(members).toBeGreaterThan(1);
  expect(outs).toBeLessThanOrEqual(Math.max(1, Math.floor((policy.health?.maxEjectedShare ?? 0) * members + 1e-9)));
}
