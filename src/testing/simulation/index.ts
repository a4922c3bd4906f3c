import type { Random } from '../../clock.ts';
import type { Transport } from '../../options.ts';
import type { VirtualClock } from '../virtual-clock.ts';
import { simulatedTransport } from './transport.ts';
import { SimulatedWorld, type SimulationOptions } from './world.ts';

/** See {@link simulation}. */
export interface Simulation {
  readonly world: SimulatedWorld;
  /** To be spread into a manager's options: its gateway, clock, chance and transport. */
  readonly options: {
    readonly gateway: string;
    readonly clock: VirtualClock;
    readonly random: Random;
    readonly transport: Transport;
  };
  /** Moves time on until `promise` settles. */
  run<T>(promise: Promise<T>): Promise<T>;
}

/**
 * A whole world in virtual time for a `ProxyManager` to run in: a provider with its pool of exits, sites with budgets, bans,
 * challenges and outages. Replayable: one seed, one trace. Hosts are reached by `http://`.
 *
 * @example
 * const sim = simulation({ seed: 7, pool: { exits: 50 }, sites: { 'shop.test': { budget: { limit: 8, windowMs: 60_000 } } } });
 * const proxies = new ProxyManager({ ...sim.options, targets: [{ match: 'shop.test', tier: 'protected' }] });
 * await sim.run(proxies.fetch('http://shop.test/1'));
 * sim.world.site('shop.test').counts; // { arrivals, ok, limited, overBudget, … }
 */
export function simulation(options: SimulationOptions): Simulation {
  const world = new SimulatedWorld(options);
  return {
    world,
    options: {
      gateway: 'http://user-session-{session}:pass@gateway.test:1',
      clock: world.clock,
      random: world.random,
      transport: simulatedTransport(world),
    },
    run: (promise) => world.clock.runUntil(promise, { maxMs: 365 * 86_400_000 }),
  };
}
