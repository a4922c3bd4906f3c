import assert from 'node:assert/strict';
import type { Random } from '../../clock.ts';
import type {
  Awaitable,
  Binding,
  Demand,
  EgressSnapshot,
  Grant,
  Limiting,
  Outcome,
  Policy,
  Report,
  Reservation,
  Route,
  Store,
  TargetSnapshot,
  Verdict,
} from '../../store/store.ts';
import { type VirtualClock, virtualClock } from '../virtual-clock.ts';
import { like } from './like.ts';
import { offerOf, POLICY, TARGET } from './scenery.ts';

/** A store at one target in virtual time, with short words for what the cases do all the time. */
export class Stage {
  readonly clock: VirtualClock;
  readonly store: Store;
  readonly routes: readonly Route[];
  readonly policy: Policy;

  constructor(store: Store, clock: VirtualClock, routes: readonly Route[], policy: Policy) {
    this.store = store;
    this.clock = clock;
    this.routes = routes;
    this.policy = policy;
  }

  pass(ms: number): Promise<void> {
    return this.clock.advance(ms);
  }

  async reserve(count: number, demand: Partial<Demand> = {}, target: string = TARGET): Promise<Reservation> {
    const pool = demand.pool ?? demand.pin?.pool ?? this.routes[0]?.pool ?? 'pool';
    return this.store.reserve(target, {
      count,
      policy: this.policy,
      pool,
      offer: demand.pin === undefined ? offerOf(this.routes, pool, this.clock) : undefined,
      patienceMs: 0,
      horizonMs: 0,
      deadlineMs: 100_000,
      ...demand,
    });
  }

  /** So many permits, which there must be. */
  async grants(count: number, demand?: Partial<Demand>, target?: string): Promise<readonly Grant[]> {
    const { grants, limiting, retryInMs } = await this.reserve(count, demand, target);
    assert.equal(
      grants.length,
      count,
      `permits wanted: ${count}, granted: ${grants.length} (${limiting}, ${retryInMs} ms)`,
    );
    return grants;
  }

  async grant(demand?: Partial<Demand>, target?: string): Promise<Grant> {
    return (await this.grants(1, demand, target))[0];
  }

  /** How many there are when more are asked for than there can be; they are kept. */
  async room(demand?: Partial<Demand>, target?: string): Promise<number> {
    return (await this.reserve(200, demand, target)).grants.length;
  }

  /** Expects that there is no permit, for this reason, and when to ask again; a millisecond before it is still so. */
  async refused(limiting: Limiting, retryInMs: number, demand?: Partial<Demand>): Promise<void> {
    like(told(await this.reserve(1, demand)), { granted: 0, limiting, retryInMs });
  }

  /** Expects the same, that asking a millisecond too early is in vain, and asking in time is not. */
  async refusedUntil(limiting: Limiting, retryInMs: number, demand?: Partial<Demand>): Promise<Grant> {
    await this.refused(limiting, retryInMs, demand);
    await this.pass(retryInMs - 1);
    await this.refused(limiting, 1, demand);
    await this.pass(1);
    return this.grant(demand);
  }

  /** The answer came, and the exchange is over. */
  async answer(grant: Grant, outcome: Outcome = 'ok', report: Partial<Report> = {}): Promise<readonly Verdict[]> {
    return this.store.settle(grant.target, [
      { grant, outcome, retryAfterMs: undefined, graceMs: 0, end: true, ...report },
    ]);
  }

  /** It is over, and nothing is known of how. */
  over(grant: Grant): Promise<readonly Verdict[]> {
    return this.answer(grant, 'ignored', { outcome: undefined });
  }

  async cancel(...grants: readonly Grant[]): Promise<void> {
    await this.store.cancel(grants[0]?.target ?? TARGET, grants);
  }

  async bind(grant: Grant, egress: string): Promise<Binding> {
    return this.store.bind(grant.target, grant, egress);
  }

  /** What the caller does when a route is over. */
  async close(route: Route): Promise<void> {
    route.closed = true;
    this.store.retired?.(route);
    // It is told, and not waited for.
    await this.store.inspect(TARGET);
  }

  async target(name: string = TARGET): Promise<TargetSnapshot> {
    const [snapshot] = (await this.store.inspect(name)).targets;
    assert.ok(snapshot !== undefined, `inspect() does not know ${name}`);
    return snapshot;
  }

  /** One egress as inspect() has it. One that is not listed has nothing to tell. */
  async egress(key: string): Promise<Partial<EgressSnapshot>> {
    const { egresses } = await this.target();
    const idle = { egress: key, busy: 0, cooling: 0, usableInMs: 0, cooldownMs: 0, ejectedMs: 0 };
    return egresses.find(({ egress }) => egress === key) ?? idle;
  }
}

/** A reservation in short. */
export function told({ grants, limiting, retryInMs, probing = false }: Reservation): object {
  return { granted: grants.length, limiting, retryInMs, probing };
}

export const ids = (grants: readonly Grant[]): string[] => grants.map(({ route }) => route.id);
export const kinds = (verdicts: readonly Verdict[]): string[] => verdicts.map(({ kind }) => kind);

/** Sets a stage: a fresh store, these routes, and a policy like {@link POLICY}. */
export type SetStage = (routes: readonly Route[], policy?: Partial<Policy>, random?: Random) => Promise<Stage>;

/** Cases by their names. */
export type Cases = Readonly<Record<string, (stage: SetStage) => Promise<void>>>;

export type MakeStore = (tools: { readonly clock: VirtualClock; readonly random: Random }) => Awaitable<Store>;

/** Not zero, which a store may take for "never". */
export const START_MS = 1_000_000;

/** Calls `use` with a way to set stages, and closes their stores afterwards. */
export async function onStage<T>(make: MakeStore, use: (stage: SetStage) => Promise<T>): Promise<T> {
  const stores: (Store & Partial<AsyncDisposable>)[] = [];
  try {
    return await use(async (routes, policy, random = () => 0) => {
      const clock = virtualClock({ startMs: START_MS });
      const store = await make({ clock, random });
      stores.push(store);
      return new Stage(store, clock, routes, { ...POLICY, ...policy });
    });
  } finally {
    for (const store of stores) await (store[Symbol.asyncDispose]?.() ?? store.close());
  }
}
