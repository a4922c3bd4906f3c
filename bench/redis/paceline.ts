import { setTimeout as sleep } from 'node:timers/promises';
import { resolveAdaptation } from '../../src/adaptation.ts';
import type { Awaitable, Demand, Grant, Policy, Reservation, Route, Store } from '../../src/index.ts';
import { redisStore } from '../../src/redis.ts';
import type { RedisServer } from '../../test/support/redis-server.ts';
import { answered, staticRoutes } from '../support/egresses.ts';
import { type Contender, EGRESSES, LIMIT, WINDOW_MS } from './contender.ts';

/** What an Admission asks for at once, at most; see src/turns.ts. */
const MOST_PER_CALL = 256;
/** And so many calls at once, where more wait; see src/lanes.ts. */
const MOST_CALLS = 2;
const PLENTY = 1e6;

/** Four limits that are kept account of and never reached: an egress's slots, requests in flight, two rates over all egresses. */
export const FOUR: Policy = {
  limit: LIMIT,
  windowMs: WINDOW_MS,
  spacingMs: 0,
  rates: [
    { limit: PLENTY, windowMs: 1_000, burst: PLENTY / 2 },
    { limit: 3_600 * PLENTY, windowMs: 3_600_000, burst: PLENTY },
  ],
  concurrency: PLENTY,
};

const { budget, health, breaker } = resolveAdaptation({});

/** The same, with all that a ProxyManager lets adapt by default. */
export const ADAPTING: Policy = {
  ...FOUR,
  adaptBudget: budget && { ...budget, ceiling: LIMIT, windowMs: WINDOW_MS },
  adaptConcurrency: budget && { ...budget, start: PLENTY, ceiling: PLENTY, windowMs: 5_000 },
  health,
  breaker,
};

/** A store and what it knows. */
export interface Known {
  readonly store: Store;
  readonly targets: readonly string[];
  readonly policy: Policy;
}

/** A store on a connection of its own, with all egresses known at `targets` targets together. */
export async function known(server: RedisServer, targets: number, policy: Policy = FOUR): Promise<Known> {
  const prefix = `bench:${targets}${policy === FOUR ? '' : 'a'}:`;
  const store = redisStore(server.client(), { prefix, commandTimeoutMs: 10_000 });
  const names = Array.from({ length: targets }, (_, i) => `shop${i}.test`);
  for (const name of names) await introduce(store, name, policy, staticRoutes(Math.ceil(EGRESSES / targets)));
  await sleep(WINDOW_MS);
  return { store, targets: names, policy };
}

/** Makes all routes known to the target, and uses all of their slots. */
export async function introduce(store: Store, target: string, policy: Policy, routes: readonly Route[]): Promise<void> {
  const demand = demandOf(policy);
  const held: Grant[] = [];
  for (let i = 0; i < routes.length; i += MOST_PER_CALL) {
    const pins = routes.slice(i, i + MOST_PER_CALL);
    const taken = await Promise.all(pins.map((pin) => store.reserve(target, { ...demand, pin, cost: LIMIT })));
    for (const { grants } of taken) held.push(...grants);
  }
  // With every slot in flight none of them will do, so it asks for the next one until the pool has no more.
  const { grants } = await store.reserve(target, { ...demand, offer: (after) => routes[after] });
  if (held.length < routes.length || grants.length > 0) throw new Error(`${held.length} egresses of ${routes.length}`);
  for (let i = 0; i < held.length; i += MOST_PER_CALL) {
    await store.settle(target, held.slice(i, i + MOST_PER_CALL).map(answered));
  }
}

export interface Kind {
  /** Whether each permit is settled as soon as it is there, by a call of its own; else beside the clock. */
  readonly settles: boolean;
  /** Each permit has a place of its pool as well: a state of its own, so another call. */
  readonly places?: boolean;
}

/** Our store as the admission uses it: a call for all who wait at a target in that moment, and another where they are many. */
export function paceline({ store, targets, policy }: Known, { settles, places = false }: Kind): Contender {
  const demand = places ? { ...demandOf(policy), poolConcurrency: PLENTY } : demandOf(policy);
  const lines = targets.map((target) => new Line(store, target, { ...demand }, settles));
  let at = 0;
  return {
    admit(granted) {
      at = (at + 1) % lines.length;
      lines[at].admit(granted);
    },
    async done() {
      await Promise.all(lines.map((line) => line.done()));
    },
    async tidy() {
      for (const line of lines) await line.settleAll();
    },
    close: async () => store.close(),
  };
}

/** Those who wait at one target. */
class Line {
  private readonly store: Store;
  private readonly target: string;
  private readonly demand: Demand & { count: number };
  private readonly settles: boolean;
  private readonly held: Grant[] = [];
  private waiting: (() => void)[] = [];
  private calls = 0;
  private asked = 0;
  private unsettled = 0;
  private allSettled = (): void => {};

  constructor(store: Store, target: string, demand: Demand & { count: number }, settles: boolean) {
    this.store = store;
    this.target = target;
    this.demand = demand;
    this.settles = settles;
  }

  admit(granted: () => void): void {
    this.waiting.push(granted);
    if (this.calls === 0) this.ask();
  }

  async done(): Promise<void> {
    if (this.unsettled === 0) return;
    await new Promise<void>((resolve) => {
      this.allSettled = resolve;
    });
  }

  async settleAll(): Promise<void> {
    const held = this.held.splice(0);
    for (let i = 0; i < held.length; i += MOST_PER_CALL) {
      await this.store.settle(this.target, held.slice(i, i + MOST_PER_CALL).map(answered));
    }
  }

  private ask(): void {
    const count = Math.min(this.waiting.length - this.asked, MOST_PER_CALL);
    if (count <= 0 || this.calls === MOST_CALLS || (this.asked > 0 && count < MOST_PER_CALL)) return;
    this.calls++;
    this.asked += count;
    void this.answered(this.store.reserve(this.target, { ...this.demand, count }), count);
    this.ask();
  }

  private async answered(answer: Awaitable<Reservation>, count: number): Promise<void> {
    const { grants, limiting } = await answer;
    if (limiting !== undefined) throw new Error(`refused for ${limiting}: the bench asks for more than there is`);
    this.calls--;
    this.ask();
    this.asked -= count;
    const served = this.waiting.slice(0, grants.length);
    this.waiting = this.waiting.slice(grants.length);
    for (const [i, grant] of grants.entries()) {
      if (this.settles) this.settle(grant);
      else this.held.push(grant);
      served[i]();
    }
    this.ask();
  }

  private settle(grant: Grant): void {
    this.unsettled++;
    void Promise.resolve(this.store.settle(this.target, [answered(grant)])).then(() => {
      if (--this.unsettled === 0) this.allSettled();
    });
  }
}

function demandOf(policy: Policy): Demand & { count: number } {
  return { count: 1, policy, pool: 'static', patienceMs: 0, horizonMs: 0, deadlineMs: 60_000 };
}
