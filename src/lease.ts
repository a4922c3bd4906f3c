import type { Dispatcher } from 'undici';
import type { Engine } from './engine.ts';
import { ClosedError } from './errors.ts';
import { Holding } from './holding.ts';
import { showAs } from './inspect.ts';
import { LeaseDispatcher } from './lease-dispatcher.ts';
import {
  checkAcquire,
  checkEnding,
  type LeaseOptions,
  type LeaseResponse,
  type SettleDetails,
} from './lease-options.ts';
import type { Outcome } from './store/store.ts';

/** A proxy as Playwright takes it: `browser.newContext({ proxy: lease.proxy })`. The password is in it. */
export interface LeaseProxy {
  /** `http://host:port`, without credentials. */
  readonly server: string;
  readonly username?: string;
  readonly password?: string;
}

/**
 * A permit in the caller's hands: the right to one request to one target through one way out, for clients that are not on undici
 * (browsers, curl, got, axios). It holds a slot of the budget that `fetch` spends too.
 *
 * What goes through `proxyUrl` paceline does not see: one lease is one request, or one navigation. It is to leave soon after
 * `startAt`, and its outcome is to be told once. Left in silence, a lease ends as `ok` with its scope (`await using`), and
 * as `ignored` after `holdMs`. The scope must outlast the request: `return await visit(lease)`, not `return visit(lease)`.
 *
 * @example
 * await using lease = await proxies.acquire('https://shop.example/item/1');
 * const context = await browser.newContext({ proxy: lease.proxy });
 * const response = await (await context.newPage()).goto('https://shop.example/item/1');
 * lease.settle({ status: response.status(), headers: response.headers() });
 */
export class Lease {
  /** What the budget belongs to: a rule's name, else the registrable domain. */
  readonly target: string;
  readonly tier: string;
  readonly pool: string;
  /** Id of the session at the gateway; `undefined` for a static proxy and for a direct way. */
  readonly session: string | undefined;
  /** When it was granted, on the manager's clock, in milliseconds: from then on the request may leave. */
  readonly startAt: number;
  /** Time in the queue, in milliseconds. */
  readonly waitedMs: number;
  readonly #engine: Engine;
  readonly #holding: Holding;
  readonly #url: string;
  readonly #ownTier: string | undefined;
  #dispatcher: LeaseDispatcher | undefined;

  /** @internal Leases are given by `ProxyManager.acquire`. */
  constructor(engine: Engine, holding: Holding, url: string, tier: string | undefined) {
    const { target, tier: its, waitedMs } = holding.facts();
    this.target = target;
    this.tier = its;
    this.pool = holding.way.pool;
    this.session = holding.way.session;
    this.startAt = holding.heldAt!;
    this.waitedMs = waitedMs;
    this.#engine = engine;
    this.#holding = holding;
    this.#url = url;
    this.#ownTier = tier;
    showAs(this, () => `Lease ${JSON.stringify(this.toJSON())}`);
  }

  /** Key of the egress whose budget it is charged to: its address when that is known, else the id of the way out. */
  get egress(): string {
    return this.#holding.exit;
  }

  /** Whether the gateway, a probe or the configuration named the egress, or it is assumed from the session. */
  get egressVerified(): boolean {
    return this.#holding.way.verified;
  }

  /** `http://user:password@host:port` of the way out, for any client; `undefined` when it is a direct one. A secret: never shown. */
  get proxyUrl(): string | undefined {
    const { endpoint } = this.#holding.way;
    if (endpoint === undefined) return undefined;
    const { address, username, password } = endpoint;
    if (username === '' && password === '') return address;
    return address.replace('//', () => `//${encodeURIComponent(username)}:${encodeURIComponent(password)}@`);
  }

  /** The same in Playwright's shape. Chromium takes no credentials for `socks5://`. */
  get proxy(): LeaseProxy | undefined {
    const { endpoint } = this.#holding.way;
    if (endpoint === undefined) return undefined;
    const { address: server, username, password } = endpoint;
    if (username === '' && password === '') return { server };
    const proxy = { server, username, password };
    showAs(proxy, () => `{ server: '${server}', credentials hidden }`);
    return proxy;
  }

  /**
   * The way out as an undici Dispatcher. The first request to the lease's target uses the lease's permit, and so settles it;
   * further ones wait for a slot of their own on the same way.
   */
  get dispatcher(): Dispatcher {
    this.#dispatcher ??= new LeaseDispatcher(this.#engine, this.#holding, this.#ownTier);
    return this.#dispatcher;
  }

  /**
   * Says how it ended, with a word or with the response itself, which is then judged as one of `fetch`'s. Counts once:
   * returns `false`, and does nothing, when the lease is over: settled, used up by its dispatcher, or held for too long.
   * After `gateway-error` (the target never saw the request) the slot is as if never taken, and the way out is not lent again.
   *
   * @throws {ConfigError} when it is no outcome and no response.
   * @example
   * lease.settle('rate-limited', { retryAfterMs: 30_000 });
   * lease.settle({ status: 403, headers });
   */
  settle(outcome: Outcome, details?: SettleDetails): boolean;
  settle(response: LeaseResponse): boolean;
  settle(how: Outcome | LeaseResponse, details: SettleDetails = {}): boolean {
    return this.#holding.conclude(checkEnding(this.#engine, this.#url, how, details));
  }

  /** Settles it as `ok`, if nothing was said. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#holding.conclude({ outcome: 'ok' });
  }

  toJSON(): object {
    const { target, tier, pool, session, egress, egressVerified, startAt } = this;
    return { target, tier, pool, session, egress, egressVerified, startAt };
  }
}

/** Waits for a permit and hands it over. */
export async function acquire(engine: Engine, url: string | URL, options: LeaseOptions): Promise<Lease> {
  if (engine.closed) throw new ClosedError();
  const request = checkAcquire(engine, url, options);
  const { signal, call, holdMs } = request;
  signal?.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const holding = new Holding(engine, call, request.url, holdMs, (error) => {
    if (error === undefined) resolve();
    else reject(error);
  });
  const abort = (): void => holding.abort(signal!.reason);
  signal?.addEventListener('abort', abort, { once: true });
  holding.start();
  try {
    await promise;
  } finally {
    signal?.removeEventListener('abort', abort);
  }
  return new Lease(engine, holding, request.url.href, call.pace.tier);
}
