import type { PaceOptions } from './call.ts';
import { Jar, type SessionCookies } from './cookies.ts';
import type { Engine } from './engine.ts';
import { ClosedError } from './errors.ts';
import type { Fetcher } from './fetch.ts';
import type { Pool, PoolRoute } from './gateway/pool.ts';
import { showAs } from './inspect.ts';
import type { FetchInit, FetchInput, FetchResponse } from './manager.ts';
import { cookiesOf } from './session-cookies.ts';
import { checkRotateOptions } from './session-options.ts';
import { Stay } from './stay.ts';

/** Options of {@link ProxyManager.session}. */
export interface SessionOptions {
  /** Id at the gateway: 1 to 64 of A–Z a–z 0–9 @default a random one */
  readonly id?: string;
  /** @default the first pool */
  readonly pool?: string;
  /**
   * Fail with a {@link SessionLostError} rather than go on from another IP: when the exit changed, and when `sessionTtlMs` is over.
   * Takes a pool whose gateway names the exit of every tunnel. @default false
   */
  readonly strict?: boolean;
  /** Keep the cookies that answers set, and send them back. @default true */
  readonly cookies?: boolean;
}

/** Options of {@link Session.rotate}. */
export interface RotateOptions {
  /** Take the cookies along. They tell the site that the new IP is the old one's. @default false */
  readonly keepCookies?: boolean;
}

/**
 * A sticky session: every request leaves through one exit, for as long as the gateway holds it, with cookies of its own.
 * When its time (`sessionTtlMs`) is over, the next request opens a new one under a new id, without the cookies; with `strict`
 * it fails instead. In a pool of a single exit its time is never over.
 *
 * @example
 * await using session = proxies.session({ strict: true });
 * await session.fetch('https://shop.example/login', { method: 'POST', body });
 * await session.fetch('https://shop.example/orders'); // from the same IP, logged in
 */
export class Session {
  readonly #engine: Engine;
  readonly #fetcher: Fetcher;
  readonly #pool: Pool;
  readonly #cookies: SessionCookies;
  #stay: Stay;
  #closed = false;

  /** @internal Sessions are opened by `ProxyManager.session`. */
  constructor(engine: Engine, fetcher: Fetcher, pool: Pool, { id, strict = false, cookies = true }: SessionOptions) {
    this.#engine = engine;
    this.#fetcher = fetcher;
    this.#pool = pool;
    const jar = cookies ? new Jar(engine.clock) : undefined;
    this.#stay = new Stay(engine.sessions, this.#open(id, undefined), jar, strict);
    this.#cookies = cookiesOf(() => this.#stay.jar);
    showAs(this, () => `Session { id: '${this.id}', egress: ${this.egress ?? 'unknown'} }`);
  }

  /** Id at the gateway. */
  get id(): string {
    const { route } = this.#stay;
    return route.session ?? route.id;
  }

  /**
   * As {@link ProxyManager.fetch}, on this session. Its cookies go with every request, redirect hops and further attempts included; a
   * `cookie` header of your own is sent too, and goes before the jar's where the names are the same; `credentials: 'omit'` sends and keeps none.
   *
   * @throws {SessionLostError} with `strict`, when the exit is gone: nothing is sent, now or later, until `rotate()`
   */
  readonly fetch = async (input: FetchInput, init?: FetchInit): Promise<FetchResponse> => {
    if (this.#closed) throw new ClosedError('the session');
    const { lost, strict } = this.#stay;
    if (lost !== undefined) throw lost;
    if (this.remainingMs === 0) {
      if (strict) throw this.#stay.lose('expired', undefined);
      this.#move('expire', false);
    }
    return this.#fetcher.fetch(input, init as { pace?: PaceOptions }, this.#stay);
  };

  /** Address of the exit, once it is known; until then `undefined`. */
  get egress(): string | undefined {
    const { route } = this.#stay;
    return route.verified ? route.egress : undefined;
  }

  /** How long the session is still used under its id, in milliseconds, ≥ 0; `Infinity` in a pool of a single exit. */
  get remainingMs(): number {
    return Math.max(0, this.#stay.route.expiresAt - this.#engine.clock.now());
  }

  /** Its cookies, to be read, added and kept. Always empty with `cookies: false`. */
  get cookies(): SessionCookies {
    return this.#cookies;
  }

  /**
   * A new id, and so another exit (of a list of proxies, another one of the list), from the next request on.
   * The cookies are gone, because they would link the new IP to the old one; requests that are under way keep theirs.
   */
  rotate(options: RotateOptions = {}): void {
    if (this.#closed) throw new ClosedError('the session');
    checkRotateOptions(options);
    this.#move('rotate', options.keepCookies === true);
  }

  /** Gives the session up; requests on it come to their end. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#engine.sessions.end(this.#stay.route);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  toJSON(): object {
    return { name: 'Session', id: this.id, pool: this.#pool.name, egress: this.egress };
  }

  #move(reason: 'rotate' | 'expire', keepCookies: boolean): void {
    const { route, jar, strict } = this.#stay;
    const { clock, sessions } = this.#engine;
    const next = this.#open(undefined, route);
    // Another jar, not an emptied one: what still comes in on the old exit belongs there.
    const cookies = jar === undefined || keepCookies ? jar : new Jar(clock);
    this.#stay = new Stay(sessions, next, cookies, strict);
    sessions.end(route, reason);
  }

  #open(id: string | undefined, before: PoolRoute | undefined): PoolRoute {
    const route = this.#engine.sessions.open(this.#pool, id, before);
    // A single exit is there as long as the pool is.
    if (!this.#pool.hasOthers) route.expiresAt = Number.POSITIVE_INFINITY;
    return route;
  }
}
