import { ProxyManager, type ProxyManagerOptions } from 'paceline';
import { type MockGateway, type MockTarget, mockGateway, mockTarget } from 'paceline/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { Direct } from '../../src/store/shared/direct.ts';
import { localBackend } from '../../src/store/shared/local.ts';
import { SharedStore } from '../../src/store/shared/shared-store.ts';
import type { Backend, BatchAnswer } from '../../src/store/shared/steps.ts';
import { shopBudget } from '../support/paced.ts';

// Managers that share a state as the workers of a fleet do; every answer comes later, as over a wire.

let target: MockTarget;
let gateway: MockGateway;
let state: Backend;
let managers: ProxyManager[];

beforeEach(async () => {
  target = await mockTarget({});
  gateway = await mockGateway({ exits: 1, hosts: { 'shop.test': target.url } });
  const local = localBackend();
  state = {
    take: async (batch): Promise<BatchAnswer> => local.take(JSON.parse(JSON.stringify(batch))),
    close: () => local.close(),
  };
  managers = [];
});
afterEach(async () => {
  await Promise.all(managers.map((one) => one.close()));
  await Promise.all([target.close(), gateway.close()]);
});

function worker(options: ProxyManagerOptions = {}): ProxyManager {
  const made = new ProxyManager({
    gateway: gateway.url,
    store: new SharedStore(new Direct(state, systemClock)),
    targets: shopBudget(4, 400),
    ...options,
  });
  managers.push(made);
  return made;
}

async function get(manager: ProxyManager): Promise<string | undefined> {
  const response = await manager.fetch('http://shop.test/');
  await response.text();
  return manager.exchange(response)?.session;
}

describe('workers that share a store', () => {
  it('use the sessions that any of them has opened', async () => {
    const [one, other] = [worker(), worker()];
    const session = await get(one);
    expect([await get(other), await get(one), await get(other)]).toEqual([session, session, session]);
    expect((await other.stats()).pools.default.sessions).toBe(1);
  });

  it('spend one budget where their sessions lead to one exit', async () => {
    const crew = [worker(), worker(), worker()];
    // Each opens one of its own, since none knows of the others' yet.
    await Promise.all(crew.flatMap((one) => Array.from({ length: 6 }, () => get(one))));
    expect([target.arrivals.length, target.worst(400)]).toEqual([18, 4]);
  });

  it('do not take sessions of another gateway for their own', async () => {
    await using elsewhere = await mockGateway({ exits: 1, hosts: { 'shop.test': target.url } });
    const [one, other] = [worker(), worker({ gateway: elsewhere.url })];
    const session = await get(one);
    expect(await get(other)).not.toBe(session);
    await Promise.all([one.close(), other.close()]);
  });

  it('leave a session that one of them has given up', async () => {
    const [one, other] = [worker(), worker()];
    const session = await get(one);
    // Its exit is gone: no tunnel of that session opens any more.
    gateway.closeTunnels(session);
    gateway.fault({ kind: 'status', status: 502, session, times: Infinity });
    const before = gateway.log.length;
    expect(await get(one)).not.toBe(session);
    expect(await get(other)).not.toBe(session);
    // Only the first had to find out.
    expect(gateway.log.slice(before).filter((ask) => ask.session === session)).toHaveLength(1);
  });

  it('keep to the concurrency of the pool together', async () => {
    await target.close();
    let inside = 0;
    let most = 0;
    target = await mockTarget({
      handler: async () => {
        most = Math.max(most, ++inside);
        await new Promise((resolve) => setTimeout(resolve, 20));
        inside--;
        return undefined;
      },
    });
    await gateway.close();
    gateway = await mockGateway({ exits: 4, hosts: { 'shop.test': target.url } });
    const pools = { default: { gateway: gateway.url, concurrency: 3 } };
    const options = { gateway: undefined, pools, targets: shopBudget(1000, 1000), adaptive: false as const };
    const crew = [worker(options), worker(options), worker(options)];
    await Promise.all(crew.flatMap((one) => Array.from({ length: 10 }, () => get(one))));
    expect(most).toBe(3);
  });
});
