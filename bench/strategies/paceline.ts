import { ProxyManager } from '../../src/index.ts';
import { simulatedTransport } from '../../src/testing/simulation/transport.ts';
import type { SimulatedWorld } from '../../src/testing/simulation/world.ts';
import { HOST, type Strategy } from './world.ts';

/** `proxies.fetch`, one rule, all defaults. */
export function paceline(world: SimulatedWorld): Strategy {
  const proxies = new ProxyManager({
    pools: { residential: { gateway: 'http://user-session-{session}:pass@gateway.test:1', sessionTtlMs: 1_800_000 } },
    targets: [{ match: HOST, tier: 'protected' }],
    clock: world.clock,
    random: world.random,
    transport: simulatedTransport(world),
  });
  return async (page) => {
    const response = await proxies.fetch(`http://${HOST}/item/${page}`);
    await response.arrayBuffer();
    return response.ok;
  };
}
