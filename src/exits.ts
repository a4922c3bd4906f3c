import type { TargetQueue } from './admission.ts';
import type { Engine } from './engine.ts';
import { GatewayError } from './errors.ts';
import { type Carrier, carrier } from './gateway/agents.ts';
import type { Dial } from './gateway/dial.ts';
import { egressOfHeader } from './gateway/egress-header.ts';
import type { Pool, PoolRoute } from './gateway/pool.ts';
import { probeEgress } from './gateway/probe.ts';

/** What is learnt of the exits behind the routes, and what follows for the routes. */
export class Exits {
  private readonly engine: Engine;
  private readonly probes = new WeakMap<PoolRoute, Promise<void>>();

  constructor(engine: Engine) {
    this.engine = engine;
  }

  /** Key of the exit that a CONNECT answer names. */
  egressOf(dial: Dial, pool: Pool): string | undefined {
    for (const name of pool.options.egressHeaders) {
      const egress = egressOfHeader(dial.headers[name]);
      if (egress !== undefined) return egress;
    }
    return undefined;
  }

  /** The exit behind a route became known; it may be another one than before, or one that is in use already. */
  learned(route: PoolRoute, egress: string, duplicate: boolean, queue: TargetQueue): void {
    if (route.weight !== 1) return;
    const first = !route.verified;
    if (!first && route.egress === egress) return;
    route.egress = egress;
    route.verified = true;
    const pool = this.engine.targets.pool(route.pool);
    if (first && route.shared && pool.mints) pool.minted(egress, duplicate, queue.policy.windowMs);
    if (this.engine.events.wants('egress')) {
      this.engine.events.emit('egress', {
        pool: route.pool,
        session: route.session,
        egress,
        duplicate: duplicate && route.shared,
      });
    }
    if (duplicate && route.shared && pool.mints) {
      pool.retire(route);
      this.engine.carriers.retire(route);
    }
  }

  /** Learns a route's exit from its probe page, once, however many requests ask. */
  probe(route: PoolRoute, by: Carrier, url: URL): Promise<void> {
    let running = this.probes.get(route);
    if (running === undefined) {
      running = probeEgress(by, url, route.pool, this.engine.timeouts.headersMs).then(
        (egress) => {
          // It counts once a permit is bound to it: the exit may be one that is in use already.
          route.probed = egress;
        },
        (error) => {
          this.probes.delete(route);
          throw error;
        },
      );
      this.probes.set(route, running);
    }
    return running;
  }

  /** A session whose exit is gone is not lent again; a proxy that is down rests. */
  failedDial(route: PoolRoute, pool: Pool, error: Error): void {
    if (!(error instanceof GatewayError)) return;
    if (pool.failed(route, error.kind === 'exit-failed')) this.engine.carriers.retire(route);
  }

  /** A carrier for a route: it opens the tunnels and keeps them. */
  open(route: PoolRoute): Carrier {
    const { options } = this.engine.targets.pool(route.pool);
    const { connectMs, headersMs, bodyMs } = this.engine.timeouts;
    return carrier(route.endpoint, {
      clock: this.engine.clock,
      pool: route.pool,
      connectMs,
      headersMs,
      bodyMs,
      rotating: route.weight !== 1,
      requestTls: options.requestTls,
      proxyTls: options.proxyTls,
    });
  }
}
