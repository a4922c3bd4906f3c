import fc from 'fast-check';
import { StoreError } from 'paceline';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/clock.ts';
import { BackendError } from '../../src/store/shared/failure.ts';
import { type FailureOptions, resolveFailureOptions } from '../../src/store/shared/failure-options.ts';
import { Guard } from '../../src/store/shared/guard.ts';
import { localBackend } from '../../src/store/shared/local.ts';
import { SharedStore } from '../../src/store/shared/shared-store.ts';
import type { Demand, Grant, Policy, Report } from '../../src/store/store.ts';
import { type VirtualClock, virtualClock } from '../../src/testing/virtual-clock.ts';
import { type FailingBackend, failingBackend } from '../support/failing-backend.ts';
import { offerOf, storeRoute } from '../support/store-trace.ts';

const TARGET = 'shop.test';
const WINDOW_MS = 1000;
const policy: Policy = { limit: 8, windowMs: WINDOW_MS, spacingMs: 0, rates: [], concurrency: undefined };

function world(): { clock: VirtualClock; backend: FailingBackend } {
  const clock = virtualClock();
  return { clock, backend: failingBackend(localBackend({ clock }), clock) };
}

function worker(at: { clock: VirtualClock; backend: FailingBackend }, options: FailureOptions = {}, seed = 1) {
  const { clock, backend } = at;
  const random = seededRandom(seed);
  const guard = new Guard(backend, clock, random, resolveFailureOptions(options));
  const store = new SharedStore(guard, { clock, random });
  const told: string[] = [];
  store.watch({ down: ({ message }) => told.push(message), lost: () => {}, back: (ms) => told.push(`back ${ms}`) });
  const routes = [storeRoute(1, { egress: '192.0.2.1' })];
  const demand: Demand = {
    count: 1,
    policy,
    pool: 'pool',
    offer: offerOf(routes, clock),
    patienceMs: 0,
    horizonMs: 0,
    deadlineMs: 10_000,
  };
  const report = (grant: Grant): Report => ({
    grant,
    outcome: 'ok',
    retryAfterMs: undefined,
    graceMs: 0,
    end: true,
  });
  return {
    store,
    /** It waits for answers that are on their way, or for their deadline. */
    close: () => clock.runUntil(Promise.resolve(store.close())),
    told,
    reserve: async (count: number, more: Partial<Demand> = {}) => store.reserve(TARGET, { ...demand, count, ...more }),
    settle: async (...grants: Grant[]) => store.settle(TARGET, grants.map(report)),
    active: async () => (await store.inspect(TARGET)).targets[0].active,
    egress: async () => (await store.inspect(TARGET)).targets[0].egresses[0],
  };
}

/** A permit at another target. */
async function other(store: SharedStore): Promise<readonly Grant[]> {
  const demand = {
    count: 1,
    policy,
    pool: 'pool',
    pin: storeRoute(1),
    patienceMs: 0,
    horizonMs: 0,
    deadlineMs: 10_000,
  };
  return (await store.reserve('other.test', demand)).grants;
}

/** What it comes to, in virtual time. */
async function ending<T>(clock: VirtualClock, promise: Promise<T>): Promise<T | Error> {
  return clock.runUntil(promise.catch((error: Error) => error));
}

describe('a store that does not answer', () => {
  it('is waited for as long as the deadline, and no longer', async () => {
    const at = world();
    const { close, reserve, told } = worker(at, { onStoreError: 'fail', commandTimeoutMs: 300 });
    at.backend.freeze();
    const error = await ending(at.clock, reserve(1));
    expect(error).toBeInstanceOf(StoreError);
    expect([at.clock.now(), (error as Error).message]).toEqual([300, expect.stringContaining('300 ms')]);
    // While it is known to be down, at once.
    const asked = at.backend.asked;
    expect(await reserve(1).catch((e) => e)).toBeInstanceOf(StoreError);
    expect([at.clock.now(), at.backend.asked]).toEqual([300, asked]);
    expect(told).toHaveLength(1);
    await close();
  });

  it('is asked again until it is back; what it granted to nobody is given back', async () => {
    const at = world();
    const { close, reserve, told, active } = worker(at, { onStoreError: 'fail' });
    at.backend.freeze();
    await ending(at.clock, reserve(5));
    at.backend.thaw();
    await at.clock.advance(3000);
    expect(told.at(-1)).toMatch(/^back/);
    expect(await active()).toBe(0);
    expect((await reserve(8)).grants).toHaveLength(8);
    await close();
  });

  it('gives back what it granted after everything else was well again', async () => {
    const at = world();
    const { close, reserve, told, active } = worker(at, { onStoreError: 'fail' });
    const release = at.backend.holdNext();
    await ending(at.clock, reserve(5));
    await at.clock.advance(3000);
    expect([told.length, (await reserve(2)).grants.length]).toEqual([2, 2]);
    release();
    await at.clock.advance(1);
    expect(await active()).toBe(2);
    await close();
  });

  it("with 'wait' nobody is turned away, and nothing is spent twice", async () => {
    const at = world();
    const { close, reserve, active } = worker(at, { onStoreError: 'wait' });
    at.backend.freeze();
    const waiting = reserve(3);
    await at.clock.advance(5000);
    at.backend.thaw();
    const { grants } = await at.clock.runUntil(waiting);
    expect([grants.length, await active()]).toEqual([3, 3]);
    expect((await reserve(8)).grants).toHaveLength(5);
    await close();
  });

  it("with 'wait' a call whose answer was lost finds the permits it took", async () => {
    const at = world();
    const { close, reserve, active } = worker(at, { onStoreError: 'wait' });
    at.backend.loseReply();
    const { grants } = await at.clock.runUntil(reserve(3));
    expect([grants.length, await active()]).toEqual([3, 3]);
    await close();
  });

  it('hears later what ended meanwhile', async () => {
    const at = world();
    const { close, reserve, settle, egress } = worker(at, { onStoreError: 'fail' });
    const { grants } = await reserve(8);
    at.backend.refuse(new BackendError('down', true));
    await settle(...grants);
    await at.clock.advance(500);
    at.backend.refuse(undefined);
    await at.clock.advance(2000);
    expect(await egress()).toMatchObject({ busy: 0 });
    await close();
  });

  it('a settle whose answer was lost is not counted twice, nor does it free what is another’s', async () => {
    const at = world();
    const { close, reserve, settle, egress } = worker(at, { onStoreError: 'wait' });
    const { grants } = await reserve(8);
    at.backend.loseReply();
    void settle(grants[0]);
    await at.clock.advance(WINDOW_MS);
    // Its slot is another's now.
    expect((await at.clock.runUntil(reserve(1))).grants).toHaveLength(1);
    await at.clock.advance(5000);
    expect(await egress()).toMatchObject({ busy: 8, cooling: 0 });
    await close();
  });

  it('that never answered because it is set up wrongly is not worked around', async () => {
    for (const onStoreError of ['local', 'wait', 'fail'] as const) {
      const at = world();
      const { close, reserve, told } = worker(at, { onStoreError });
      at.backend.refuse(new BackendError('wrong password', false));
      expect(await reserve(1).catch((e: Error) => e.message)).toBe('wrong password');
      expect([told, at.clock.pending]).toEqual([[], 0]);
      await close();
    }
  });

  it('is not asked for one target after another while it says nothing at all', async () => {
    const at = world();
    const { store, close, reserve, told } = worker(at, { onStoreError: 'fail' });
    await reserve(1);
    at.backend.freeze();
    await ending(at.clock, reserve(1));
    const since = at.clock.now();
    const { asked } = at.backend;
    await expect(other(store)).rejects.toBeInstanceOf(StoreError);
    expect([at.clock.now(), at.backend.asked]).toEqual([since, asked]);
    at.backend.thaw();
    await at.clock.advance(3000);
    expect(told).toHaveLength(2);
    expect(await other(store)).toHaveLength(1);
    await close();
  });

  it('for one target may answer for another, and does so again while the first is still waited for', async () => {
    const at = world();
    const { store, close, reserve } = worker(at, { onStoreError: 'fail' });
    at.backend.refuse(new Error('down'), TARGET);
    await reserve(1).catch(() => {});
    await other(store).catch(() => {});
    await at.clock.advance(5000);
    expect(await other(store)).toHaveLength(1);
    // Both were down; the first still is.
    at.backend.refuse(new Error('down'));
    await other(store).catch(() => {});
    at.backend.refuse(new Error('down'), TARGET);
    await at.clock.advance(5000);
    expect(await other(store)).toHaveLength(1);
    await expect(reserve(1)).rejects.toBeInstanceOf(StoreError);
    await close();
  });

  it('closed while it is down, turns away who waits, and leaves no timer', async () => {
    const at = world();
    const { close, reserve } = worker(at, { onStoreError: 'wait' });
    at.backend.refuse(new Error('down'));
    const waiting = reserve(1).catch((error: Error) => error);
    await at.clock.advance(100);
    await close();
    expect(await waiting).toBeInstanceOf(StoreError);
    expect(at.clock.pending).toBe(0);
  });
});

describe("a worker by itself ('local')", () => {
  it('rests for a window, then goes on with its share of the budget', async () => {
    const at = world();
    const { close, reserve, settle } = worker(at, { expectedWorkers: 4, commandTimeoutMs: 200 });
    expect((await reserve(1)).grants).toHaveLength(1);
    at.backend.refuse(new Error('down'));
    const { grants, retryInMs } = await reserve(8);
    expect([grants.length, retryInMs]).toEqual([0, WINDOW_MS + 200]);
    await at.clock.advance(WINDOW_MS + 200);
    // Two of eight are its share, and one of them is still in flight.
    const own = await reserve(8);
    expect(own.grants).toHaveLength(1);
    await settle(...own.grants);
    expect((await reserve(8)).grants).toHaveLength(0);
    await close();
  });

  it('does not stop for looking whether the store is back, which may take as long as a deadline', async () => {
    const at = world();
    const { close, reserve, settle } = worker(at, { expectedWorkers: 2, commandTimeoutMs: 5000 });
    at.backend.freeze();
    await ending(at.clock, reserve(1));
    await at.clock.advance(WINDOW_MS + 5000);
    const before = at.clock.now();
    const { grants } = await reserve(8);
    await settle(...grants);
    await at.clock.advance(WINDOW_MS);
    expect([grants.length, (await reserve(8)).grants.length]).toEqual([4, 4]);
    expect(at.clock.now() - before).toBe(WINDOW_MS);
    await close();
  });

  it('has rested at one target while it rested at another', async () => {
    const at = world();
    const { store, close, reserve } = worker(at, { expectedWorkers: 4, commandTimeoutMs: 200 });
    await reserve(1).then(({ grants }) => store.cancel(TARGET, grants));
    await at.clock.advance(1);
    at.backend.refuse(new Error('down'));
    await reserve(1);
    await at.clock.advance(WINDOW_MS + 199);
    expect(await other(store)).toHaveLength(0);
    await at.clock.advance(1);
    expect([(await reserve(1)).grants.length, (await other(store)).length]).toEqual([1, 1]);
    await close();
  });

  it('tells what it sent when the store is back: no burst', async () => {
    const at = world();
    const { store, close, reserve, settle } = worker(at, { expectedWorkers: 2, commandTimeoutMs: 200 });
    await reserve(0 + 1).then(({ grants }) => settle(...grants));
    at.backend.refuse(new Error('down'));
    await reserve(1);
    await at.clock.advance(2 * WINDOW_MS);
    const own = await reserve(8);
    expect(own.grants).toHaveLength(4);
    at.backend.refuse(undefined);
    const resting = async () => (await store.inspect(TARGET)).targets[0];
    for (let state = await resting(); state.limit !== 8 || state.restMs > 0; state = await resting()) {
      await at.clock.advance(50);
    }
    // What it took by itself is in flight there, too, and cools when it ends.
    expect((await reserve(8)).grants).toHaveLength(4);
    await settle(...own.grants);
    await at.clock.advance(WINDOW_MS - 1);
    expect((await reserve(8)).grants).toHaveLength(0);
    await at.clock.advance(1);
    expect((await reserve(8)).grants).toHaveLength(4);
    await close();
  });

  it('tells also of what is over by then', async () => {
    const at = world();
    const { close, reserve, settle } = worker(at, { expectedWorkers: 2, commandTimeoutMs: 200 });
    const slow = { policy: { ...policy, windowMs: 10_000 } };
    await reserve(1, slow).then(({ grants }) => settle(...grants));
    at.backend.refuse(new Error('down'));
    await reserve(1, slow);
    await at.clock.advance(15_000);
    const own = await reserve(8, slow);
    await settle(...own.grants);
    at.backend.refuse(undefined);
    await at.clock.advance(2000);
    expect([own.grants.length, (await reserve(8, slow)).grants.length]).toEqual([4, 4]);
    await close();
  });

  it('tells what it spent of a rate over all egresses, too', async () => {
    const at = world();
    const { store, close, reserve, settle } = worker(at, { expectedWorkers: 2, commandTimeoutMs: 200 });
    const rated = { policy: { ...policy, limit: 100, rates: [{ limit: 4, windowMs: 10_000, burst: 4 }] } };
    await reserve(1, rated).then(({ grants }) => store.cancel(TARGET, grants));
    at.backend.refuse(new Error('down'));
    await reserve(1, rated);
    await at.clock.advance(2 * WINDOW_MS);
    const own = await reserve(8, rated);
    await settle(...own.grants);
    at.backend.refuse(undefined);
    await at.clock.advance(2000);
    expect([own.grants.length, (await reserve(8, rated)).grants.length]).toEqual([2, 2]);
    await close();
  });

  it('waits where there is less than one request for each worker', async () => {
    const at = world();
    const { close, reserve } = worker(at, { expectedWorkers: 9 });
    at.backend.refuse(new Error('down'));
    let answered = false;
    const waiting = reserve(1).then((reservation) => {
      answered = true;
      return reservation;
    });
    await at.clock.advance(60_000);
    expect(answered).toBe(false);
    at.backend.refuse(undefined);
    expect((await at.clock.runUntil(waiting)).grants).toHaveLength(1);
    await close();
  });
});

describe('a store that is closed', () => {
  it('is so when what was on its way has arrived', async () => {
    const at = world();
    const { store, reserve, settle } = worker(at);
    const { grants } = await reserve(2);
    const release = at.backend.holdNext();
    void settle(...grants);
    let closed = false;
    const closing = Promise.resolve(store.close()).then(() => {
      closed = true;
    });
    await at.clock.advance(10);
    expect(closed).toBe(false);
    release();
    await closing;
    expect(at.clock.now()).toBe(10);
  });
});

describe('a state that is lost', () => {
  it('rests for a window; what is in flight is told to it', async () => {
    const at = world();
    const { store, close, reserve, active, settle } = worker(at);
    const { grants } = await reserve(8);
    at.backend.replace(localBackend({ clock: at.clock }));
    await at.clock.advance(100);
    const lost: string[] = [];
    store.watch?.({ down: () => {}, back: () => {}, lost: ({ message }) => lost.push(message) });
    const after = await reserve(8);
    expect(lost).toEqual([expect.stringContaining(`${TARGET} was lost or set back`)]);
    expect([after.grants.length, after.retryInMs]).toEqual([0, WINDOW_MS]);
    expect(await active()).toBe(8);
    await at.clock.advance(WINDOW_MS);
    expect((await reserve(8)).grants).toHaveLength(0);
    await settle(...grants);
    await at.clock.advance(WINDOW_MS);
    expect((await reserve(8)).grants).toHaveLength(8);
    await close();
  });

  it('is told of permits whose answer came in the moment before', async () => {
    const at = world();
    const { close, reserve, settle, store } = worker(at);
    await settle(...(await reserve(1)).grants);
    const before = reserve(3);
    at.backend.replace(localBackend({ clock: at.clock }));
    expect((await reserve(1)).grants).toHaveLength(0);
    expect((await before).grants).toHaveLength(3);
    await at.clock.advance(0);
    expect((await store.inspect(TARGET)).targets[0].active).toBe(3);
    await close();
  });

  it('that was set back by a single batch is told of its permits again', async () => {
    const at = world();
    const { close, reserve, settle, store } = worker(at);
    await settle(...(await reserve(1)).grants);
    const { grants } = await reserve(3);
    at.backend.setBack(1);
    expect((await reserve(1)).grants).toHaveLength(0);
    await at.clock.advance(0);
    expect((await store.inspect(TARGET)).targets[0].active).toBe(3);
    await settle(...grants);
    await close();
  });

  it('that was set back to what it was before rests for one window, however much of it is gone', async () => {
    const at = world();
    const { close, reserve, settle, store } = worker(at);
    for (let i = 0; i < 50; i++) await settle(...(await reserve(1)).grants);
    const lost: string[] = [];
    store.watch?.({ down: () => {}, back: () => {}, lost: ({ message }) => lost.push(message) });
    at.backend.setBack(at.backend.asked - 1);
    const answers = await Promise.all([reserve(1), reserve(1), reserve(1)]);
    expect(answers.map(({ grants, retryInMs }) => [grants.length, retryInMs])).toEqual(Array(3).fill([0, WINDOW_MS]));
    await at.clock.advance(WINDOW_MS);
    expect((await reserve(8)).grants).toHaveLength(8);
    expect(lost).toHaveLength(1);
    await close();
  });
});

describe('P1 across workers, whatever becomes of the store', () => {
  const actOf = (setBack: number) =>
    fc.oneof(
      {
        weight: 12,
        arbitrary: fc.record({ do: fc.constant('send' as const), by: fc.nat(), count: fc.integer({ min: 1, max: 6 }) }),
      },
      {
        weight: 10,
        arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.oneof(fc.nat(60), fc.nat(1500)) }),
      },
      { weight: 2, arbitrary: fc.constant({ do: 'freeze' as const }) },
      { weight: 2, arbitrary: fc.constant({ do: 'thaw' as const }) },
      { weight: 1, arbitrary: fc.constant({ do: 'down' as const }) },
      { weight: 2, arbitrary: fc.constant({ do: 'up' as const }) },
      { weight: 1, arbitrary: fc.constant({ do: 'lose' as const }) },
      { weight: 1, arbitrary: fc.constant({ do: 'loseReply' as const }) },
      {
        weight: setBack,
        arbitrary: fc.record({ do: fc.constant('setBack' as const), batches: fc.integer({ min: 1, max: 20 }) }),
      },
    );

  const survives = (workers: number, onStoreError: FailureOptions['onStoreError'], setBack: number): Promise<void> =>
    fc.assert(
      fc.asyncProperty(fc.array(actOf(setBack), { minLength: 10, maxLength: 60, size: 'max' }), async (acts) => {
        const at = world();
        const { clock, backend } = at;
        const options = { onStoreError, expectedWorkers: workers, commandTimeoutMs: 100 };
        const crew = Array.from({ length: workers }, (_, i) => worker(at, options, i + 1));
        // Who has never seen the state cannot know that it was lost.
        for (const { store, reserve } of crew) store.cancel(TARGET, (await reserve(1)).grants);
        const random = seededRandom(7);
        const arrivals: number[] = [];
        // A request arrives within its latency of 0 to 80 ms, and is answered then.
        const send = async (by: number, count: number): Promise<void> => {
          const { reserve, settle } = crew[by];
          const { grants } = await reserve(count);
          for (const grant of grants) {
            clock.setTimeout(() => {
              arrivals.push(clock.now());
              void settle(grant);
            }, random() * 80);
          }
        };
        for (const act of acts) {
          if (act.do === 'send') void send(act.by % workers, act.count).catch(() => {});
          else if (act.do === 'wait') await clock.advance(act.ms);
          else if (act.do === 'thaw') backend.thaw();
          else if (act.do === 'freeze' || act.do === 'down') {
            if (act.do === 'freeze') backend.freeze();
            else backend.refuse(new Error('down'));
            // All of them are at work, so all of them notice.
            for (const by of crew.keys()) void send(by, 1).catch(() => {});
          } else if (act.do === 'up') backend.refuse(undefined);
          else if (act.do === 'lose') backend.replace(localBackend({ clock }));
          else if (act.do === 'setBack') {
            // What is asked before the answer to what is gone has come cannot miss it either.
            backend.thaw();
            await clock.advance(0);
            backend.setBack(act.batches);
          } else backend.loseReply();
        }
        await clock.advance(500);
        arrivals.forEach((from, i) => {
          const within = arrivals.slice(i).filter((one) => one < from + WINDOW_MS).length;
          expect(within, `from ${from}`).toBeLessThanOrEqual(policy.limit);
        });
        for (const { close } of crew) await close();
      }),
      { numRuns: Number(process.env.RUNS ?? 150) },
    );

  it.each(['local', 'wait', 'fail'] as const)('%s: no window holds more than the limit', (onStoreError) =>
    survives(3, onStoreError, 0),
  );

  // Several cannot all know: what the one that comes first has not seen it does not miss.
  it.each(['local', 'wait', 'fail'] as const)(
    '%s: nor does a state that is set back under a worker that is alone',
    (mode) => survives(1, mode, 2),
  );
});
