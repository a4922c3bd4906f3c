import { describe, expect, it } from 'vitest';
import type { Clock } from '../../src/clock.ts';
import { BudgetExceededError, CircuitOpenError, ClosedError, QueueTimeoutError } from '../../src/errors.ts';
import type { PoolRoute } from '../../src/gateway/pool.ts';
import type { VirtualClock } from '../../src/testing/virtual-clock.ts';
import { type Client, Desk, proxies } from '../support/at-admission.ts';

const answers = { then: (client: Client): void => client.answer() };

describe('waiting costs one timer, set to a known instant', () => {
  it('one timer a target, whatever the number of those who wait', () => {
    const desk = new Desk({ policy: { limit: 1 }, pools: { pool: proxies(1), other: proxies(1) } });
    for (const target of ['a.test', 'b.test']) {
      desk.come({ target, ...answers });
      for (let i = 0; i < 2000; i++) desk.come({ target, pool: i % 2 === 0 ? 'pool' : 'other' });
    }
    expect(desk.admission.waiting).toBe(4000);
    expect(desk.clock.pending).toBe(2);
  });

  it('ends at the very millisecond at which the slot is free', async () => {
    const desk = new Desk({ policy: { limit: 1, windowMs: 1234 } });
    const first = desk.come();
    desk.clock.advanceSync(77);
    first.answer();
    const second = desk.come();
    await desk.clock.runUntilIdle(10_000);
    expect(second.at).toBe(77 + 1234);
  });

  it('is not cut short while a probe is out: that may end an outage any moment', async () => {
    const breaker = { failureRatio: 0.5, minCalls: 2, windowMs: 1000, openMs: 1000, maxOpenMs: 1000, halfOpenCalls: 1 };
    const desk = new Desk({ policy: { limit: 100, breaker: { ...breaker, probeTimeoutMs: 60_000 } } });
    for (let i = 0; i < 2; i++) desk.come().answer('target-error');
    // Open: it is known to last too long.
    expect(desk.come({ maxWaitMs: 10 }).error).toBeInstanceOf(CircuitOpenError);
    await desk.clock.advance(1000);
    const probe = desk.come();
    expect(probe.at).toBe(1000);
    const patient = desk.come({ maxWaitMs: 500 });
    const impatient = desk.come({ maxWaitMs: 100 });
    await desk.clock.advance(200);
    expect(impatient.error).toBeInstanceOf(QueueTimeoutError);
    probe.answer();
    expect(patient.at).toBe(1200);
  });

  it('ends when a proxy of a list that rested is back, though all others are booked for longer', async () => {
    const desk = new Desk({ policy: { limit: 1, windowMs: 60_000 }, pools: { list: proxies(2) } });
    desk.come().answer();
    const refused = desk.come();
    const { route } = refused.grant!;
    // It could not be dialed: it rests for a second, and the request is back in the queue.
    expect(desk.pool.failed(route as PoolRoute, false)).toBe(true);
    refused.cancel();
    const again = desk.come();
    await desk.clock.runUntilIdle(10_000);
    expect([again.at, again.grant?.egress]).toEqual([1000, route.egress]);
  });

  it('ends at the end of a cooldown, of a spacing, of a rate’s interval', async () => {
    const limited = new Desk({ policy: { limit: 9 } });
    limited.come().answer('rate-limited', { retryAfterMs: 555 });
    const afterCooldown = limited.come();
    await limited.clock.runUntilIdle(1000);
    expect(afterCooldown.at).toBe(555);

    const spaced = new Desk({ policy: { limit: 4, spacingMs: 25 } });
    const inStep = Array.from({ length: 4 }, () => spaced.come(answers));
    await spaced.clock.runUntilIdle(1000);
    expect(inStep.map(({ at }) => at)).toEqual([0, 25, 50, 75]);

    const rated = new Desk({
      policy: { limit: 9, rates: [{ limit: 5, windowMs: 100, burst: 1 }] },
      pools: { pool: proxies(9) },
    });
    const atRate = Array.from({ length: 4 }, () => rated.come(answers));
    await rated.clock.runUntilIdle(1000);
    expect(atRate.map(({ at }) => at)).toEqual([0, 20, 40, 60]);
  });

  it('nothing polls: 2,000 who wait cost about two questions for each time that something is free', async () => {
    const desk = new Desk({ policy: { limit: 4 }, pools: { pool: proxies(5) } });
    const wakeUps = new Set<number>();
    for (let i = 0; i < 2000; i++) {
      desk.come({
        then(client) {
          wakeUps.add(desk.clock.now());
          client.answer();
        },
      });
    }
    await desk.clock.runUntilIdle(100_000);
    expect(desk.served).toHaveLength(2000);
    expect(wakeUps.size).toBe(100);
    expect(desk.store.reserves).toBeLessThanOrEqual(2 * wakeUps.size + 20);
  });

  it('nothing polls while all slots are in flight', async () => {
    const desk = new Desk({ policy: { limit: 2 } });
    const clients = Array.from({ length: 2000 }, () => desk.come());
    const before = desk.store.reserves;
    await desk.clock.advance(5000);
    expect(desk.store.reserves - before).toBeLessThanOrEqual(1);
    clients[0].answer();
    await desk.clock.advance(100);
    expect(clients[2].at).toBe(5100);
  });

  it('nothing polls while sessions are on trial: asked again when one is through', async () => {
    const desk = new Desk({
      policy: { limit: 5 },
      pools: {
        pool: { gateway: 'http://u-{session}:p@gw.test:1', egress: { header: 'x-egress-ip' }, concurrency: 1000 },
      },
    });
    const dialing: Client[] = [];
    for (let i = 0; i < 200; i++) desk.come({ then: (client) => void dialing.push(client) });
    // As many as a pool dares to try at a time.
    expect(dialing).toHaveLength(4);
    const before = desk.store.reserves;
    await desk.clock.advance(900);
    expect(desk.store.reserves).toBe(before);
    for (let exit = 0; dialing.length > 0; exit++) {
      const client = dialing.shift()!;
      const route = client.grant!.route;
      desk.pool.tried(route as never);
      await desk.admission.bind(client.grant!, route.egress.startsWith('10.') ? route.egress : `10.0.0.${exit}`);
      await desk.clock.advance(0);
      if (exit === 3) break;
    }
    // All four came up: each serves its four others, and as many again are tried.
    expect(desk.served.length).toBeGreaterThanOrEqual(4 * 5 + 4);
    expect(desk.store.reserves - before).toBeLessThanOrEqual(3 * 4);
  });

  it('those who come while a session is on trial get more sessions when they are too many for it', () => {
    const desk = new Desk({
      policy: { limit: 5 },
      pools: {
        pool: { gateway: 'http://u-{session}:p@gw.test:1', egress: { header: 'x-egress-ip' }, concurrency: 1000 },
      },
    });
    for (let i = 0; i < 6; i++) desk.come();
    expect(desk.served).toHaveLength(1);
    desk.come();
    expect(desk.served).toHaveLength(2);
    for (let i = 0; i < 30; i++) desk.come();
    expect(desk.served).toHaveLength(4);
  });

  it('a session on trial that is through wakes other targets of its pool, too', async () => {
    const desk = new Desk({
      policy: { limit: 1 },
      pools: {
        pool: {
          gateway: 'http://u-{session}:p@gw.test:1',
          egress: { header: 'x-egress-ip' },
          concurrency: 1000,
          maxSessions: 1,
        },
      },
    });
    const first = desk.come({ target: 'a.test' });
    const route = first.grant!.route as never as Parameters<typeof desk.pool.tried>[0];
    const [used] = [desk.come({ target: 'b.test' }), desk.come({ target: 'b.test' })];
    expect(used.grant!.route).toBe(route);
    const waits = desk.clients[2];
    expect(waits.waiting).toBe(true);
    // Its dial fails and the session is retired: the other target may have another one at once.
    desk.pool.retire(route);
    first.cancel();
    await desk.clock.advance(0);
    expect(waits.at).toBe(0);
    expect(waits.grant!.route).not.toBe(route);
  });

  it('timers that fire up to a millisecond early do not matter', async () => {
    const early = (clock: VirtualClock): Clock => ({
      ...clock,
      now: clock.now,
      setTimeout: (callback, delayMs) => clock.setTimeout(callback, Math.max(0, delayMs - 0.999)),
    });
    const desk = new Desk({ policy: { limit: 2 }, pools: { pool: proxies(2) }, seen: early });
    const clients = Array.from({ length: 40 }, () => desk.come(answers));
    await desk.clock.runUntilIdle(10_000);
    for (const [i, { at }] of clients.entries()) {
      const free = 100 * Math.floor(i / 4);
      expect(at).toBeGreaterThanOrEqual(free);
      expect(at! - free).toBeLessThan(2 * (i / 4 + 1));
    }
    expect(desk.store.reserves).toBeLessThan(60);
  });

  it('a slot that a long cooldown does not concern is not waited for until the cooldown ends', async () => {
    const desk = new Desk({ policy: { limit: 1 }, pools: { pool: proxies(2) } });
    const [first, second, third] = [desk.come(), desk.come(), desk.come()];
    first.answer('rate-limited', { retryAfterMs: 3_600_000 });
    await desk.clock.advance(10);
    second.answer();
    await desk.clock.advance(100);
    expect(third.at).toBe(110);
  });

  it('who waits for a slot whose holder was lost gets it one window after the deadline', async () => {
    const desk = new Desk({ policy: { limit: 1 }, deadlineMs: 2000 });
    desk.come();
    const second = desk.come();
    await desk.clock.advance(2099);
    expect(second.waiting).toBe(true);
    await desk.clock.advance(1);
    expect(second.at).toBe(2100);
  });

  it('the wall clock may be set back or forward by an hour', async () => {
    for (const ms of [3_600_000, -3_600_000]) {
      const desk = new Desk({ policy: { limit: 1 } });
      const clients = Array.from({ length: 5 }, () => desk.come({ ...answers, maxWaitMs: 10_000 }));
      for (let i = 0; i < 50; i++) {
        await desk.clock.advance(10);
        desk.clock.jumpWall(i % 2 === 0 ? ms : -ms);
      }
      expect(clients.map(({ at }) => at)).toEqual([0, 100, 200, 300, 400]);
    }
  });
});

describe('how long at most', () => {
  it('fails at once when the next slot is known to be later', () => {
    const desk = new Desk({ policy: { limit: 1 } });
    desk.come(answers);
    const client = desk.come({ maxWaitMs: 99 });
    expect(client).toMatchObject({ at: 0, waiting: false });
    expect(client.error).toBeInstanceOf(BudgetExceededError);
    expect(client.error).toMatchObject({ target: 'shop.test', waitMs: 100, maxWaitMs: 99 });
    expect(desk.clock.pending).toBe(0);
  });

  it('fails at once behind others, too', () => {
    const desk = new Desk({ policy: { limit: 1 } });
    desk.come(answers);
    const patient = desk.come();
    expect(desk.come({ maxWaitMs: 50 }).error).toBeInstanceOf(BudgetExceededError);
    expect(patient.waiting).toBe(true);
    expect(desk.clock.pending).toBe(1);
  });

  it('waits when the next slot is in time, though others may be first; and then gives up by a timer', async () => {
    const desk = new Desk({ policy: { limit: 1 } });
    desk.come(answers);
    desk.come(answers);
    const client = desk.come({ maxWaitMs: 150 });
    expect(client.waiting).toBe(true);
    await desk.clock.runUntilIdle(1000);
    expect(client.at).toBe(150);
    expect(client.error).toBeInstanceOf(QueueTimeoutError);
    expect(client.error).toMatchObject({ target: 'shop.test', waitedMs: 150 });
  });

  it('waits when nothing is known: slots in flight, places of the pool, concurrency', async () => {
    const causes = [
      new Desk({ policy: { limit: 1 } }),
      new Desk({ policy: { limit: 9 }, pools: { pool: proxies(1, { concurrency: 1 }) } }),
      new Desk({ policy: { limit: 9, concurrency: 1 } }),
    ];
    for (const desk of causes) {
      const first = desk.come();
      const [timed, patient] = [desk.come({ maxWaitMs: 50 }), desk.come({ maxWaitMs: 5000 })];
      await desk.clock.advance(50);
      expect(timed.error).toBeInstanceOf(QueueTimeoutError);
      first.answer();
      await desk.clock.advance(100);
      expect(patient.grant).toBeDefined();
      expect(desk.clock.pending).toBe(0);
    }
  });

  it('does not hold against a newcomer what was known of the slots before they were given back', () => {
    const desk = new Desk({ policy: { limit: 1 }, pools: { pool: proxies(1, { concurrency: 1 }) } });
    const first = desk.come();
    first.answer();
    const second = desk.come(); // waits for 100
    second.leave();
    desk.clock.advanceSync(100);
    const third = desk.come();
    // The pool is full now, the instant of then says nothing.
    expect(third.grant).toBeDefined();
    const fourth = desk.come({ maxWaitMs: 10 });
    expect(fourth.waiting).toBe(true);
    third.cancel();
    expect(fourth.grant).toBeDefined();
  });

  it('does not fail for a budget while a session on trial may serve it', () => {
    const desk = new Desk({
      policy: { limit: 1, windowMs: 1000 },
      pools: {
        pool: { gateway: 'http://u-{session}:p@gw.test:1', egress: { header: 'x-egress-ip' }, concurrency: 100 },
      },
    });
    const first = desk.come();
    desk.pool.tried(first.grant!.route as never);
    void desk.admission.bind(first.grant!, '10.0.0.1');
    first.answer();
    expect(desk.come({ target: 'other.test' }).grant).toBeDefined();
    desk.come();
    expect(desk.come({ maxWaitMs: 500 }).waiting).toBe(true);
  });
});

describe('close', () => {
  it('without an error: nobody may join, those who wait are served', async () => {
    const desk = new Desk({ policy: { limit: 1 } });
    desk.come(answers);
    const waits = desk.come(answers);
    desk.admission.close();
    expect(desk.come().error).toBeInstanceOf(ClosedError);
    await desk.clock.runUntilIdle(1000);
    expect(waits.at).toBe(100);
  });

  it('with an error: everybody who waits gets it, wherever he waits, and no timer is left', () => {
    const desk = new Desk({ policy: { limit: 1 }, pools: { pool: proxies(2), full: proxies(1, { concurrency: 1 }) } });
    const pin = desk.pool.stick('mine');
    const flying = [
      desk.come(),
      desk.come(),
      desk.come({ pool: 'full', target: 'b.test' }),
      desk.come({ target: 'c.test', pin }),
    ];
    const waiting = [
      desk.come(),
      desk.come({ maxWaitMs: 5000 }),
      desk.come({ pin }),
      desk.come({ pool: 'full', target: 'd.test' }),
      desk.come({ target: 'c.test', pin, priority: 3 }),
    ];
    const error = new ClosedError();
    desk.admission.close(error);
    for (const client of waiting) expect(client.error).toBe(error);
    expect([desk.clock.pending, desk.admission.waiting]).toEqual([0, 0]);
    expect(desk.come().error).toBeInstanceOf(ClosedError);
    for (const client of flying) client.answer();
    expect([desk.clock.pending, desk.busy, desk.active]).toEqual([0, 0, 0]);
  });
});
