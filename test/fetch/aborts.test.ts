import { type MockTarget, mockGateway, mockTarget } from 'paceline/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { failureOf } from '../support/failing.ts';
import { pacedManager } from '../support/paced.ts';
import { eventually } from '../support/resources.ts';

// A request can be given up at any stage. The reason comes through as it is, and nothing is left behind.

let target: MockTarget;
beforeEach(async () => {
  target = await mockTarget({
    handler: ({ path }) => {
      if (path === '/late') return { delayMs: 3_600_000 };
      return path === '/large' ? { body: Buffer.alloc(4_000_000) } : undefined;
    },
  });
});
afterEach(() => target.close());

/** One request a minute: everything after the first waits. */
const SLOW = [{ match: '127.0.0.1', budget: { limit: 1, windowMs: 60_000 } }];

describe('the signal of the caller', () => {
  it('aborted already: nothing is sent, and the reason comes through as it is', async () => {
    await using proxies = pacedManager({});
    for (const reason of [new Error('mine'), 'text', undefined, { plain: true }]) {
      const signal = AbortSignal.abort(reason);
      expect(await failureOf(proxies.fetch(target.url, { signal }))).toBe(signal.reason);
    }
    expect(target.arrivals).toHaveLength(0);
  });

  it.each([
    ['in the queue', SLOW, '/'],
    ['while the target thinks', undefined, '/late'],
  ])('aborts %s', async (_name, targets, path) => {
    await using proxies = pacedManager({ ...(targets && { targets }) });
    if (targets) await (await proxies.fetch(target.url)).text();
    const controller = new AbortController();
    const pending = failureOf(proxies.fetch(target.url + path, { signal: controller.signal }));
    if (targets) await eventually(async () => (await proxies.stats()).waiting).toBe(1);
    else await target.arrived(1);
    controller.abort('reason');
    expect(await pending).toBe('reason');
    expect(target.arrivals).toHaveLength(1);
    const { waiting, inFlight } = await proxies.stats();
    expect([waiting, inFlight]).toEqual([0, 0]);
  });

  it('aborts a CONNECT that the gateway does not answer, and the socket goes', async () => {
    await using gateway = await mockGateway();
    gateway.fault({ kind: 'silence', times: Infinity });
    await using proxies = pacedManager({ gateway: gateway.url });
    const pending = failureOf(proxies.fetch(target.url, { signal: AbortSignal.timeout(50) }));
    expect(await pending).toMatchObject({ name: 'TimeoutError' });
    await eventually(() => gateway.stats().open).toBe(0);
  });

  it('aborts a body that is being read', async () => {
    await using proxies = pacedManager({});
    const controller = new AbortController();
    const response = await proxies.fetch(`${target.url}/large`, { signal: controller.signal });
    controller.abort('reason');
    expect(await failureOf(response.text())).toBe('reason');
    await eventually(() => target.connections).toBe(0);
  });

  it('may be shared by many requests, without listeners left on it', async () => {
    const warnings: Error[] = [];
    const listen = (warning: Error): void => void warnings.push(warning);
    process.on('warning', listen);
    await using proxies = pacedManager({ timeouts: { totalMs: 60_000 } });
    const { signal } = new AbortController();
    for (let i = 0; i < 30; i++) {
      const responses = await Promise.all([1, 2].map(() => proxies.fetch(target.url, { signal })));
      await Promise.all(responses.map((response) => response.text()));
    }
    await new Promise((resolve) => setImmediate(resolve));
    process.off('warning', listen);
    expect(warnings.map(({ message }) => message)).toEqual([]);
  });
});

it('a body that the caller cancels gives its tunnel and its place back', async () => {
  await using proxies = pacedManager({ pools: { direct: { direct: true, concurrency: 1 } } });
  for (let i = 0; i < 3; i++) {
    const response = await proxies.fetch(`${target.url}/large`);
    await response.body?.cancel();
  }
  expect((await proxies.stats()).inFlight).toBe(0);
});
