import type { Carrier } from './agents.ts';
import type { PoolRoute } from './route.ts';

interface Held {
  readonly carrier: Carrier;
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
  private readonly leaving = new Set<Held>();

  constructor(open: (route: PoolRoute) => Carrier, most: number) {
    this.open = open;
    this.most = most;
  }

  get size(): number {
    return this.held.size + this.leaving.size;
  }

  /** The route's carrier, held until the returned function is called. */
  use(route: PoolRoute): { carrier: Carrier; done: () => void } {
    let held = this.held.get(route);
    if (held === undefined) {
      held = { carrier: this.open(route), users: 0, leaving: false };
      if (this.held.size >= this.most) this.retire(this.held.keys().next().value as PoolRoute);
    } else this.held.delete(route);
    this.held.set(route, held);
    held.users++;
    const one = held;
    let over = false;
    return {
      carrier: held.carrier,
      done: () => {
        if (over) return;
        over = true;
        one.users--;
        if (one.users > 0) return;
        // Of a session that was given up before its last requests had their turn.
        if (route.closed && this.held.get(route) === one) {
          this.held.delete(route);
          one.leaving = true;
        }
        if (one.leaving) this.end(one);
      },
    };
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
