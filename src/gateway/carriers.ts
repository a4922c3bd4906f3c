import type { Carrier } from './agents.ts';
import type { PoolRoute } from './route.ts';

/** A carrier in use; to be handed back once. */
export interface Held {
  readonly carrier: Carrier;
  readonly route: PoolRoute;
  /** Requests on it, and whether it is to end with the last of them. */
  users: number;
  leaving: boolean;
}

/**
 * The carriers of the routes in use, the least recently used given up first. One with requests on it is never cut:
 * it leaves the cache at once and ends with its last request.
 */
export class Carriers {
  private readonly open: (route: PoolRoute) => Carrier;
  private readonly most: number;
  private readonly held = new Map<PoolRoute, Held>();
  /** The one used last: it need not be made young again. */
  private last: Held | undefined;
  private readonly leaving = new Set<Held>();

  constructor(open: (route: PoolRoute) => Carrier, most: number) {
    this.open = open;
    this.most = most;
  }

  get size(): number {
    return this.held.size + this.leaving.size;
  }

  /** The route's carrier, held until it is handed back: once for every use. */
  use(route: PoolRoute): Held {
    let held = this.held.get(route);
    if (held === undefined) {
      held = { carrier: this.open(route), route, users: 0, leaving: false };
      if (this.held.size >= this.most) this.retire(this.held.keys().next().value as PoolRoute);
      this.held.set(route, held);
    } else if (held !== this.last) {
      this.held.delete(route);
      this.held.set(route, held);
    }
    this.last = held;
    held.users++;
    return held;
  }

  /** A use is over. */
  handBack(held: Held): void {
    held.users--;
    if (held.users > 0) return;
    const { route } = held;
    // Of a session that was given up before its last requests had their turn.
    if (route.closed && this.held.get(route) === held) {
      this.held.delete(route);
      held.leaving = true;
    }
    if (held.leaving) this.end(held);
  }

  /** Gives a route's carrier up: now when it is idle, else with its last request. */
  retire(route: PoolRoute): void {
    const held = this.held.get(route);
    if (held === undefined) return;
    this.held.delete(route);
    held.leaving = true;
    this.leaving.add(held);
    if (held.users === 0) this.end(held);
  }

  /** Gives up those whose route has ended. */
  sweep(ended: (route: PoolRoute) => boolean): void {
    for (const route of [...this.held.keys()]) if (ended(route)) this.retire(route);
  }

  async destroy(): Promise<void> {
    const all = [...this.held.values(), ...this.leaving];
    this.held.clear();
    this.leaving.clear();
    await Promise.all(all.map(({ carrier }) => carrier.destroy()));
  }

  private end(held: Held): void {
    this.leaving.delete(held);
    held.carrier.destroy().catch(() => {});
  }
}
