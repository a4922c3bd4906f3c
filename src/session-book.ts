import type { Engine } from './engine.ts';
import { ClosedError, ConfigError } from './errors.ts';
import type { Pool, PoolRoute } from './gateway/pool.ts';

/** The sticky sessions: those a caller holds, and those that requests name. */
export class SessionBook {
  private readonly engine: Engine;
  /** Those that requests name, the least recently used first. */
  private readonly named = new Map<string, PoolRoute>();
  /** When the next one of them may have ended. */
  private endsAt = Infinity;

  constructor(engine: Engine) {
    this.engine = engine;
  }

  /**
   * The route of a session that requests name themselves; the same one until it expires. A pool holds `maxSessions` of them: the one not
   * used for longest is given up, and is no worse for it, since the gateway knows it by its name.
   */
  byName(url: string, id: string, tier: string | undefined, asked: string | undefined): PoolRoute {
    const { engine, named } = this;
    const pool =
      asked === undefined ? engine.targets.firstPool(engine.targets.classify(url, tier)) : engine.targets.pool(asked);
    const key = `${pool.name}/${id}`;
    const now = engine.clock.now();
    let route = named.get(key);
    named.delete(key);
    if (route === undefined || route.closed || route.expiresAt <= now) {
      if (route !== undefined) this.end(route, 'expire');
      this.sweep();
      let room = pool.options.maxSessions - 1;
      for (const { pool: its } of named.values()) if (its === pool.name) room--;
      for (const [other, old] of named) {
        if (room >= 0) break;
        if (old.pool !== pool.name) continue;
        room++;
        this.end(old);
        named.delete(other);
      }
      route = this.open(pool, id);
      this.endsAt = Math.min(this.endsAt, route.expiresAt);
    }
    named.set(key, route);
    return route;
  }

  /** Gives up named sessions whose time is over; costs a comparison while there is none. */
  sweep(): void {
    if (this.endsAt === Infinity) return;
    const now = this.engine.clock.now();
    if (now < this.endsAt) return;
    this.endsAt = Infinity;
    for (const [key, route] of this.named) {
      if (route.expiresAt > now && !route.closed) this.endsAt = Math.min(this.endsAt, route.expiresAt);
      else {
        this.end(route, 'expire');
        this.named.delete(key);
      }
    }
  }

  /** `before`: the route in whose place it is opened. */
  open(pool: Pool, id: string | undefined, before?: PoolRoute): PoolRoute {
    const { engine } = this;
    if (engine.closed) throw new ClosedError();
    if (pool.options.rotation === 'per-request') {
      throw new ConfigError(`session: expected a pool with sessions, got '${pool.name}', which rotates per request`, {
        option: 'session.pool',
      });
    }
    const route = pool.stick(id, before?.endpoint);
    this.tell(route, 'open');
    return route;
  }

  end(route: PoolRoute, reason?: 'rotate' | 'expire'): void {
    if (route.closed) return;
    this.engine.targets.pool(route.pool).retire(route);
    this.engine.carriers.retire(route);
    this.tell(route, 'close', reason);
  }

  tell({ pool, session }: PoolRoute, state: 'open' | 'close' | 'lost', reason?: 'rotate' | 'expire'): void {
    if (session === undefined) return;
    this.engine.events.emit('session', { pool, session, state, ...(reason && { reason }) });
  }
}
