import { expect, it } from 'vitest';
import { type Random, seededRandom } from '../../src/clock.ts';
import type { PoolRoute } from '../../src/gateway/pool.ts';
import { Pool } from '../../src/gateway/pool.ts';
import type { Lane } from '../../src/lanes.ts';
import type { Awaitable, Demand, Reservation } from '../../src/store/store.ts';
import type { VirtualClock } from '../../src/testing/virtual-clock.ts';
import { CountingStore, Desk, LateStore, proxies } from '../support/at-admission.ts';

// Some hundred queues in turmoil: those who are served bring others, or make them leave, in the midst of the handing out; the store
// answers at once, late, or both; and calls are small, so that two are often out at once. RUNS=20 makes it twenty times as many.

const SEEDS = 600 * Number(process.env.RUNS ?? 1);
const TARGETS = ['shop.test', 'b.test'];

type When = 'at once' | 'late' | 'both';

/** Fails now and then, unless it answers at once. */
class Moody extends LateStore {
  private readonly random: Random;
  private readonly when: When;

  constructor(clock: VirtualClock, random: Random, when: When) {
    const soon = (): Promise<void> => new Promise((resolve) => void clock.setTimeout(resolve, random() * 9));
    super(clock, () => (random() < 0.3 ? Promise.resolve() : soon()));
    this.random = random;
    this.when = when;
  }

  override reserve(target: string, demand: Demand): Promise<Reservation> {
    const now = (): Awaitable<Reservation> => CountingStore.prototype.reserve.call(this, target, demand);
    if (this.when === 'at once' || (this.when === 'both' && this.random() < 0.5)) return now() as never;
    if (this.random() < 0.01) throw new Error('out of order');
    if (this.random() < 0.01) return Promise.reject(new Error('out of order'));
    return super.reserve(target, demand);
  }
}

/** What is left of a queue in which nobody should be any more. */
async function leftOver(seed: number, when: When): Promise<Record<string, number>> {
  const random = seededRandom(seed);
  const limit = 1 + Math.floor(random() * 8);
  const concurrency = random() < 0.4 ? 1 + Math.floor(random() * 6) : undefined;
  const places = random() < 0.4 ? 1 + Math.floor(random() * 5) : 5000;
  const desk = new Desk({
    policy: { limit, windowMs: 100, concurrency },
    pools: { pool: proxies(1 + Math.floor(random() * 3), { concurrency: places }) },
    store: (clock) => new Moody(clock, random, when),
    mostPerCall: 2,
  });
  const routes: PoolRoute[] = [];
  const someLeave = (share: number): void => {
    for (const client of desk.clients.filter(({ waiting }) => waiting)) {
      if (client.waiting && random() < share) client.leave();
    }
  };
  let budget = 200;
  const come = (): void => {
    if (budget-- <= 0) return;
    const pin = routes.length > 0 && random() < 0.3 ? routes[Math.floor(random() * routes.length)] : undefined;
    desk.come({
      ...(pin && { pin }),
      priority: Math.floor(random() * 2),
      front: random() < 0.1,
      ...(random() < 0.2 && { maxWaitMs: random() * 300 }),
      target: TARGETS[random() < 0.2 ? 1 : 0],
      then(client) {
        routes.push(client.grant!.route as PoolRoute);
        const mood = random();
        if (mood < 0.1) come();
        else if (mood < 0.2) someLeave(0.5);
        else if (mood < 0.25) {
          someLeave(1);
          come();
        } else if (mood < 0.3) queueMicrotask(come);
        const end = (): void => (random() < 0.15 ? client.cancel() : client.answer());
        if (random() < 0.1) end();
        else desk.clock.setTimeout(end, random() * 40);
      },
    });
  };
  for (let i = 0; i < 60; i++) {
    for (let j = 1 + Math.floor(random() * 6); j > 0; j--) come();
    if (random() < 0.3) someLeave(random());
    if (random() < 0.6) await desk.clock.advance(random() * 30);
  }
  await desk.clock.runUntilIdle(300_000);
  const queues = TARGETS.flatMap((target) => desk.admission.known(target) ?? []);
  const lanes: Lane[] = queues.flatMap((queue) => [...queue.lanes.values()].flat());
  return {
    waiting: desk.clients.filter((client) => client.waiting).length,
    needy: queues.reduce((sum, { needy }) => sum + needy.size, 0),
    pinned: queues.reduce(
      (sum, queue) => sum + [...queue.lanes.keys()].filter((by) => !(by instanceof Pool)).length,
      0,
    ),
    stale: lanes.filter(({ waiters, listed, isWaiting }) => waiters.size > 0 || listed || isWaiting).length,
    inUse: desk.pool.inUse,
    asked: desk.pool.asked,
  };
}

it.each<When>(['at once', 'late', 'both'])(
  'nobody is forgotten and nothing is left, with a store that answers %s',
  async (when) => {
    const nothing = { waiting: 0, needy: 0, pinned: 0, stale: 0, inUse: 0, asked: 0 };
    for (let seed = 1; seed <= SEEDS; seed++) expect(await leftOver(seed, when), `seed ${seed}`).toEqual(nothing);
  },
  600_000,
);
