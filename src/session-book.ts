import type { Engine } from './engine.ts';
import { ClosedError, ConfigError } from './errors.ts';
import type { Pool, PoolRoute } from './gateway/pool.ts';

/** The sticky sessions: those a caller holds, and those that requests name. */
export class SessionBook {
  private readonly engine: Engine;
  private readonly named = new Map<string, PoolRoute>();

  constructor(engine: Engine) {
    this.engine = engine;
  }

  /** The route of a session that requests name themselves; the same one until it expires. */
  byName(url: string, id: string, tier: string | undefined, asked: string | undefined): PoolRoute {
    const { engine, named } = this;
    const pool = engine.poolFor(engine.classify(url, tier), asked);
    const key = `${pool.name}/${id}`;
    const now = engine.clock.now();
    let route = named.get(key);
    if (route === undefined || route.closed || route.expiresAt <= now) {
      for (const [other, old] of named) {
        if (old.expiresAt > now && !old.closed) continue;
        this.end(old);
        named.delete(other);
      }
      route = this.open(pool, id);
      named.set(key, route);
    }
    return route;
  }

  open(pool: Pool, id: string | undefined): PoolRoute {
    const { engine } = this;
    if (engine.closed) throw new ClosedError();
    if (pool.options.rotation === 'per-request') {
      throw new ConfigError(`session: expected a pool with sessions, got '${pool.name}', which rotates per request`, {
        option: 'session.pool',
      });
    }
    const route = pool.stick(id);
    this.tell(route, 'open');
    return route;
  }

  end(route: PoolRoute): void {
    if (route.closed) return;
    this.engine.pool(route.pool).retire(route);
    this.engine.carriers.retire(route);
    this.tell(route, 'close');
  }

  private tell({ pool, session }: PoolRoute, state: 'open' | 'close'): void {
    if (session !== undefined) this.engine.events.emit('session', { pool, session, state });
  }
}
