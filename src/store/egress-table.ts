import { EgressHealth } from './egress-health.ts';
import { EgressIndex } from './egress-index.ts';
import type { MemoryGrant } from './permits.ts';
import { EgressQuotas } from './quotas.ts';
import { isLive, type Lane, RouteBook } from './route-book.ts';
import { SlotTable } from './slots.ts';
import type { Demand, EgressSnapshot } from './store.ts';

/** Entries looked at for clean-up at a time: the table is swept as it is used, never in one pause. */
const SWEEP = 2;

/** The egresses of one target: their slots, health and quotas, the routes that lead to them, and which to use next. */
export class EgressTable {
  readonly slots: SlotTable;
  readonly health: EgressHealth = new EgressHealth();
  readonly quotas: EgressQuotas = new EgressQuotas();
  readonly book: RouteBook;
  /** When the entry that a search has found so far is usable. */
  private soonestAt = Infinity;
  private readonly index = new EgressIndex();
  private sweepAt = 0;

  constructor(limit: number, windowMs: number) {
    this.slots = new SlotTable(limit, windowMs);
    this.book = new RouteBook(this.slots, this.health);
  }

  /** The entry of an egress, made when it is new. */
  entryFor(egress: string, weight: number): number {
    let entry = this.index.find(egress);
    if (entry < 0) {
      entry = this.slots.allocate(weight);
      this.index.add(egress, entry);
      this.book.begin(entry);
    }
    return entry;
  }

  /** A request over the entry ended well or badly. Returns 1 when the egress is out by it, -1 when it is back, else 0. */
  recordHealth(entry: number, ok: boolean, permit: MemoryGrant, now: number): -1 | 0 | 1 {
    const { health, book } = this;
    const policy = book.healthPolicy;
    if (policy === undefined) return 0;
    const before = health.isOut(entry);
    const change = health.record(entry, ok, permit, policy, book, now);
    if (change !== 0 && before !== change > 0) book.turned(entry, change > 0);
    return change;
  }

  /** The entry to use next, a new one when no known route is usable soon enough and the pool offers one; -1 when there is none. */
  soonest(demand: Demand, cost: number, now: number): number {
    const { book } = this;
    const lane = book.lane(demand.pool);
    for (;;) {
      let entry: number;
      if (cost > 1) entry = this.soonestFor(cost, lane, demand.pool, now);
      else {
        entry = book.top(lane, now);
        this.soonestAt = entry < 0 ? Infinity : lane.topKey;
      }
      if (lane.guests.size > 0) {
        const guest = this.soonestGuest(lane, now, cost);
        if (guest >= 0) entry = guest;
      }
      if (demand.offer === undefined || this.soonestAt <= now + demand.patienceMs) return entry;
      const route = demand.offer(lane.cursor);
      if (route === undefined) return entry;
      lane.cursor = route.seq;
      book.lead(route, this.entryFor(route.egress, route.weight), route.egress, now);
    }
  }

  /** Forgets egresses that no route leads to any more, once nothing of them matters. */
  sweep(now: number): void {
    const { slots, health, book } = this;
    for (let i = 0; i < SWEEP && slots.end > 0; i++) {
      const entry = this.sweepAt;
      this.sweepAt = entry + 1 >= slots.end ? 0 : entry + 1;
      if (!slots.exists(entry) || book.isLed(entry, now)) continue;
      if (!slots.idle(entry, now) || !health.idle(entry, book.healthPolicy, now)) continue;
      if (!this.quotas.idle(entry, now)) continue;
      this.index.remove(entry);
      slots.release(entry);
      health.forget(entry);
    }
  }

  inspect(now: number): EgressSnapshot[] {
    const { slots, health, book } = this;
    const egresses: EgressSnapshot[] = [];
    for (let entry = 0; entry < slots.end; entry++) {
      if (!slots.exists(entry)) continue;
      const usableInMs = Math.max(0, book.usableAt(entry, now) - now);
      egresses.push({
        egress: this.index.keyOf(entry),
        busy: slots.busy(entry),
        cooling: slots.cooling(entry),
        remaining: usableInMs > 0 ? 0 : slots.free(entry, now),
        usableInMs,
        cooldownMs: Math.max(0, slots.cooldownUntil(entry) - now),
        ejectedMs: Math.max(0, health.usableFrom(entry, book.healthPolicy, now) - now),
      });
    }
    return egresses;
  }

  /** For more slots than one the lane's order says little: all of its entries are looked at. */
  private soonestFor(cost: number, lane: Lane, pool: string, now: number): number {
    const { book } = this;
    let best = -1;
    this.soonestAt = Infinity;
    for (let entry = 0; lane.members > 0 && entry < this.slots.end; entry++) {
      const route = book.ownRoute(entry);
      if (route === undefined || route.pool !== pool || !isLive(route, now)) continue;
      const key = book.keyFor(entry, route, now, cost);
      if (key >= this.soonestAt) continue;
      best = entry;
      this.soonestAt = key;
    }
    return best;
  }

  /** A guest that is usable sooner than what was found so far; -1 when there is none. */
  private soonestGuest(lane: Lane, now: number, cost: number): number {
    let best = -1;
    for (const [entry, route] of lane.guests) {
      if (!isLive(route, now)) {
        lane.guests.delete(entry);
        continue;
      }
      const key = this.book.keyFor(entry, route, now, cost);
      if (key >= this.soonestAt) continue;
      best = entry;
      this.soonestAt = key;
    }
    return best;
  }
}
