import { BudgetExceededError, DeadlineError, QueueTimeoutError } from 'paceline';
import { type MockTarget, mockGateway, mockTarget, virtualClock } from 'paceline/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { failureOf } from '../support/failing.ts';
import { closeClean, pacedManager } from '../support/paced.ts';
import { eventually, resourceBaseline } from '../support/resources.ts';

// Every limit ends in its own error, at its time, and leaves nothing behind: no waiter, no socket, no timer.

let target: MockTarget;

beforeEach(async () => {
  target = await mockTarget({
    handler: ({ path }) => {
      if (path === '/late') return { delayMs: 3_600_000 };
      if (path === '/503') return { status: 503 };
      return path === '/large' ? { body: Buffer.alloc(4_000_000) } : undefined;
    },
  });
});
afterEach(() => target.close());

/** One request a minute, evenly: everything after the first waits. */
const SLOW = [{ match: '127.0.0.1', budget: { limit: 1, windowMs: 60_000 } }];

async function within<T>(limitMs: number, work: () => Promise<T>): Promise<T> {
  const startedAt = performance.now();
  const result = await work();
  expect(performance.now() - startedAt).toBeLessThan(limitMs);
  return result;
}

describe('timeouts.totalMs', () => {
  it('ends the wait for a permit', async () => {
    await using proxies = pacedManager({ targets: SLOW, timeouts: { totalMs: 300 } });
    await (await proxies.fetch(target.url)).text();
    const error = await within(5000, () => failureOf(proxies.fetch(target.url)));
    expect(error).toBeInstanceOf(DeadlineError);
    expect(error).toMatchObject({ code: 'PACELINE_TIMEOUT', totalMs: 300 });
    expect([target.arrivals.length, (await proxies.stats()).waiting]).toEqual([1, 0]);
  });

  it('ends an attempt under way', async () => {
    await using proxies = pacedManager({ timeouts: { totalMs: 300 } });
    expect(await within(5000, () => failureOf(proxies.fetch(`${target.url}/late`)))).toBeInstanceOf(DeadlineError);
    expect(target.arrivals).toHaveLength(1);
    await eventually(() => target.connections).toBe(0);
  });

  it('ends the pause between two attempts', async () => {
    await using proxies = pacedManager({
      timeouts: { totalMs: 300 },
      retry: { baseMs: 60_000, capMs: 60_000 },
      random: () => 0.9,
    });
    expect(await within(5000, () => failureOf(proxies.fetch(`${target.url}/503`)))).toBeInstanceOf(DeadlineError);
    expect(target.arrivals).toHaveLength(1);
  });

  it('holds over all attempts together', async () => {
    await using proxies = pacedManager({
      timeouts: { totalMs: 150 },
      retry: { baseMs: 100, capMs: 100, attempts: 100 },
    });
    expect(await within(5000, () => failureOf(proxies.fetch(`${target.url}/503`)))).toBeInstanceOf(DeadlineError);
    expect(target.arrivals.length).toBeLessThan(50);
  });

  it('ends the body', async () => {
    await using gateway = await mockGateway();
    await using proxies = pacedManager({ gateway: gateway.url, timeouts: { totalMs: 200 } });
    // Nobody reads: the body stands still behind its backpressure.
    const response = await proxies.fetch(`${target.url}/large`);
    expect(response.status).toBe(200);
    await eventually(() => target.connections).toBe(0);
    expect(await failureOf(response.text())).toBeInstanceOf(DeadlineError);
  });

  it('is over with the body: its timer is gone, and a later end changes nothing', async () => {
    const clock = virtualClock();
    await using proxies = pacedManager({ clock, timeouts: { totalMs: 1000 } });
    for (const path of ['/', '/large']) {
      await (await proxies.fetch(target.url + path)).arrayBuffer();
      await eventually(() => clock.pending).toBe(0);
    }
    await proxies.fetch('data:text/plain,x');
    expect(clock.pending).toBe(0);
    await failureOf(proxies.fetch('not a url'));
    expect(clock.pending).toBe(0);
  });

  it('stands beside the signal of the caller: the first one decides', async () => {
    await using proxies = pacedManager({ timeouts: { totalMs: 5000 } });
    const error = await failureOf(proxies.fetch(`${target.url}/late`, { signal: AbortSignal.timeout(50) }));
    expect(error).toMatchObject({ name: 'TimeoutError' });
    const patient = { signal: new AbortController().signal };
    await using hurried = pacedManager({ timeouts: { totalMs: 50 } });
    expect(await failureOf(hurried.fetch(`${target.url}/late`, patient))).toBeInstanceOf(DeadlineError);
  });
});

describe('timeouts.queueMs', () => {
  it('is a QueueTimeoutError where the end of the wait is not known', async () => {
    await using proxies = pacedManager({
      pools: { direct: { direct: true, concurrency: 1 } },
      timeouts: { queueMs: 60, headersMs: 10_000 },
    });
    const controller = new AbortController();
    const holding = failureOf(proxies.fetch(`${target.url}/late`, { signal: controller.signal }));
    await target.arrived(1);
    const error = await within(5000, () => failureOf(proxies.fetch(target.url)));
    expect(error).toBeInstanceOf(QueueTimeoutError);
    expect(error).toMatchObject({ code: 'PACELINE_QUEUE_TIMEOUT', target: '127.0.0.1' });
    expect((error as QueueTimeoutError).waitedMs).toBeGreaterThanOrEqual(59);
    controller.abort();
    await holding;
    expect([target.arrivals.length, (await proxies.stats()).waiting]).toEqual([1, 0]);
  });

  it('is a BudgetExceededError at once where the wait is known to be longer', async () => {
    await using proxies = pacedManager({ targets: SLOW, timeouts: { queueMs: 5000 } });
    await proxies.fetch(target.url);
    expect(await within(5000, () => failureOf(proxies.fetch(target.url)))).toBeInstanceOf(BudgetExceededError);
  });
});

describe('pace.maxWaitMs', () => {
  it('is a BudgetExceededError at once where the wait is known to be longer, and says how long', async () => {
    await using proxies = pacedManager({ targets: SLOW });
    await proxies.fetch(target.url);
    const error = await within(5000, () => failureOf(proxies.fetch(target.url, { pace: { maxWaitMs: 50_000 } })));
    expect(error).toBeInstanceOf(BudgetExceededError);
    expect(error).toMatchObject({ code: 'PACELINE_BUDGET_EXCEEDED', target: '127.0.0.1', maxWaitMs: 50_000 });
    expect((error as BudgetExceededError).waitMs).toBeGreaterThan(50_000);
    expect(target.arrivals).toHaveLength(1);
  });

  it('is known to be too short by who hears that the slot is used', async () => {
    await using proxies = pacedManager({ targets: SLOW });
    const first = Promise.withResolvers<unknown>();
    proxies.on('settle', () => first.resolve(failureOf(proxies.fetch(target.url, { pace: { maxWaitMs: 5000 } }))));
    await proxies.fetch(target.url);
    expect(await within(4000, () => first.promise)).toBeInstanceOf(BudgetExceededError);
  });

  it('of 0 sends what can go now and nothing else', async () => {
    await using proxies = pacedManager({
      targets: [{ match: '127.0.0.1', budget: { limit: 3, windowMs: 60_000, spacing: 'burst' } }],
    });
    const all = Array.from({ length: 8 }, () => proxies.fetch(target.url, { pace: { maxWaitMs: 0 } }));
    const settled = await Promise.allSettled(all);
    expect(settled.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    expect(target.arrivals).toHaveLength(3);
  });
});

describe('a response that does not come', () => {
  it('headersMs: is tried again, then a RetriesExhaustedError', async () => {
    const released = resourceBaseline();
    await using gateway = await mockGateway();
    const proxies = pacedManager({ gateway: gateway.url, timeouts: { headersMs: 60 }, retry: { attempts: 2 } });
    const error = await within(5000, () => failureOf(proxies.fetch(`${target.url}/late`)));
    expect(error).toMatchObject({
      name: 'RetriesExhaustedError',
      attempts: 2,
      cause: { cause: { code: 'UND_ERR_HEADERS_TIMEOUT' } },
    });
    expect(target.arrivals).toHaveLength(2);
    await closeClean(proxies, { gateway, target });
    await gateway.close();
    await target.close();
    await released();
  });

  it('headersMs: a POST is not sent twice', async () => {
    await using proxies = pacedManager({ timeouts: { headersMs: 60 } });
    const error = await failureOf(proxies.fetch(`${target.url}/late`, { method: 'POST', body: 'x' }));
    expect(error).toMatchObject({ name: 'TypeError', cause: { code: 'UND_ERR_HEADERS_TIMEOUT' } });
    expect(target.arrivals).toHaveLength(1);
  });

  it('bodyMs: a body that stands still fails where it is read', async () => {
    await using gateway = await mockGateway();
    gateway.fault({ kind: 'silence', at: 'body', afterBytes: 1000 });
    await using proxies = pacedManager({ gateway: gateway.url, timeouts: { bodyMs: 80 } });
    const response = await proxies.fetch(`${target.url}/large`);
    const error = await within(5000, () => failureOf(response.text()));
    expect(error).toMatchObject({ name: 'TypeError', message: 'terminated', cause: { code: 'UND_ERR_BODY_TIMEOUT' } });
    expect((await proxies.stats()).inFlight).toBe(0);
  });
});
