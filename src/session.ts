import type { Response } from 'undici';
import type { PaceOptions } from './call.ts';
import type { Engine } from './engine.ts';
import { ClosedError } from './errors.ts';
import type { Fetcher } from './fetch.ts';
import type { Pool, PoolRoute } from './gateway/pool.ts';
import { showAs } from './inspect.ts';
import type { FetchInit, FetchInput } from './manager.ts';

/** Options of {@link ProxyManager.session}. */
export interface SessionOptions {
  /** Id at the gateway: 1 to 64 of A–Z a–z 0–9 @default a random one */
  readonly id?: string;
  /** @default the first pool */
  readonly pool?: string;
}

/**
 * A sticky session: every request leaves through one exit, for as long as the gateway holds it.
 * When its time (`sessionTtlMs`) is over, the next request opens a new one under a new id.
 *
 * @example
 * await using session = proxies.session();
 * await session.fetch('https://shop.example/login', { method: 'POST', body });
 * await session.fetch('https://shop.example/orders'); // from the same IP
 */
export class Session {
  readonly #engine: Engine;
  readonly #fetcher: Fetcher;
  readonly #pool: Pool;
  #route: PoolRoute;
  #closed = false;

  /** @internal Sessions are opened by `ProxyManager.session`. */
  constructor(engine: Engine, fetcher: Fetcher, pool: Pool, id: string | undefined) {
    this.#engine = engine;
    this.#fetcher = fetcher;
    this.#pool = pool;
    this.#route = engine.sessions.open(pool, id);
    showAs(this, () => `Session { id: '${this.id}', egress: ${this.egress ?? 'unknown'} }`);
  }

  /** Id at the gateway. */
  get id(): string {
    return this.#route.session ?? this.#route.id;
  }

  readonly fetch = async (input: FetchInput, init?: FetchInit): Promise<Response> => {
    if (this.#closed) throw new ClosedError('the session');
    if (this.#route.expiresAt <= this.#engine.clock.now()) this.rotate();
    return this.#fetcher.fetch(input, init as { pace?: PaceOptions }, this.#route);
  };

  /** Address of the exit, once it is known; until then `undefined`. */
  get egress(): string | undefined {
    return this.#route.verified ? this.#route.egress : undefined;
  }

  /** A new id, and so another exit, from the next request on. */
  rotate(): void {
    if (this.#closed) throw new ClosedError('the session');
    const old = this.#route;
    this.#route = this.#engine.sessions.open(this.#pool, undefined);
    this.#engine.sessions.end(old);
  }

  /** Gives the session up; requests on it come to their end. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#engine.sessions.end(this.#route);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
