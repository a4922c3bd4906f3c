import type { Clock, Random } from '../../clock.ts';
import { systemClock } from '../../clock.ts';
import { newSessionId } from '../../gateway/route.ts';
import { showAs } from '../../inspect.ts';
import { allOf, andThen } from '../awaitable.ts';
import type {
  Awaitable,
  Binding,
  Demand,
  Grant,
  Report,
  Reservation,
  Route,
  Snapshot,
  Store,
  StoreListener,
  Verdict,
} from '../store.ts';
import { KEEP_MS, Keeper } from './keeper.ts';
import { KnownRoutes } from './known-routes.ts';
import type { Link, SharedGrant } from './link.ts';
import { Links } from './links.ts';
import { isPools, Places } from './places.ts';
import { fullSnapshot, list, plainRoute } from './plain.ts';
import { Reserving } from './reserving.ts';
import type { BindAnswer, SnapshotAnswer, Step, StepAnswer, StepReport } from './steps.ts';

/** Takes steps on one target as one decision. */
export interface Taker {
  take(link: Link, steps: readonly Step[]): Awaitable<readonly StepAnswer[]>;
  watch?(listener: StoreListener): () => void;
  close(): Awaitable<void>;
}

export interface SharedStoreOptions {
  /** This process's own clock: for its timers, and how long ago something was. @default systemClock */
  readonly clock?: Clock;
  /** Names and jitter. @default Math.random */
  readonly random?: Random;
}

/**
 * A store whose state is elsewhere, shared by many processes: what it is asked becomes steps in plain data, and what it
 * answers permits on this process's own routes.
 */
export class SharedStore implements Store {
  readonly clock: Clock;
  readonly random: Random;
  readonly taker: Taker;
  readonly links: Links = new Links();
  readonly routes: KnownRoutes = new KnownRoutes();
  readonly places: Places;
  /** Of all calls that this process makes, and no other. */
  private readonly name: string;
  private calls = 0;
  private readonly keeper: Keeper;

  constructor(taker: Taker, options: SharedStoreOptions = {}) {
    this.clock = options.clock ?? systemClock;
    this.random = options.random ?? Math.random;
    this.taker = taker;
    this.name = newSessionId(this.random);
    this.places = new Places(this);
    this.keeper = new Keeper(this);
    showAs(this, () => 'SharedStore {}');
  }

  /** A name for a call, of which there is no second one. */
  nextId(): string {
    return `${this.name}-${(++this.calls).toString(36)}`;
  }

  reserve(target: string, demand: Demand): Awaitable<Reservation> {
    const link = this.links.of(target, this.clock.now());
    link.follow(demand.policy);
    return new Reserving(this, link, demand).run();
  }

  bind(target: string, grant: Grant, egress: string): Awaitable<Binding> {
    const link = this.links.known(target);
    const held = link?.permits.get((grant as SharedGrant).id);
    if (link === undefined || held !== grant || held.cooledAt !== undefined)
      return { ok: false, retryInMs: 0, duplicate: false };
    const { pool, egress: before } = held;
    const route = plainRoute(grant.route, pool, this.clock.now());
    const moves = route.shared && route.weight === 1 && egress !== before;
    // Where it leads is known to all now: also of one that only its holder had asked for.
    if (moves) this.routes.add(link, pool, grant.route, egress);
    const answer = this.taker.take(link, [{ do: 'bind', permit: held.id, egress, route }]);
    return andThen(answer, ([bound]) => {
      const { ok, retryInMs, duplicate } = bound as BindAnswer;
      if (ok) held.egress = egress;
      else this.over(link, held);
      // Of a permit that was lost nothing is moved: the route may still lead where it did.
      if (moves && (ok || retryInMs > 0)) this.routes.moved(link, grant.route, before);
      return { ok, retryInMs, duplicate };
    });
  }

  settle(target: string, reports: readonly Report[]): Awaitable<readonly Verdict[]> {
    const link = this.links.known(target);
    if (link === undefined) return [];
    const told: StepReport[] = [];
    for (const { grant, outcome, retryAfterMs, quota, graceMs, end } of reports) {
      const held = link.permits.get((grant as SharedGrant).id);
      if (held !== grant) continue;
      const { id: permit, route } = held;
      const random = [this.random(), this.random()] as const;
      told.push({ permit, trial: route.trial, outcome, retryAfterMs, quota, graceMs, end, random, keepMs: KEEP_MS });
      held.cooledAt ??= this.clock.now() + graceMs;
      if (end) this.over(link, held);
      else {
        this.keeper.add(link, held);
        this.places.stay(held);
      }
    }
    if (told.length === 0) return [];
    const answer = this.taker.take(link, [{ do: 'settle', reports: told }]);
    return andThen(answer, ([verdicts]) => list(verdicts as readonly Verdict[]));
  }

  cancel(target: string, grants: readonly Grant[]): Awaitable<void> {
    const link = this.links.known(target);
    if (link === undefined) return;
    const permits: string[] = [];
    for (const grant of grants) {
      const held = link.permits.get((grant as SharedGrant).id);
      if (held !== grant || held.cooledAt !== undefined) continue;
      permits.push(held.id);
      this.over(link, held);
    }
    if (permits.length === 0) return;
    return andThen(this.taker.take(link, [{ do: 'cancel', permits }]), () => {});
  }

  /** Of the targets that this process has asked for. */
  inspect(target?: string): Awaitable<Snapshot> {
    const links =
      target === undefined ? this.links.all().filter((link) => !isPools(link.target)) : [this.links.known(target)];
    const answers = links
      .filter((link) => link !== undefined)
      .map((link) =>
        andThen(this.taker.take(link, [{ do: 'inspect' }]), ([one]) => fullSnapshot(one as SnapshotAnswer)),
      );
    return allOf(answers, (targets) => ({ targets }));
  }

  retired(route: Route): void {
    for (const [link, { pool, egresses }] of this.routes.retire(route)) {
      const step: Step = { do: 'drop', routes: [...egresses].map((egress) => ({ id: route.id, pool, egress })) };
      // Should it not arrive, the next one who is given the route finds out by itself.
      void Promise.resolve(this.taker.take(link, [step])).catch(() => {});
    }
  }

  watch(listener: StoreListener): () => void {
    return this.taker.watch?.(listener) ?? (() => {});
  }

  /** Nothing of the client, whose options have a password among them. */
  toJSON(): object {
    return { name: 'SharedStore' };
  }

  close(): Awaitable<void> {
    this.places.close();
    this.keeper.close();
    return this.taker.close();
  }

  /** The permit's holder is done with it. */
  private over(link: Link, grant: SharedGrant): void {
    link.permits.delete(grant.id);
    this.keeper.remove(grant);
    this.places.leave(grant);
  }
}
