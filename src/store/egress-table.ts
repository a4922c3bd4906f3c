import { EgressIndex } from './egress-index.ts';
import { Line } from './line.ts';
import { SlotTable } from './slots.ts';
import type { Demand, EgressSnapshot, Route } from './store.ts';

/** Entries looked at for clean-up at a time: the table is swept as it is used, never in one pause. */
const SWEEP = 2;

export const isLive = (route: Route, now: number): boolean => !route.closed && route.expiresAt > now;

/** A pool's routes as one target sees them: by the time their egress is usable, soonest first, of several usable ones the longest idle. */
class Lane extends Line {
  /** Rank of the last route the pool offered. */
  cursor = 0;
  /** By entry: its routes to egresses that a route of another pool leads to, too. Few, if any: found by looking at them all. */
  readonly guests = new Map<number, Route>();
}

/** The egresses of one target: their slots, the routes that lead to them, and which to use next. */
export class EgressTable {
  readonly slots: SlotTable;
  private readonly index = new EgressIndex();
  /** The live shared route that leads to each entry (of several pools' the first: see Lane.guests), and the entry's key. */
  private readonly routes: (Route | undefined)[] = [];
  private readonly keys: string[] = [];
  private readonly lanes = new Map<string, Lane>();
  private lastPool: string | undefined;
  private lastLane: Lane | undefined;
  private sweepAt = 0;

  constructor(limit: number, windowMs: number) {
    this.slots = new SlotTable(limit, windowMs);
  }

  /** The entry of an egress, made when it is new. */
  entryFor(egress: string, weight: number): number {
    let entry = this.index.find(egress);
    if (entry < 0) {
      entry = this.slots.allocate(weight);
      this.index.add(egress, entry);
      this.routes[entry] = undefined;
    }
    return entry;
  }

  /** The pool's own route to an entry. */
  routeTo(entry: number, pool: string): Route | undefined {
    const route = this.routes[entry];
    return route !== undefined && route.pool === pool ? route : this.lane(pool).guests.get(entry);
  }

  /** Key of an entry that has a route. */
  keyOf(entry: number): string {
    return this.keys[entry];
  }

  /** The entry to use next, a new one when no known route is usable soon enough and the pool offers one; -1 when there is none. */
  soonest(demand: Demand, now: number): number {
    const lane = this.lane(demand.pool);
    for (;;) {
      let entry = this.top(lane, now);
      let key = entry < 0 ? Infinity : lane.topKey;
      if (lane.guests.size > 0) {
        const guest = this.soonestGuest(lane, now);
        const guestKey = guest < 0 ? Infinity : this.keyFor(guest, lane.guests.get(guest)!, now);
        if (guestKey < key) {
          entry = guest;
          key = guestKey;
        }
      }
      if (demand.offer === undefined || key <= now + demand.patienceMs) return entry;
      const route = demand.offer(lane.cursor);
      if (route === undefined) return entry;
      lane.cursor = route.seq;
      this.lead(route, this.entryFor(route.egress, route.weight), route.egress, now);
    }
  }

  /** The route was believed to lead to `from` and leads to `to`, whose key is `egress`. */
  moveRoute(route: Route, from: number, to: number, egress: string, now: number): void {
    if (this.routes[from] === route) this.detach(from);
    else if (this.routeTo(from, route.pool) === route) this.lane(route.pool).guests.delete(from);
    if (this.routes[to] !== route && route.shared && isLive(route, now)) this.lead(route, to, egress, now);
  }

  /** Puts the entry where it belongs in its lane: by the time it becomes usable, or out while only a settle can tell. */
  rekey(entry: number, now: number): void {
    const route = this.routes[entry];
    if (route === undefined) return;
    const lane = this.lane(route.pool);
    const key = this.keyFor(entry, route, now);
    if (this.slots.get(entry) >= 0) {
      if (key === Infinity) lane.remove(entry);
      else lane.update(entry, key);
    } else if (key !== Infinity) lane.push(entry, key);
  }

  rekeyAll(now: number): void {
    for (let entry = 0; entry < this.slots.end; entry++) if (this.slots.exists(entry)) this.rekey(entry, now);
  }

  /** Forgets egresses that no route leads to any more, once nothing of them cools. */
  sweep(now: number): void {
    for (let i = 0; i < SWEEP && this.slots.end > 0; i++) {
      const entry = this.sweepAt;
      this.sweepAt = entry + 1 >= this.slots.end ? 0 : entry + 1;
      if (!this.slots.exists(entry)) continue;
      const route = this.routes[entry];
      if (route !== undefined && isLive(route, now)) continue;
      if (!this.slots.idle(entry, now)) continue;
      this.detach(entry);
      if (this.hosts(entry, now)) continue;
      this.index.remove(entry);
      this.slots.release(entry);
    }
  }

  inspect(now: number): EgressSnapshot[] {
    const { slots } = this;
    const egresses: EgressSnapshot[] = [];
    for (let entry = 0; entry < slots.end; entry++) {
      if (!slots.exists(entry)) continue;
      const usableInMs = Math.max(0, slots.usableAt(entry, now) - now);
      egresses.push({
        egress: this.index.keyOf(entry),
        busy: slots.busy(entry),
        cooling: slots.cooling(entry),
        remaining: usableInMs > 0 ? 0 : slots.free(entry, now),
        usableInMs,
        cooldownMs: Math.max(0, slots.cooldownUntil(entry) - now),
      });
    }
    return egresses;
  }

  /** The lane's first entry whose route still lives. */
  private top(lane: Lane, now: number): number {
    while (lane.size > 0) {
      const entry = lane.top;
      const route = this.routes[entry];
      if (route !== undefined && isLive(route, now)) return entry;
      lane.remove(entry);
      this.routes[entry] = undefined;
    }
    return -1;
  }

  private lane(pool: string): Lane {
    // A target is nearly always served from one pool.
    if (pool === this.lastPool) return this.lastLane!;
    let lane = this.lanes.get(pool);
    if (lane === undefined) {
      lane = new Lane(this.slots);
      this.lanes.set(pool, lane);
    }
    this.lastPool = pool;
    this.lastLane = lane;
    return lane;
  }

  private keyFor(entry: number, route: Route, now: number): number {
    return route.trial && this.slots.busy(entry) > 0 ? Infinity : this.slots.usableAt(entry, now);
  }

  private soonestGuest(lane: Lane, now: number): number {
    let best = -1;
    let bestKey = Infinity;
    for (const [entry, route] of lane.guests) {
      if (!isLive(route, now)) {
        lane.guests.delete(entry);
        continue;
      }
      const key = this.keyFor(entry, route, now);
      if (key < bestKey) {
        best = entry;
        bestKey = key;
      }
    }
    return best;
  }

  /** Whether a live route of some lane leads to an entry that has lost its own; then it becomes that. */
  private hosts(entry: number, now: number): boolean {
    for (const { guests } of this.lanes.values()) {
      const guest = guests.get(entry);
      if (guest === undefined) continue;
      guests.delete(entry);
      if (!isLive(guest, now)) continue;
      this.attach(guest, entry, this.keys[entry], now);
      return true;
    }
    return false;
  }

  /** The route leads to the entry: as its own route, or as a guest beside another pool's. One a pool is enough. */
  private lead(route: Route, entry: number, key: string, now: number): void {
    const known = this.routes[entry];
    if (known === undefined || !isLive(known, now)) this.attach(route, entry, key, now);
    else if (known.pool !== route.pool) {
      const { guests } = this.lane(route.pool);
      const guest = guests.get(entry);
      if (guest === undefined || !isLive(guest, now)) guests.set(entry, route);
    }
  }

  private attach(route: Route, entry: number, key: string, now: number): void {
    this.detach(entry);
    // Whether it has been swept meanwhile must make no difference.
    if (this.slots.idle(entry, now)) this.slots.renew(entry);
    this.lane(route.pool).guests.delete(entry);
    this.routes[entry] = route;
    this.keys[entry] = key;
    this.rekey(entry, now);
  }

  private detach(entry: number): void {
    const route = this.routes[entry];
    if (route === undefined) return;
    if (this.slots.get(entry) >= 0) this.lane(route.pool).remove(entry);
    this.routes[entry] = undefined;
  }
}
