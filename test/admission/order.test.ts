import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WaiterList } from '../../src/waiters.ts';
import { Desk, proxies } from '../support/at-admission.ts';

describe('who is next', () => {
  it('first come, first served, a window at a time', async () => {
    const desk = new Desk({ policy: { limit: 2 } });
    const clients = Array.from({ length: 7 }, () => desk.come({ then: (client) => client.answer() }));
    expect(desk.served).toEqual([0, 1]);
    await desk.clock.runUntilIdle(1000);
    expect(desk.served).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(clients.map(({ at }) => at)).toEqual([0, 0, 100, 100, 200, 200, 300]);
  });

  it('higher priority first, first come first served within one', async () => {
    const desk = new Desk({ policy: { limit: 1 } });
    const priorities = [0, 0, 5, -1, 5, 0.5, 0];
    for (const priority of priorities) desk.come({ priority, then: (client) => client.answer() });
    await desk.clock.runUntilIdle(1000);
    expect(desk.served).toEqual([0, 2, 4, 5, 1, 6, 3]);
  });

  it('who lost his turn through no fault of his own is first again, of his priority', async () => {
    const desk = new Desk({ policy: { limit: 1 } });
    const then = (client: { answer(): void }): void => client.answer();
    desk.come({ then });
    desk.come({ then });
    desk.come({ then, front: true });
    desk.come({ then, priority: 1 });
    desk.come({ then, front: true });
    await desk.clock.runUntilIdle(1000);
    expect(desk.served).toEqual([0, 3, 4, 2, 1]);
  });

  it('a newcomer does not overtake those who wait for the instant at which a slot is free', async () => {
    const desk = new Desk({ policy: { limit: 1 } });
    const then = (client: { answer(): void }): void => client.answer();
    desk.come({ then });
    desk.come({ then });
    desk.clock.advanceSync(99.9);
    desk.come({ then });
    await desk.clock.runUntilIdle(1000);
    expect(desk.served).toEqual([0, 1, 2]);
  });
});

describe('abort', () => {
  it('while queued: the turn goes to the next', async () => {
    const desk = new Desk({ policy: { limit: 1 } });
    const [first, second, third] = [desk.come(), desk.come(), desk.come()];
    first.answer();
    second.leave();
    await desk.clock.runUntilIdle(1000);
    expect([second.at, third.at]).toEqual([undefined, 100]);
  });

  it('after the grant: the slot goes to the next at once', () => {
    const desk = new Desk({ policy: { limit: 1 } });
    const [first, second] = [desk.come(), desk.come()];
    desk.clock.advanceSync(30);
    first.cancel();
    expect(second.at).toBe(30);
    expect(desk.busy).toBe(1);
  });

  it('after the grant, with a rate and even spacing: their shares, too', () => {
    const rate = { limit: 1, windowMs: 1000, burst: 1 };
    const desk = new Desk({ policy: { limit: 2, spacingMs: 50, rates: [rate], concurrency: 1 } });
    const [first, second] = [desk.come(), desk.come()];
    first.cancel();
    expect(second.at).toBe(0);
  });

  it('of the last one in the queue leaves no timer', () => {
    const desk = new Desk({ policy: { limit: 1 } });
    const [first, second, third] = [desk.come(), desk.come(), desk.come({ maxWaitMs: 500 })];
    first.answer();
    expect(desk.clock.pending).toBe(2);
    second.leave();
    third.leave();
    expect([desk.clock.pending, desk.admission.waiting]).toEqual([0, 0]);
    third.leave();
    expect(desk.admission.waiting).toBe(0);
  });

  it('from within another one’s grant is heard', () => {
    const desk = new Desk({ policy: { limit: 1 } });
    const first = desk.come();
    const second = desk.come({ then: () => third.leave() });
    const third = desk.come();
    const fourth = desk.come();
    first.cancel();
    second.cancel();
    expect([third.at, fourth.at]).toEqual([undefined, 0]);
  });
});

describe('pools and targets', () => {
  it('the places of a pool are shared fairly between targets', () => {
    const desk = new Desk({ policy: { limit: 1000 }, pools: { pool: proxies(1, { concurrency: 2 }) } });
    const targets = ['a.test', 'b.test', 'c.test'];
    // One target has many more in line than the others.
    for (let i = 0; i < 30; i++) desk.come({ target: 'a.test' });
    for (let i = 0; i < 5; i++) for (const target of ['b.test', 'c.test']) desk.come({ target });
    const order: string[] = [];
    for (let done = 0; done < 40; done++) {
      const client = desk.clients[desk.served[done]];
      order.push(client.queue.key);
      client.answer();
    }
    for (const target of targets) {
      const share = order.slice(2, 17).filter((one) => one === target).length;
      expect(share, target).toBe(5);
    }
    expect(order).toHaveLength(40);
    expect(desk.pool.inUse).toBe(0);
  });

  it('never more requests than a pool has places, whatever the targets', async () => {
    const desk = new Desk({ policy: { limit: 1000 }, pools: { pool: proxies(5, { concurrency: 7 }) } });
    let most = 0;
    for (let i = 0; i < 100; i++) {
      desk.come({
        target: `${i % 9}.test`,
        then(client) {
          most = Math.max(most, client.pool.inUse);
          desk.clock.setTimeout(() => client.answer(), 10 + (i % 7));
        },
      });
    }
    await desk.clock.runUntilIdle(10_000);
    expect(most).toBe(7);
    expect(desk.served).toHaveLength(100);
  });

  it('target concurrency: the next goes when one has ended, not when its headers came', () => {
    const desk = new Desk({ policy: { limit: 100, concurrency: 2 } });
    const [first, second, third, fourth] = Array.from({ length: 4 }, () => desk.come());
    desk.admission.settle(first.queue, {
      grant: first.grant!,
      outcome: 'ok',
      retryAfterMs: undefined,
      graceMs: 0,
      end: false,
    });
    expect(third.at).toBeUndefined();
    first.answer();
    expect([third.waiting, fourth.waiting]).toEqual([false, true]);
    second.cancel();
    expect(fourth.waiting).toBe(false);
    expect(desk.active).toBe(2);
  });

  it('target concurrency is shared in turn between those of different pools and sessions', () => {
    const pools = { one: proxies(1), two: { gateway: 'http://u-{session}:p@gw.test:1', concurrency: 100 } };
    const desk = new Desk({ policy: { limit: 1000, concurrency: 1 }, pools });
    const pin = desk.pools.get('two')!.stick('mine');
    for (let i = 0; i < 10; i++) desk.come({ pool: 'one' });
    for (let i = 0; i < 10; i++) desk.come({ pool: 'two' });
    for (let i = 0; i < 10; i++) desk.come({ pool: 'two', pin });
    const order: number[] = [];
    for (let done = 0; done < 30; done++) {
      const number = desk.served[done];
      order.push(Math.floor(number / 10));
      desk.clients[number].answer();
    }
    for (const lane of [0, 1, 2]) expect(order.slice(1, 13).filter((one) => one === lane).length).toBe(4);
    // One question for each that goes, and one that is in vain.
    expect(desk.store.reserves).toBeLessThan(30 * 2 + 30);
  });

  it('who may go when the rate allows is not held up by those whose pool is full then', async () => {
    const pools = { full: proxies(1, { concurrency: 1 }), free: proxies(1) };
    const desk = new Desk({ policy: { limit: 9, rates: [{ limit: 10, windowMs: 100, burst: 1 }] }, pools });
    desk.come({ pool: 'free' });
    const [held, goes] = [desk.come({ pool: 'full' }), desk.come({ pool: 'free' })];
    const elsewhere = desk.come({ pool: 'full', target: 'other.test' });
    await desk.clock.advance(10);
    expect([held.waiting, goes.at]).toEqual([true, 10]);
    elsewhere.answer();
    await desk.clock.advance(10);
    expect(held.at).toBe(20);
  });

  it('who asked for a certain route waits for that one, and holds up nobody else', async () => {
    const desk = new Desk({ policy: { limit: 1 }, pools: { pool: proxies(3) } });
    const pin = desk.pool.stick('mine');
    const first = desk.come({ pin });
    const [second, third] = [desk.come({ pin }), desk.come()];
    expect([second.waiting, third.waiting]).toEqual([true, false]);
    expect(third.grant!.egress).not.toBe(pin.egress);
    first.answer();
    await desk.clock.runUntilIdle(1000);
    expect([second.at, second.grant!.route]).toEqual([100, pin]);
  });

  it('a session that was opened anew under the same name does not cut off those who wait for the old one', async () => {
    const desk = new Desk({
      policy: { limit: 1 },
      pools: { pool: { gateway: 'http://u-{session}:p@gw.test:1', concurrency: 10 } },
    });
    const [old, anew] = [desk.pool.stick('mine'), desk.pool.stick('mine')];
    const clients = [old, old, anew, anew].map((pin) => desk.come({ pin, then: (client) => client.answer() }));
    await desk.clock.runUntilIdle(1000);
    expect(clients.every(({ grant, waiting }) => grant !== undefined && !waiting)).toBe(true);
  });
});

describe('WaiterList', () => {
  interface Item {
    readonly number: number;
    readonly priority: number;
    before: Item | undefined;
    after: Item | undefined;
    level: undefined;
  }

  it('is a list sorted by priority, in order of arrival, whoever leaves from wherever', () => {
    const work = fc.array(
      fc.record({
        do: fc.constantFrom('push', 'push', 'push', 'unshift', 'shift', 'remove'),
        priority: fc.integer({ min: -1, max: 2 }),
        which: fc.nat(),
      }),
      { maxLength: 200 },
    );
    fc.assert(
      fc.property(work, (steps) => {
        const list = new WaiterList<Item>();
        let model: Item[] = [];
        for (const [number, { do: what, priority, which }] of steps.entries()) {
          const item: Item = { number, priority, before: undefined, after: undefined, level: undefined };
          if (what === 'push') {
            list.push(item);
            const at = model.findIndex((other) => other.priority < priority);
            model.splice(at < 0 ? model.length : at, 0, item);
          } else if (what === 'unshift') {
            list.unshift(item);
            const at = model.findIndex((other) => other.priority <= priority);
            model.splice(at < 0 ? model.length : at, 0, item);
          } else if (what === 'shift') expect(list.shift()).toBe(model.shift());
          else if (model.length > 0) {
            const gone = model[which % model.length];
            list.remove(gone);
            list.remove(gone);
            model = model.filter((other) => other !== gone);
          }
          expect(list.size).toBe(model.length);
          expect(list.head).toBe(model[0]);
        }
        expect(Array.from({ length: model.length }, () => list.shift())).toEqual(model);
      }),
    );
  });
});
