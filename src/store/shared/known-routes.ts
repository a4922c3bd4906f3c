import type { Demand, Route } from '../store.ts';
import type { Link } from './link.ts';
import type { StepGrant } from './steps.ts';

const FIRST_LOOK = 256;

/** What a target was told of a route: the key of its pool, and where it leads. What the route itself says may be news from another target. */
interface Told {
  readonly pool: string;
  readonly egresses: Set<string>;
}

/** The routes that this process and others have told each other of, by the names they go by there. */
export class KnownRoutes {
  /** By pool, then by id: two look-ups cost less than a name made of both, for every permit. */
  private readonly routes = new Map<string, Map<string, Route>>();
  private size = 0;
  /** The targets that each may be in use at. */
  private readonly told = new WeakMap<Route, Map<Link, Told>>();
  private lookAt = FIRST_LOOK;

  /** The key that the demand's pool is shared by. */
  poolKey({ ways, pool }: Demand): string {
    return ways?.key ?? pool;
  }

  /** At that target the route leads to `egress`. */
  add(link: Link, pool: string, route: Route, egress: string): void {
    let ids = this.routes.get(pool);
    if (ids === undefined) this.routes.set(pool, (ids = new Map()));
    if (!ids.has(route.id)) this.size++;
    ids.set(route.id, route);
    this.place(link, pool, route).egresses.add(egress);
  }

  /** And no more to `before`. */
  moved(link: Link, route: Route, before: string): void {
    this.told.get(route)?.get(link)?.egresses.delete(before);
  }

  /** The route of a permit, as one of this process's own; undefined when it has no use for it. */
  of(link: Link, demand: Demand, grant: StepGrant, now: number): Route | undefined {
    if (demand.pin !== undefined) return demand.pin;
    const [, egress, , id, session, endsInMs, trial] = grant;
    const pool = this.poolKey(demand);
    const known = this.routes.get(pool)?.get(id);
    if (known !== undefined && !known.closed && known.expiresAt > now) {
      if (known.trial && !trial) demand.ways?.named(known, egress);
      this.place(link, pool, known).egresses.add(egress);
      return known;
    }
    const adopted = demand.ways?.adopt(id, session ?? undefined, egress, endsInMs ?? Infinity);
    if (adopted !== undefined) this.add(link, pool, adopted, egress);
    if (this.size >= this.lookAt) this.forgetEnded(now);
    return adopted;
  }

  /** The route is not used any more. Returns where it may be in use elsewhere. */
  retire(route: Route): Iterable<[Link, Told]> {
    const told = this.told.get(route);
    if (told === undefined) return [];
    this.told.delete(route);
    for (const { pool } of told.values()) {
      if (this.routes.get(pool)?.get(route.id) === route) this.forget(pool, route.id);
    }
    return told;
  }

  private place(link: Link, pool: string, route: Route): Told {
    let places = this.told.get(route);
    if (places === undefined) this.told.set(route, (places = new Map()));
    let told = places.get(link);
    if (told === undefined) places.set(link, (told = { pool, egresses: new Set() }));
    return told;
  }

  /** Looks again when there are twice as many as live: never all the time. */
  private forgetEnded(now: number): void {
    for (const [pool, ids] of this.routes) {
      for (const [id, route] of ids) if (route.closed || route.expiresAt <= now) this.forget(pool, id);
    }
    this.lookAt = Math.max(FIRST_LOOK, 2 * this.size);
  }

  private forget(pool: string, id: string): void {
    const ids = this.routes.get(pool);
    if (!ids?.delete(id)) return;
    this.size--;
    if (ids.size === 0) this.routes.delete(pool);
  }
}
