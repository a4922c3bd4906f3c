import { ConfigError, type MemoryStore, memoryStore, type ProxyManagerOptions, StoreError } from 'paceline';
import { mockGateway, mockTarget } from 'paceline/testing';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { failureOf } from '../support/failing.ts';
import { pacedManager } from '../support/paced.ts';

// A store of the caller's own may do anything: it is told, and nobody waits for ever.

const target = await mockTarget();
const gateway = await mockGateway({ exits: 4, hosts: { 'shop.test': target.url } });
afterAll(async () => {
  await gateway.close();
  await target.close();
});
afterEach(() => void vi.restoreAllMocks());

type Store = NonNullable<ProxyManagerOptions['store']>;

/** The memory store with one verb of another make. */
function broken(verb: Partial<Record<keyof Store, unknown>>): Store {
  const inner: MemoryStore = memoryStore();
  return {
    reserve: (name, demand) => inner.reserve(name, demand),
    bind: (name, grant, egress) => inner.bind(name, grant, egress),
    settle: (name, reports) => inner.settle(name, reports),
    cancel: (name, grants) => inner.cancel(name, grants),
    inspect: (name) => inner.inspect(name),
    close: () => inner.close(),
    ...verb,
  } as Store;
}

const down = (): never => {
  throw new Error('redis is down');
};
const downLater = (): Promise<never> => Promise.reject(new Error('redis is down'));

function managerWith(store: Store): { proxies: ReturnType<typeof pacedManager>; told: Error[] } {
  const proxies = pacedManager({ gateway: gateway.url, store });
  const told: Error[] = [];
  proxies.on('store-error', ({ error }) => told.push(error));
  return { proxies, told };
}

describe('a store whose bind fails', () => {
  it.each([
    ['at once', down],
    ['later', downLater],
  ])('%s ends the request with a StoreError, blames nobody, and is told', async (_, bind) => {
    const { proxies, told } = managerWith(broken({ bind }));
    const before = target.arrivals.length;
    const error = await failureOf(proxies.fetch('http://shop.test/'));
    expect(error).toBeInstanceOf(StoreError);
    expect((error as Error).message).toContain('redis is down');
    expect(told).toHaveLength(1);
    expect(told[0]).toBeInstanceOf(StoreError);
    expect(target.arrivals.length).toBe(before);
    const { outcomes } = (await proxies.stats()).targets['shop.test'];
    expect([outcomes.ignored, outcomes['network-error']]).toEqual([1, 0]);
    await proxies.close();
  });
});

describe('a store that answers', () => {
  it.each([
    ['nothing at once', () => undefined],
    ['nothing later', async () => null],
    ['something else', () => ({ grants: 'x' })],
  ])('reserve with %s: a StoreError, for those who come after, too', async (_, reserve) => {
    const { proxies, told } = managerWith(broken({ reserve }));
    for (let i = 0; i < 3; i++) expect(await failureOf(proxies.fetch('http://shop.test/'))).toBeInstanceOf(StoreError);
    expect(told).toHaveLength(3);
    await proxies.close();
  });

  it.each([
    ['at once', () => null],
    ['later', async () => null],
    ['among others', () => [null]],
  ])('settle with nothing %s: it is told, the page is there', async (_, settle) => {
    const { proxies, told } = managerWith(broken({ settle }));
    const response = await proxies.fetch('http://shop.test/');
    expect(response.status).toBe(200);
    await response.text();
    await proxies.close();
    expect(told.length).toBeGreaterThan(0);
    expect(told[0]).toBeInstanceOf(StoreError);
  });

  it.each([down, downLater])('inspect with an error: stats() tells what this process has counted', async (inspect) => {
    const { proxies } = managerWith(broken({ inspect }));
    expect(await proxies.stats()).toMatchObject({ waiting: 0, inFlight: 0, pools: { default: { requests: 0 } } });
    await proxies.close();
  });
});

describe('a fetch that goes its own way', () => {
  it('is refused: what it sent left unpaced', async () => {
    await using proxies = pacedManager({ gateway: 'http://u-{session}:p@127.0.0.1:1' });
    const own = proxies.wrap(async (url: string) => fetch(url));
    const error = await failureOf(own(target.url));
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as Error).message).toContain('init.dispatcher');
    expect((await proxies.stats()).inFlight).toBe(0);
  });
});
