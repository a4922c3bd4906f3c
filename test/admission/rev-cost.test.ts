import { expect, it } from 'vitest';
import type { VirtualClock } from '../../src/testing/virtual-clock.ts';
import { Desk, LateStore, proxies } from '../support/at-admission.ts';

const afterMs =
  (ms: number) =>
  (clock: VirtualClock): LateStore =>
    new LateStore(clock, () => new Promise((resolve) => void clock.setTimeout(resolve, ms)));

it('a permit of cost 1 is not handed to one who needs 3', async () => {
  const desk = new Desk({ policy: { limit: 5, windowMs: 10_000 }, pools: { pool: proxies(1) }, store: afterMs(5) });
  const a = desk.come({ cost: 1 });
  const b = desk.come({ cost: 3 });
  await desk.clock.advance(2);
  a.leave();
  await desk.clock.runUntilIdle(100);
  const busy = desk.busy;
  expect([b.waiting, busy]).toEqual([false, 3]);
});
it('nor to one of a higher priority who came meanwhile', async () => {
  const desk = new Desk({ policy: { limit: 5, windowMs: 10_000 }, pools: { pool: proxies(1) }, store: afterMs(5) });
  desk.come({ cost: 1 });
  await desk.clock.advance(2);
  const b = desk.come({ cost: 3, priority: 1 });
  await desk.clock.advance(9);
  expect([b.waiting, desk.busy]).toEqual([true, 1]);
});
it('many come and go with costs: what each is granted is what it needs', async () => {
  const desk = new Desk({ policy: { limit: 5000, windowMs: 10_000 }, pools: { pool: proxies(1) }, store: afterMs(5) });
  for (let i = 0; i < 700; i++) desk.come();
  await desk.clock.advance(1);
  for (let i = 0; i < 5; i++) desk.come({ cost: 3, priority: 1 });
  await desk.clock.runUntilIdle(1000);
  expect(desk.busy).toBe(715);
});
