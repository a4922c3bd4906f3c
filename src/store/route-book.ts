import { type EjectionPolicy, mayEject } from '../health/ejection.ts';
import type { EgressHealth, EjectionRoom } from './egress-health.ts';
import { Line } from './line.ts';
import type { SlotTable } from './slots.ts';
import type { Route } from './store.ts';

export const isLive = (route: Route, now: number): boolean => !route.closed && route.expiresAt > now;

/** A pool's routes as one target sees them: by the time their egress is usable, soonest first, of several usable ones the longest idle. */
export class Lane extends Line {
  /** Rank of the last route the pool offered. */
  cursor = 0;
  /** Entries whose own route is of this pool; some of those routes may have ended unnoticed. */
  members = 0;
  /** Those of them that are out for bad health. */
  outs = 0;
  /** By entry: its routes to egresses that a route of another pool leads to, too. Few, if any: found by looking at them all. */
  readonly guests: Map<number, Route> = new Map();
}

/** Which routes lead to the egresses of one target, pool by pool, in the order of their use. */
export class RouteBook implements EjectionRoom {
  private readonly slots: SlotTable;
  private readonly health: EgressHealth;
  /** How ill an egress has to be to be left out; undefined: never. */
  healthPolicy: EjectionPolicy | undefined;
  /** The live shared route that leads to each entry (of several pools' the first: see Lane.guests), and the entry's key. */
  private readonly routes: (Route | undefined)[] = [];
  private readonly keys: string[] = [];
  private readonly lanes = new Map<string, Lane>();
  private lastPool: string | undefined;
  private lastLane: Lane | undefined;

  constructor(slots: SlotTable, health: EgressHealth) {
    this.slots = slots;
    this.health = health;
  }

  lane(pool: string): Lane {
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

  /** An entry that is used for the first time, or again. */
  begin(entry: number): void {
    this.routes[entry] = undefined;
  }

  /** The entry's own route, of whatever pool; it may have ended. */
  ownRoute(entry: number): Route | undefined {
    return this.routes[entry];
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

  /** When the entry may be used for a request of this cost: slots, spacing, cooldown and health. */
  usableAt(entry: number, now: number, cost = 1): number {
    const at = this.slots.usableAt(entry, now, cost);
    if (this.health.outs === 0) return at;
    const well = this.health.usableFrom(entry, this.healthPolicy, now);
    return well > at ? well : at;
  }

  /** The same over that route: one on trial is used by one at a time. */
  keyFor(entry: number, route: Route, now: number, cost = 1): number {
    return route.trial && this.slots.busy(entry) > 0 ? Infinity : this.usableAt(entry, now, cost);
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

  /** The lane's first entry whose route still lives, or -1. */
  top(lane: Lane, now: number): number {
    while (lane.size > 0) {
      const entry = lane.top;
      const route = this.routes[entry];
      if (route !== undefined && isLive(route, now)) return entry;
      this.detach(entry);
    }
    return -1;
  }

  /** The route was believed to lead to `from` and leads to `to`, whose key is `egress`. */
  moveRoute(route: Route, from: number, to: number, egress: string, now: number): void {
    if (this.routes[from] === route) this.detach(from);
    else if (this.routeTo(from, route.pool) === route) this.lane(route.pool).guests.delete(from);
    if (this.routes[to] !== route && route.shared && isLive(route, now)) this.lead(route, to, egress, now);
  }

  /** The route leads to the entry: as its own route, or as a guest beside another pool's. One a pool is enough. */
  lead(route: Route, entry: number, key: string, now: number): void {
    const known = this.routes[entry];
    const guest = this.lane(route.pool).guests.get(entry);
    const first = guest !== undefined && isLive(guest, now) ? guest : route;
    if (known === undefined || !isLive(known, now)) this.attach(first, entry, key, now);
    else if (known.pool !== route.pool) this.lane(route.pool).guests.set(entry, first);
  }

  /** Whether a live route leads to the entry, be it one that was a guest so far. One that has ended counts as a member no more. */
  isLed(entry: number, now: number): boolean {
    const route = this.routes[entry];
    if (route !== undefined && isLive(route, now)) return true;
    this.detach(entry);
    if (this.lanes.size < 2) return false;
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

  /** Whether no other egress can stand in for this one in the route's pool: what it is refused, the pool is. */
  isOnly(entry: number, route: Route, now: number): boolean {
    // Sessions can be opened, an exit that rotates is another one each time, and one that has ended is no way out any more.
    if (route.session !== undefined || route.weight !== 1 || !isLive(route, now)) return false;
    const { members, guests } = this.lane(route.pool);
    return members + guests.size === 1 && this.routeTo(entry, route.pool) === route;
  }

  /** Whether every pool that uses the entry can do without it: none without its last egress, nor without more than a share. */
  mayLose(entry: number, policy: EjectionPolicy, now: number): boolean {
    const own = this.routes[entry];
    for (const [pool, lane] of this.lanes) {
      const route = own?.pool === pool ? own : lane.guests.get(entry);
      if (route === undefined || !isLive(route, now)) continue;
      const more = route.session === undefined ? 0 : 1; // a pool of sessions can open another
      // Without counting first: while a target refuses everybody, this is asked after every answer.
      if (!mayEject(lane.outs, lane.members + lane.guests.size + more, policy)) return false;
      const { members, outs } = this.count(pool, lane, now);
      if (!mayEject(outs, members + more, policy)) return false;
    }
    return true;
  }

  /** The entry is out for bad health from now on, or back. */
  turned(entry: number, out: boolean): void {
    const route = this.routes[entry];
    if (route !== undefined) this.lane(route.pool).outs += out ? 1 : -1;
  }

  private count(pool: string, lane: Lane, now: number): { members: number; outs: number } {
    let members = 0;
    let outs = 0;
    for (let entry = 0; entry < this.slots.end; entry++) {
      const own = this.routes[entry];
      let route: Route | undefined;
      if (own !== undefined && own.pool === pool) route = own;
      else if (lane.guests.size > 0) route = lane.guests.get(entry);
      // One on trial may turn out to be an egress in use already.
      if (route === undefined || route.trial || !isLive(route, now)) continue;
      members++;
      if (this.health.isOut(entry)) outs++;
    }
    return { members, outs };
  }

  private attach(route: Route, entry: number, key: string, now: number): void {
    this.detach(entry);
    // Whether it has been swept meanwhile must make no difference.
    if (this.slots.idle(entry, now)) this.slots.renew(entry);
    const lane = this.lane(route.pool);
    lane.guests.delete(entry);
    lane.members++;
    if (this.health.isOut(entry)) lane.outs++;
    this.routes[entry] = route;
    this.keys[entry] = key;
    this.rekey(entry, now);
  }

  private detach(entry: number): void {
    const route = this.routes[entry];
    if (route === undefined) return;
    const lane = this.lane(route.pool);
    if (this.slots.get(entry) >= 0) lane.remove(entry);
    lane.members--;
    if (this.health.isOut(entry)) lane.outs--;
    this.routes[entry] = undefined;
  }
}
