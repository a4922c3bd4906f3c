import { andThen } from '../awaitable.ts';
import type { Awaitable, Demand, Reservation, Route } from '../store.ts';
import { type Link, SharedGrant } from './link.ts';
import { list, plainRoute } from './plain.ts';
import type { SharedStore } from './shared-store.ts';
import type { ReserveAnswer, ReserveStep, StepGrant } from './steps.ts';

/** Offers sent along at once, at most. */
const MOST_OFFERS = 64;

/** When others hold what is waited for, it is looked for this often, in milliseconds, and half as much more at random. */
const POLL_MS = 40;

/**
 * One reserve of a shared store. The pool's offers are a function of this process: the state cannot call it, so it says
 * that it would, and is asked again with what the pool has. Once the pool has what it needs, that is one call.
 */
export class Reserving {
  private readonly store: SharedStore;
  private readonly link: Link;
  private readonly demand: Demand;
  private readonly pool: string;
  private readonly grants: SharedGrant[] = [];
  /** Permits on routes that nobody can use here. */
  private readonly useless: string[] = [];

  constructor(store: SharedStore, link: Link, demand: Demand) {
    this.store = store;
    this.link = link;
    this.demand = demand;
    this.pool = store.routes.poolKey(demand);
  }

  run(): Awaitable<Reservation> {
    return this.ask([], this.demand.offer !== undefined);
  }

  private get missing(): number {
    return this.demand.count - this.grants.length;
  }

  private ask(offers: readonly Route[], more: boolean): Awaitable<Reservation> {
    const { store, link } = this;
    const step = this.step(offers, more);
    const before = link.born;
    return andThen(store.taker.take(link, [step]), ([answer]) => {
      const { taken, ...reserved } = answer as ReserveAnswer;
      for (const offer of offers.slice(0, taken)) store.routes.add(link, this.pool, offer, offer.egress);
      // After the state was lost, what was made known to it before is to be offered anew, from the first on.
      if (taken > 0 && link.born === before) link.cursors.set(this.pool, offers[taken - 1].seq);
      const had = this.grants.length;
      this.accept(step, list(reserved.grants));
      if (!reserved.wants) return this.finish(reserved);
      // What was offered and not taken up is in nobody's way; asking once more with the same would not help.
      const stuck = offers.length > 0 && taken === 0 && this.grants.length === had;
      const next = stuck ? [] : this.offered();
      if (next.length > 0) return this.ask(next, true);
      return reserved.limiting === undefined ? this.ask([], false) : this.finish(reserved);
    });
  }

  private step(offers: readonly Route[], more: boolean): ReserveStep {
    const { store, demand, pool, missing } = this;
    const { policy, pin, patienceMs, horizonMs, deadlineMs } = demand;
    const now = store.clock.now();
    return {
      do: 'reserve',
      id: store.nextId(),
      count: missing,
      cost: demand.cost ?? 1,
      applies: demand.applies,
      pool,
      pin: pin === undefined ? undefined : plainRoute(pin, pool, now),
      offers: offers.map((route) => plainRoute(route, pool, now)),
      more,
      patienceMs,
      horizonMs,
      deadlineMs,
      random: policy.spacingMs === 0 ? [] : Array.from({ length: missing }, store.random),
    };
  }

  private accept({ id, cost, deadlineMs }: ReserveStep, granted: readonly StepGrant[]): void {
    const { store, link, demand, pool } = this;
    const now = store.clock.now();
    for (const grant of granted) {
      const [n, egress, startInMs] = grant;
      const permit = `${id}.${n}`;
      const route = store.routes.of(link, demand, grant, now);
      if (route === undefined) {
        this.useless.push(permit);
        continue;
      }
      const held = new SharedGrant(
        link.target,
        route,
        egress,
        startInMs,
        permit,
        cost,
        pool,
        now + startInMs + deadlineMs,
      );
      link.permits.set(permit, held);
      this.grants.push(held);
    }
  }

  /** The next of the pool's routes, as many as what is missing may need. */
  private offered(): Route[] {
    const { demand, link, pool, missing } = this;
    const { limit, spacingMs } = demand.policy;
    const each = spacingMs > 0 ? 1 : limit / (demand.cost ?? 1);
    const offers: Route[] = [];
    let cursor = link.cursors.get(pool) ?? 0;
    for (let room = 0; room < missing && offers.length < MOST_OFFERS; ) {
      const route = demand.offer?.(cursor);
      if (route === undefined) break;
      offers.push(route);
      cursor = route.seq;
      room += route.trial ? 1 : each * route.weight;
    }
    return offers;
  }

  private finish({ retryInMs = Infinity, limiting, probing }: Omit<ReserveAnswer, 'taken'>): Awaitable<Reservation> {
    const { store, link, grants, useless } = this;
    if (useless.length > 0) {
      const cancelled = store.taker.take(link, [{ do: 'cancel', permits: useless }]);
      void Promise.resolve(cancelled).catch(() => {});
    }
    const pollMs = POLL_MS * (1 + store.random() / 2);
    const reservation: Reservation =
      limiting === undefined && this.missing > 0
        ? { grants, retryInMs: pollMs, limiting: 'budget' }
        : { grants, retryInMs, limiting, probing };
    return andThen(store.places.enter(this.demand, this.pool, reservation), (entered) =>
      entered.grants.length === this.demand.count ? entered : { ...entered, pollMs },
    );
  }
}
