import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/clock.ts';
import { BudgetExceededError, QueueTimeoutError } from '../../src/errors.ts';
import type { VirtualClock } from '../../src/testing/virtual-clock.ts';
import { type Client, CountingStore, Desk, LateStore, proxies } from '../support/at-admission.ts';

const afterMicrotask = (clock: VirtualClock): LateStore => new LateStore(clock, () => Promise.resolve());

const afterMs =
  (ms: number) =>
  (clock: VirtualClock): LateStore =>
    new LateStore(clock, () => new Promise((resolve) => void clock.setTimeout(resolve, ms)));

describe('a store that answers later', () => {
  it('a microtask later: the same grants at the same times as one that answers at once', async () => {
    const run = async (store: (clock: VirtualClock) => CountingStore): Promise<unknown[]> => {
      const desk = new Desk({
        policy: { limit: 3, spacingMs: 5, concurrency: 7 },
        pools: { pool: proxies(4, { concurrency: 9 }) },
        store,
      });
      const random = seededRandom(3);
      for (let i = 0; i < 120; i++) {
        const latency = 1 + random() * 40;
        const client = desk.come({
          priority: Math.floor(random() * 3),
          then: (one) => void desk.clock.setTimeout(() => (i % 9 === 0 ? one.cancel() : one.answer()), latency),
        });
        await desk.clock.advance(random() * 6);
        if (i % 11 === 0 && client.waiting) client.leave();
      }
      await desk.clock.runUntilIdle(1e6);
      expect(desk.active).toBe(0);
      return desk.clients.map(({ at, grant }) => [at, grant?.egress]);
    };
    expect(await run(afterMicrotask)).toEqual(await run((clock) => new CountingStore(clock)));
  });

  it('a round trip later: in order, each once, and no more than the pool has places for', async () => {
    const desk = new Desk({
      policy: { limit: 50 },
      pools: { pool: proxies(2, { concurrency: 3 }) },
      store: afterMs(4),
    });
    let most = 0;
    for (let i = 0; i < 60; i++) {
      desk.come({
        target: `${i % 4}.test`,
        then(client) {
          most = Math.max(most, desk.pool.inUse);
          desk.clock.setTimeout(() => client.answer(), 10);
        },
      });
    }
    await desk.clock.runUntilIdle(100_000);
    expect(most).toBe(3);
    expect(desk.store.granted).toBe(60);
    for (let target = 0; target < 4; target++) {
      const served = desk.served.filter((number) => number % 4 === target);
      expect(served).toEqual([...served].sort((a, b) => a - b));
      expect(served).toHaveLength(15);
    }
    expect([desk.pool.inUse, desk.pool.asked, desk.active]).toEqual([0, 0, 0]);
  });

  it('asks once for all who came while it was being asked', async () => {
    const desk = new Desk({ policy: { limit: 1000 }, pools: { pool: proxies(2) }, store: afterMs(5) });
    for (let i = 0; i < 200; i++) desk.come();
    await desk.clock.advance(20);
    expect(desk.served).toHaveLength(200);
    expect(desk.store.reserves).toBe(2);
  });

  it('asks once more for many while it is being asked, and no oftener', async () => {
    const desk = new Desk({ policy: { limit: 1000 }, pools: { pool: proxies(2) }, store: afterMs(5) });
    for (let i = 0; i < 1100; i++) desk.come();
    await desk.clock.runUntilIdle(1000);
    expect(desk.served).toEqual(Array.from({ length: 1100 }, (_, i) => i));
    // One at 0 ms, 512 at 10, as many again at 20, and who is left at 30; their answers come 10 ms later.
    expect([0, 1, 512, 513, 1024, 1025, 1099].map((i) => desk.clients[i].at)).toEqual([10, 20, 20, 30, 30, 40, 40]);
    expect(desk.store.reserves).toBe(6);
    expect([desk.store.granted, desk.pool.inUse, desk.pool.asked]).toEqual([1100, 1100, 0]);
  });

  it.each([1, 2, 3, 4, 5])(
    'loses nobody among many who come, leave and are answered, in whatever order it answers: %i',
    async (seed) => {
      const random = seededRandom(seed);
      const desk = new Desk({
        policy: { limit: 300, windowMs: 400, concurrency: seed % 2 === 0 ? 700 : undefined },
        pools: { pool: proxies(4, { concurrency: seed % 3 === 0 ? 800 : 5000 }) },
        store: (clock) =>
          new LateStore(clock, () => new Promise((resolve) => void clock.setTimeout(resolve, random() * 9))),
      });
      let most = 0;
      for (let i = 0; i < 4000; i++) {
        const client = desk.come({
          then(one) {
            most = Math.max(most, desk.pool.inUse);
            desk.clock.setTimeout(() => (i % 9 === 0 ? one.cancel() : one.answer()), random() * 40);
          },
        });
        if (i % 1000 === 999) await desk.clock.advance(random() * 60);
        if (i % 7 === 0 && client.waiting) client.leave();
      }
      await desk.clock.runUntilIdle(1e6);
      expect(desk.clients.filter(({ waiting }) => waiting)).toEqual([]);
      expect(most).toBeLessThanOrEqual(desk.pool.options.concurrency);
      expect([desk.pool.inUse, desk.pool.asked, desk.active, desk.busy]).toEqual([0, 0, 0, 0]);
    },
  );

  it('a permit for somebody who left meanwhile goes to the next, or back', async () => {
    const desk = new Desk({ policy: { limit: 1 }, store: afterMs(5) });
    const [first, second] = [desk.come(), desk.come()];
    first.leave();
    await desk.clock.advance(10);
    expect(second.at).toBe(10);
    second.cancel();
    const third = desk.come();
    await desk.clock.advance(7);
    third.leave();
    await desk.clock.advance(50);
    expect([desk.busy, desk.clock.pending]).toEqual([0, 0]);
  });

  it('what is settled while it answers is not lost', async () => {
    const desk = new Desk({ policy: { limit: 1, concurrency: 1 }, store: afterMs(5) });
    const first = desk.come();
    await desk.clock.advance(10);
    const second = desk.come();
    await desk.clock.advance(6); // decided: all in flight; the answer is on its way
    const store = desk.store.inner;
    store.settle('shop.test', [{ grant: first.grant!, outcome: 'ok', retryAfterMs: undefined, graceMs: 0, end: true }]);
    first.answer();
    await desk.clock.runUntilIdle(1000);
    expect(second.at).toBeLessThanOrEqual(16 + 100 + 30);
  });

  it('fails those at once who cannot wait for so long, as soon as it is known', async () => {
    const desk = new Desk({ policy: { limit: 1, windowMs: 1000 }, store: afterMs(5) });
    desk.come({ then: (client) => client.answer() });
    await desk.clock.advance(50);
    const [hasty, patient] = [desk.come({ maxWaitMs: 500 }), desk.come({ maxWaitMs: 5000 })];
    const behind = desk.come({ maxWaitMs: 500 });
    await desk.clock.advance(10);
    expect(hasty.error).toBeInstanceOf(BudgetExceededError);
    expect(behind.error).toBeInstanceOf(BudgetExceededError);
    expect([hasty.at, behind.at, patient.waiting]).toEqual([60, 60, true]);
  });

  it('does not hold against a newcomer what was known before he came', async () => {
    const desk = new Desk({ policy: { limit: 1, windowMs: 1000 }, store: afterMs(5) });
    const first = desk.come();
    await desk.clock.advance(10);
    first.answer();
    const second = desk.come();
    await desk.clock.advance(20);
    second.leave();
    await desk.clock.advance(985);
    const third = desk.come({ maxWaitMs: 300 });
    expect(third.error).toBeUndefined();
    await desk.clock.advance(20);
    expect(third.grant).toBeDefined();
  });

  it('who is woken while it answers asks again', async () => {
    const desk = new Desk({ policy: { limit: 1 }, store: afterMs(5) });
    const first = desk.come();
    await desk.clock.advance(10);
    const second = desk.come();
    await desk.clock.advance(6); // decided: all in flight; the answer is on its way
    desk.store.inner.cancel('shop.test', [first.grant!]);
    desk.admission.wake(first.queue);
    await desk.clock.advance(14);
    expect(second.at).toBe(30);
  });

  it('gives up by the timer while the store does not answer', async () => {
    const desk = new Desk({ store: afterMs(1e6) });
    const client = desk.come({ maxWaitMs: 30 });
    await desk.clock.advance(30);
    expect(client.error).toBeInstanceOf(QueueTimeoutError);
  });

  it('closed while it answers: nobody is served any more, and what it grants goes back', async () => {
    const desk = new Desk({ policy: { limit: 5 }, store: afterMs(5) });
    const clients = [desk.come(), desk.come()];
    await desk.clock.advance(7);
    const error = new Error('the end');
    desk.admission.close(error);
    await desk.clock.runUntilIdle(100);
    expect(clients.map((client) => client.error)).toEqual([error, error]);
    expect([desk.busy, desk.active, desk.pool.asked, desk.clock.pending]).toEqual([0, 0, 0, 0]);
  });
});

describe('a store that fails', () => {
  it('on reserve, later: those who wait are refused with its error, the next are served again', async () => {
    const desk = new Desk({ policy: { limit: 9 }, store: afterMs(5), pools: { pool: proxies(1, { concurrency: 1 }) } });
    const store = desk.store as LateStore;
    store.failure = new Error('gone away');
    const clients = [desk.come(), desk.come({ maxWaitMs: 1000 }), desk.come()];
    const elsewhere = desk.come({ target: 'other.test' });
    await desk.clock.advance(5);
    for (const client of clients)
      expect(client.error).toMatchObject({ code: 'PACELINE_STORE', message: expect.stringContaining('gone away') });
    // The other target waited for the places that these were going to have.
    await desk.clock.advance(5);
    expect(elsewhere.error).toBeDefined();
    expect(desk.failures).toEqual([store.failure, store.failure]);
    expect([desk.clock.pending, desk.pool.asked]).toEqual([0, 0]);
    store.failure = undefined;
    const next = desk.come();
    await desk.clock.advance(20);
    expect(next.grant).toBeDefined();
  });

  it('on reserve, while the timer is set: it is set no longer', async () => {
    const desk = new Desk({ policy: { limit: 1 }, store: afterMs(5) });
    desk.come({ then: (client) => client.answer() });
    await desk.clock.advance(20);
    const client = desk.come();
    await desk.clock.advance(20);
    expect([client.waiting, desk.clock.pending]).toEqual([true, 1]);
    (desk.store as LateStore).failure = new Error('gone away');
    desk.admission.wake(client.queue);
    await desk.clock.advance(5);
    expect([client.waiting, desk.clock.pending]).toEqual([false, 0]);
  });

  it('on reserve, at once: the same', () => {
    const desk = new Desk();
    const reserve = desk.store.reserve.bind(desk.store);
    desk.store.reserve = () => {
      throw new Error('locked');
    };
    const client = desk.come();
    expect(client.error).toMatchObject({ code: 'PACELINE_STORE', message: expect.stringContaining('locked') });
    desk.store.reserve = reserve;
    expect(desk.come().grant).toBeDefined();
    expect(desk.clock.pending).toBe(0);
  });

  it('on settle and cancel, at once or later: it is reported, and nobody waits for ever', async () => {
    const failing: ((desk: Desk) => void)[] = [
      ({ store }) => {
        const fault = () => {
          throw new Error('locked');
        };
        Object.assign(store, { settle: fault, cancel: fault });
      },
      ({ store }) => {
        const reject = () => Promise.reject(new Error('locked'));
        Object.assign(store, { settle: reject, cancel: reject });
      },
    ];
    for (const fail of failing) {
      const desk = new Desk({ policy: { limit: 2 }, deadlineMs: 500 });
      fail(desk);
      const clients: Client[] = [desk.come(), desk.come(), desk.come()];
      clients[0].answer();
      clients[1].cancel();
      await desk.clock.advance(0);
      expect(desk.failures).toHaveLength(2);
      await desk.clock.advance(600);
      expect(clients[2].at).toBe(600);
      expect(desk.pool.inUse).toBe(1);
    }
  });
});
