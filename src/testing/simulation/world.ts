import { type Random, seededRandom } from '../../clock.ts';
import { invalid } from '../../validate.ts';
import { type VirtualClock, virtualClock } from '../virtual-clock.ts';
import { SimulatedExits, type SimulatedPoolOptions } from './exits.ts';
import { SimulatedSite, type SimulatedSiteOptions } from './sites.ts';

export interface SimulationOptions {
  /** Everything that is left to chance follows from it; an integer. @default 1 */
  readonly seed?: number;
  /** The provider's pool. */
  readonly pool?: SimulatedPoolOptions;
  /** Sites by host name; at least one. */
  readonly sites: Readonly<Record<string, SimulatedSiteOptions>>;
}

/** A tunnel through the simulated gateway. */
export interface SimulatedTunnel {
  readonly session: string | undefined;
  readonly host: string;
  readonly exit: string;
  /** Requests sent through it. */
  uses: number;
}

/** What a request through a tunnel came to; `status` 0: the tunnel broke. */
export interface SimulatedAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly bytes: number;
}

/** Bytes of a CONNECT, of a TLS handshake behind it, and of a request's and an answer's headers: as measured through a real gateway. */
const CONNECT_BYTES = 600;
const TLS_BYTES = 4000;
const REQUEST_BYTES = 300;
const HEADER_BYTES = 400;

/** The status of a dial that the gateway refuses. */
export class SimulatedDialError extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`the simulated gateway answered CONNECT with ${status}`);
    this.status = status;
  }
}

/**
 * A provider and some sites in virtual time: hours of traffic in seconds, the same on every run of a seed.
 * Any client can be run in it: by {@link dial} and {@link send}, or a `ProxyManager` through `simulation().options`.
 */
export class SimulatedWorld {
  readonly clock: VirtualClock;
  readonly exits: SimulatedExits;
  readonly random: Random;
  private readonly sites = new Map<string, SimulatedSite>();
  dials = 0;
  sends = 0;
  bytes = 0;

  constructor(options: SimulationOptions) {
    const { seed = 1, pool = {}, sites } = options;
    if (!Number.isSafeInteger(seed)) throw invalid('seed', 'an integer', seed);
    if (Object.keys(sites).length === 0) throw invalid('sites', 'at least one site', sites);
    this.clock = virtualClock();
    this.random = seededRandom(seed);
    this.exits = new SimulatedExits(pool, seededRandom(seed + 1));
    let i = 2;
    for (const [host, site] of Object.entries(sites)) {
      this.sites.set(host, new SimulatedSite(site, seededRandom(seed + i++)));
    }
  }

  site(host: string): SimulatedSite {
    const site = this.sites.get(host);
    if (site === undefined) throw invalid('host', [...this.sites.keys()].join(', '), host);
    return site;
  }

  /** Opens a tunnel; `done` is told the tunnel, or why there is none. Returns the function that gives it up. */
  dial(
    session: string | undefined,
    host: string,
    done: (error: Error | undefined, tunnel?: SimulatedTunnel) => void,
  ): () => void {
    const { exits, clock } = this;
    this.dials++;
    this.bytes += CONNECT_BYTES;
    const { faults, dialMs } = exits.options;
    const fails = exits.chance(faults) || !this.sites.has(host);
    const timer = clock.setTimeout(() => {
      if (fails) done(new SimulatedDialError(502));
      else done(undefined, { session, host, exit: exits.dial(session, clock.now()), uses: 0 });
    }, exits.between(dialMs));
    return () => clock.clearTimeout(timer);
  }

  /** Sends a request through a tunnel. What was sent arrives, whatever becomes of the sender. */
  send(tunnel: SimulatedTunnel, done: (answer: SimulatedAnswer) => void): void {
    const { exits, clock } = this;
    const { hopMs, resets } = exits.options;
    const site = this.site(tunnel.host);
    this.sends++;
    this.bytes += REQUEST_BYTES + (tunnel.uses++ === 0 ? TLS_BYTES : 0);
    const breaks = exits.chance(resets);
    clock.setTimeout(() => {
      const { status, headers, bytes, afterMs } = site.arrive(tunnel.exit, clock.now());
      clock.setTimeout(() => {
        if (breaks) {
          done({ status: 0, headers: {}, bytes: 0 });
          return;
        }
        this.bytes += HEADER_BYTES + bytes;
        done({ status, headers, bytes });
      }, afterMs + exits.between(hopMs));
    }, exits.between(hopMs));
  }
}
