import type { Clock, Random } from '../clock.ts';
import type { BreakerPolicy } from '../limits/breaker-core.ts';
import type { Traffic } from '../stats.ts';
import type { SharedWays } from '../store/store.ts';
import { GatewayCircuit } from './circuit.ts';
import { sharedKey } from './fingerprint.ts';
import { Growth } from './growth.ts';
import type { ResolvedPool } from './pool-options.ts';
import { Resting } from './resting.ts';
import { endpointFor, newRoute, newSessionId, type PoolRoute, staticEgress } from './route.ts';
import { checkSessionId, type ProxyEndpoint } from './template.ts';

export type { PoolRoute } from './route.ts';

/** Exits tried at a time while few are known; later as many as are known, so that a pool at most doubles at a step. */
const FIRST_TRIALS = 4;

/** The ways out of one pool: given, or made on demand; and how many requests may use them at once. */
export class Pool implements SharedWays {
  /** What it is called where processes share it. */
  readonly key: string;
  readonly options: ResolvedPool;
  readonly name: string;
  private readonly clock: Clock;
  private readonly random: Random;
  /** Shared routes by rank: `routes[i]` has rank `first + i`. Ended ones are dropped from the front. */
  private routes: PoolRoute[] = [];
  private first = 1;
  private live = 0;
  private sticky = 0;
  /** Shared sessions whose exit is about to be named. */
  private trials = 0;
  private readonly growth: Growth;
  readonly circuit: GatewayCircuit;
  private readonly resting: Resting = new Resting();
  /** Requests using the pool, and permits being asked of the store. */
  inUse = 0;
  /** What they are counted by. */
  traffic: Traffic | undefined;
  asked = 0;
  /** Whether exits were named so far, and whether any was not. */
  seen = false;
  unseen = false;
  /** A session on trial is through, or one was retired: it may be worth asking for another. */
  changed = false;
  /** Told of every shared route that is given up before its time. */
  onRetired: ((route: PoolRoute) => void) | undefined;
  /** Why the last session could not be made. */
  failure: Error | undefined;

  constructor(options: ResolvedPool, clock: Clock, random: Random, breaker?: BreakerPolicy) {
    this.options = options;
    this.name = options.name;
    this.key = sharedKey(options);
    this.clock = clock;
    this.random = random;
    this.growth = new Growth(options.sessionTtlMs);
    this.circuit = new GatewayCircuit(breaker, clock, random);
    if (options.way.kind === 'direct') this.add(undefined, undefined, Infinity, 'direct', 1);
    if (options.way.kind === 'static') {
      for (const endpoint of options.way.proxies) this.add(undefined, endpoint, Infinity, staticEgress(endpoint), 1);
    }
    if (options.way.kind === 'gateway' && options.rotation === 'per-request') {
      const endpoint = options.way.endpoint({ session: undefined, params: options.params });
      this.add(undefined, endpoint, Infinity, `${this.name}/rotating`, options.poolSize ?? Infinity);
    }
  }

  get room(): number {
    const { room } = this.circuit;
    // Permits that are being asked for may each become a probe.
    return Math.min(this.options.concurrency - this.inUse, room) - this.asked;
  }

  /** Sessions alive, sticky ones included. */
  get sessions(): number {
    this.dropEnded();
    return this.live + this.sticky;
  }

  /** How well budgets hold here; see `PoolStats.egress`. */
  get certainty(): 'verified' | 'assumed' | 'pool' {
    const { way, rotation, poolSize } = this.options;
    if (way.kind === 'direct') return 'verified';
    if (rotation === 'per-request') return poolSize === undefined ? 'verified' : 'pool';
    return this.seen && !this.unseen ? 'verified' : 'assumed';
  }

  get trying(): boolean {
    return this.trials > 0;
  }

  /** Not to grow now: the sessions whose exit is about to be named would serve all who are waiting, at `limit` each, or are many. */
  holdsBack(waiting: number, limit: number): boolean {
    const { trials, held } = this;
    return (
      trials > 0 && (trials * limit >= waiting || trials >= Math.max(FIRST_TRIALS, held) || this.growth.slow(held))
    );
  }

  /** The first live shared route after rank `after`; a new session when there is none and the pool may grow now. */
  offer(after: number, waiting: number, limit: number): PoolRoute | undefined {
    const now = this.clock.now();
    this.dropEnded();
    for (const back of this.resting.take(now)) this.add(undefined, back, Infinity, staticEgress(back), 1);
    for (let i = Math.max(0, after + 1 - this.first); i < this.routes.length; i++) {
      const route = this.routes[i];
      if (!route.closed && route.expiresAt > now) return route;
    }
    if (!this.mints || this.live >= this.options.maxSessions || this.growth.nextAt(this.held) > now) return undefined;
    if (this.holdsBack(waiting, limit)) return undefined;
    try {
      return this.mint(now);
    } catch (error) {
      // The caller's gateway function: its fault is for those who wait, not for the store that asked.
      this.failure = error as Error;
      return undefined;
    }
  }

  /** Milliseconds until `offer` might have a new session; 0 = now, `Infinity` = never by itself. `heldBack`: not before one ends. */
  offerInMs(heldBack: boolean): number {
    const now = this.clock.now();
    if (!this.mints) return Math.max(0, this.resting.nextAt - now);
    this.dropEnded();
    if (this.live < this.options.maxSessions && !heldBack) return Math.max(0, this.growth.nextAt(this.held) - now);
    return Math.max(0, this.routes[0].expiresAt - now);
  }

  /** A route of the caller's own, shared with nobody; of a list of proxies, through another one than `not` where there is one. */
  stick(id?: string, not?: ProxyEndpoint): PoolRoute {
    const session = id === undefined ? newSessionId(this.random) : checkSessionId('session', id);
    const endpoint = this.endpointOf(session, not);
    const expiresAt = this.clock.now() + this.options.sessionTtlMs;
    this.sticky++;
    return newRoute(this.options, { session, endpoint, expiresAt, shared: false, seq: 0 });
  }

  /** A session that another process has made known; of a list of proxies, this process's own route. */
  adopt(id: string, session: string | undefined, egress: string, endsInMs: number): PoolRoute | undefined {
    const now = this.clock.now();
    if (session === undefined || !this.mints) {
      return this.routes.find((route) => route.id === id && !route.closed && route.expiresAt > now);
    }
    try {
      // What comes from elsewhere goes into the credentials.
      const endpoint = this.endpointOf(checkSessionId('session', session));
      return this.add(session, endpoint, now + Math.min(endsInMs, this.options.sessionTtlMs), egress, 1);
    } catch {
      return undefined;
    }
  }

  named(route: PoolRoute, egress: string): void {
    route.egress = egress;
    this.tried(route);
  }

  /** The exit behind a session was named, or will not be. */
  tried(route: PoolRoute): void {
    if (this.options.way.kind === 'static' && !route.closed) this.resting.worked(route.endpoint!);
    if (!route.trial) return;
    route.trial = false;
    this.changed = true;
    if (route.shared) this.trials--;
  }

  /** A minted session came up on `egress`: on an exit in use already (futile) or not. */
  minted(egress: string, futile: boolean, windowMs: number): void {
    this.growth.minted(egress, futile, windowMs, this.clock.now());
  }

  /** Shared routes whose exit is not in question. */
  private get held(): number {
    return this.live - this.trials;
  }

  /** Takes a route out of use; requests on it go on. */
  retire(route: PoolRoute): void {
    if (route.closed) return;
    route.closed = true;
    this.changed = true;
    this.tried(route);
    if (route.shared) {
      this.live--;
      this.onRetired?.(route);
    } else this.sticky--;
    this.dropEnded();
  }

  /** A tunnel could not be opened. Returns whether the route was given up: a session without an exit, a dead proxy among others. */
  failed(route: PoolRoute, exitFailed: boolean): boolean {
    if (!route.shared || route.closed) return false;
    const isStatic = this.options.way.kind === 'static' && this.live > 1;
    if (isStatic) this.resting.failed(route.endpoint!, this.clock.now());
    else if (!this.mints || !exitFailed) return false;
    this.retire(route);
    return true;
  }

  /** Whether a request that one egress refused may find another one here. */
  get hasOthers(): boolean {
    const { way } = this.options;
    return way.kind === 'gateway' || (way.kind === 'static' && way.proxies.length > 1);
  }

  /** Sessions are made on demand. */
  get mints(): boolean {
    return this.options.way.kind === 'gateway' && this.options.rotation === 'session';
  }

  private mint(now: number): PoolRoute {
    const session = newSessionId(this.random);
    const route = this.add(session, this.endpointOf(session), now + this.options.sessionTtlMs, undefined, 1);
    const { egressHeaders, probeUrl } = this.options;
    // A gateway that has not named an exit so far will not start to.
    route.trial = probeUrl !== undefined || (egressHeaders.length > 0 && (this.seen || !this.unseen));
    if (route.trial) this.trials++;
    return route;
  }

  private add(
    session: string | undefined,
    endpoint: ProxyEndpoint | undefined,
    expiresAt: number,
    egress: string | undefined,
    weight: number,
  ): PoolRoute {
    const seq = this.first + this.routes.length;
    const route = newRoute(this.options, { session, endpoint, expiresAt, shared: true, seq, egress, weight });
    this.routes.push(route);
    this.live++;
    return route;
  }

  private endpointOf(session: string, not?: ProxyEndpoint): ProxyEndpoint | undefined {
    return endpointFor(this.options, this.random, session, not);
  }

  /** Sessions of one pool live equally long, so they end in the order they began. */
  private dropEnded(): void {
    const now = this.clock.now();
    let ended = 0;
    for (const route of this.routes) {
      if (!route.closed && route.expiresAt > now) break;
      ended++;
      if (route.closed) continue;
      route.closed = true;
      this.tried(route);
      this.live--;
    }
    this.routes.splice(0, ended);
    this.first += ended;
  }
}
