import { describe, expect, it } from 'vitest';
import type { Demand, Reservation } from '../../src/store/store.ts';
import type { VirtualClock } from '../../src/testing/virtual-clock.ts';
import { BREAKER } from '../support/adapting.ts';
import { type Client, Desk, LateStore, proxies } from '../support/at-admission.ts';

const late = (clock: VirtualClock): LateStore =>
  new LateStore(clock, () => new Promise((resolve) => void clock.setTimeout(resolve, 5)));

describe('who is given a permit, when others came or left while the store was asked, has as many slots as it asked for', () => {
  it('after one of another cost has left', async () => {
    const desk = new Desk({ policy: { limit: 5 }, store: late });
    const small = desk.come();
    const large = desk.come({ cost: 3 });
    await desk.clock.advance(2);
    small.leave();
    await desk.clock.runUntilIdle(1000);
    expect([large.waiting, desk.busy]).toEqual([false, 3]);
  });

  it('before one of another cost and a higher priority', async () => {
    const desk = new Desk({ policy: { limit: 5 }, store: late });
    const small = desk.come();
    await desk.clock.advance(2);
    const large = desk.come({ cost: 3, priority: 1 });
    await desk.clock.runUntilIdle(1000);
    expect([small.at, large.at, desk.busy]).toEqual([10, 20, 4]);
  });

  it('in the midst of many', async () => {
    const desk = new Desk({ policy: { limit: 5000 }, store: late });
    for (let i = 0; i < 700; i++) desk.come();
    await desk.clock.advance(2);
    for (let i = 0; i < 5; i++) desk.come({ cost: 3, priority: 1 });
    await desk.clock.runUntilIdle(1000);
    expect([desk.served.length, desk.busy]).toEqual([705, 715]);
  });
});

it('who is over as soon as it has its permit makes no more room than its own', async () => {
  const desk = new Desk({ policy: { limit: 50 }, pools: { pool: proxies(1, { concurrency: 3 }) }, store: late });
  let most = 0;
  const over = (client: Client): void => client.answer();
  const stay = (client: Client): void => {
    most = Math.max(most, desk.pool.inUse);
    desk.clock.setTimeout(() => client.answer(), 50);
  };
  // One is asked for at once, and the two after it as soon as that is answered.
  for (const then of [stay, over, stay]) desk.come({ target: 'a.test', then });
  await desk.clock.advance(12);
  for (let i = 0; i < 4; i++) desk.come({ target: 'b.test', then: stay });
  await desk.clock.runUntilIdle(10_000);
  expect([desk.served.length, most, desk.pool.inUse, desk.pool.asked]).toEqual([7, 3, 0, 0]);
});

it('a store that fails while it is asked ahead refuses those it was asked for, and nobody whose permits are there', async () => {
  let calls = 0;
  class Failing extends LateStore {
    override reserve(target: string, demand: Demand): Promise<Reservation> {
      if (++calls === 4) throw new Error('out of order');
      return super.reserve(target, demand);
    }
  }
  const desk = new Desk({
    policy: { limit: 5000 },
    store: (clock) => new Failing(clock, () => new Promise((resolve) => void clock.setTimeout(resolve, 5))),
  });
  // One, twice 256, and then no more.
  for (let i = 0; i < 1100; i++) desk.come();
  await desk.clock.runUntilIdle(1000);
  const refused = desk.clients.filter(({ error }) => error !== undefined);
  expect([desk.served.length, refused.length, desk.failures.length]).toEqual([513, 587, 1]);
  expect(desk.served).toEqual(Array.from({ length: 513 }, (_, i) => i));
  expect([desk.busy, desk.pool.asked]).toEqual([513, 0]);
});

it('permits that come when the gateway has failed meanwhile go back, and those they were for wait until it is tried again', async () => {
  const desk = new Desk({ policy: { limit: 50 }, store: late, breaker: BREAKER });
  const failing = Array.from({ length: BREAKER.minCalls }, () => desk.pool.circuit.pass());
  for (let i = 0; i < 6; i++)
    desk.come({ then: () => desk.pool.circuit.done(desk.pool.circuit.pass(), 'ok', 'x.test', desk.clock.now()) });
  await desk.clock.advance(2);
  for (const ticket of failing) desk.pool.circuit.done(ticket, 'unreachable', 'shop.test', desk.clock.now());
  const { waitMs } = desk.pool.circuit;
  expect(waitMs).toBeGreaterThan(500);
  await desk.clock.advance(100);
  expect([desk.served.length, desk.busy, desk.pool.inUse, desk.pool.asked]).toEqual([0, 0, 0, 0]);
  await desk.clock.advance(waitMs + 300);
  expect([desk.served.length, desk.busy]).toEqual([6, 6]);
});
