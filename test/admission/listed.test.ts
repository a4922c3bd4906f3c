import { expect, it } from 'vitest';
import type { Awaitable, Demand, Reservation } from '../../src/store/store.ts';
import type { VirtualClock } from '../../src/testing/virtual-clock.ts';
import { type Client, CountingStore, Desk, LateStore, proxies } from '../support/at-admission.ts';

// Who waits must be known to all that may wake it, whatever came before it.

const late = (clock: VirtualClock): LateStore =>
  new LateStore(clock, () => new Promise((resolve) => void clock.setTimeout(resolve, 5)));

it('who comes when the last of those before was served, and another call is still out, is woken', async () => {
  const desk = new Desk({ policy: { limit: 300, windowMs: 10_000 }, pools: { pool: proxies(1) }, store: late });
  let came = false;
  let last = -1;
  const more = (client: Client): void => {
    if (came || client.number !== last) return;
    came = true;
    queueMicrotask(() => {
      for (let i = 0; i < 100; i++) desk.come();
    });
  };
  for (let i = 0; i < 700; i++) desk.come({ then: more });
  // The first is served; two calls for 256 each are out.
  await desk.clock.advance(12);
  const waiting = desk.clients.filter((client) => client.waiting);
  last = waiting[255].number;
  // What the first call brings is enough for all who are left.
  for (const client of waiting.slice(256)) client.leave();
  for (const client of desk.clients) if (client.grant !== undefined) client.answer();
  await desk.clock.runUntilIdle(1e6);
  expect(came).toBe(true);
  expect(desk.clients.filter((client) => client.waiting)).toHaveLength(0);
  expect(desk.admission.known('shop.test')?.needy.size).toBe(0);
});

it('who comes while the store is asked for one that has left is counted among those who wait', async () => {
  const desk = new Desk({ policy: { limit: 3 }, pools: { pool: proxies(1) }, store: late });
  desk.come().leave();
  for (let i = 0; i < 5; i++) desk.come();
  expect(desk.admission.waiting).toBe(5);
  await desk.clock.advance(100);
  // Three have a permit now.
  expect(desk.admission.waiting).toBe(2);
  expect(desk.admission.waiting).toBe(desk.clients.filter((client) => client.waiting).length);
});

it.each([1, 5])(
  'who comes again as soon as it is refused, since the store failed %i times at once, is served in the end',
  async (failures) => {
    let left = failures;
    class Failing extends CountingStore {
      override reserve(target: string, demand: Demand): Awaitable<Reservation> {
        if (left-- > 0) throw new Error('out of order');
        return super.reserve(target, demand);
      }
    }
    const desk = new Desk({ policy: { limit: 5 }, store: (clock) => new Failing(clock) });
    const otherwise = (): void => void desk.come({ otherwise });
    desk.come({ otherwise });
    await desk.clock.runUntilIdle(1000);
    expect(desk.clients.map(({ grant }) => grant !== undefined)).toEqual([...Array(failures).fill(false), true]);
  },
);
