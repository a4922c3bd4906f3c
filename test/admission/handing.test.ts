import { describe, expect, it } from 'vitest';
import type { VirtualClock } from '../../src/testing/virtual-clock.ts';
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
