import { MemoryStore } from '../../store/memory.ts';
import type { Demand, EgressSnapshot, Grant, Policy, Reservation, Route, Store } from '../../store/store.ts';
import { virtualClock } from '../virtual-clock.ts';
import { like } from './like.ts';
import { aRoute, offerOf } from './scenery.ts';
import { type MakeStore, START_MS, told } from './stage.ts';
import { drawTrace, type Step, type Trace } from './trace.ts';

const TARGETS = ['a.test', 'b.test'];
const EXITS = ['10.0.0.1', '10.0.0.2', '10.0.0.3', '2001:db8::/64'];
/**
 * Each moment has a fraction of its own, so that no two times that follow from different ones are the same; by more than a
 * microsecond, for a store may keep the order of use in those.
 */
const FRACTION_MS = 2 ** -7;

/** A permit of the store, and what the memory store gave for it. */
interface Pair {
  readonly target: number;
  readonly theirs: Grant;
  readonly ours: Grant;
  /** Past it the permit is lost. */
  readonly deadline: number;
  /** It was answered, or cancelled. */
  over: boolean;
}

/** Does the same with a store and with a memory store, and expects the same of both, answer by answer. */
class Duel {
  private readonly clock = virtualClock({ startMs: START_MS });
  private readonly ours: MemoryStore;
  private readonly routes: readonly Route[];
  private readonly policies: Policy[];
  private theirs!: Store;
  private open: Pair[] = [];
  /** Egresses of which something was settled: they have a place in the order of use that is their own. */
  private readonly used = new Set<string>();

  constructor({ policy, routes, luck }: Trace) {
    this.ours = new MemoryStore(this.clock, () => luck);
    this.routes = routes;
    this.policies = TARGETS.map(() => policy);
  }

  async run(make: MakeStore, { steps, luck }: Trace): Promise<void> {
    this.theirs = await make({ clock: this.clock, random: () => luck });
    // One permit is out for ever: a target in use is not forgotten, and the order of its egresses with it.
    const pin = aRoute(99, { pool: 'kept' });
    for (const target of TARGETS.keys()) {
      await this.reserve(target, { count: 1, pool: 'kept', pin, patienceMs: 0, horizonMs: 0, deadlineMs: 1e9 });
    }
    this.open = [];
    for (const [i, [waitMs, step]] of steps.entries()) {
      await this.passTo(Math.floor(this.clock.now()) + waitMs + (i + 1) * FRACTION_MS);
      try {
        await this.take(step);
        await this.inspect();
      } catch (error) {
        (error as Error).message += `\nin step ${i}: ${JSON.stringify(step)}`;
        throw error;
      }
    }
  }

  private async passTo(instant: number): Promise<void> {
    if (instant > this.clock.now()) await this.clock.advanceTo(instant);
  }

  private async take(step: Step): Promise<void> {
    switch (step.do) {
      case 'reserve': {
        const { target, pool, pin, ...rest } = step;
        const pinned = pin < 0 ? undefined : this.routes[pin % this.routes.length];
        const demand = { ...rest, pool: pinned?.pool ?? pool, pin: pinned };
        const { retryInMs, grants, limiting } = await this.reserve(target, demand);
        if (grants.length > 0 || retryInMs > 1000) break;
        // To the very moment, half of it first. When the target has rested, its egresses may have so until then, too.
        await this.passTo(this.clock.now() + retryInMs / 2);
        await this.reserve(target, demand);
        await this.passTo(this.clock.now() + retryInMs / 2 + (limiting === 'target' ? FRACTION_MS / 2 : 0));
        await this.reserve(target, demand);
        break;
      }
      case 'settle': {
        const pair = this.pick(step.permit);
        if (pair === undefined) break;
        const { target, ours, theirs } = pair;
        const expected = this.ours.settle(TARGETS[target], [{ ...step.report, grant: ours }]);
        like(await this.theirs.settle(TARGETS[target], [{ ...step.report, grant: theirs }]), expected, 'verdicts');
        this.used.add(ours.egress);
        pair.over = true;
        // Now and then it is settled again, or cancelled after all.
        if (step.report.end && step.permit % 4 > 0) this.open = this.open.filter((one) => one !== pair);
        break;
      }
      case 'bind':
        await this.bind(step.permit, step.exit);
        break;
      case 'cancel': {
        const pair = this.pick(step.permit);
        if (pair === undefined || !this.used.has(pair.ours.egress)) break;
        pair.over = true;
        this.ours.cancel(TARGETS[pair.target], [pair.ours]);
        await this.theirs.cancel(TARGETS[pair.target], [pair.theirs]);
        break;
      }
      case 'limit':
        this.policies[0] = { ...this.policies[0], limit: step.limit, adaptBudget: undefined };
        break;
      case 'close':
        await this.close(this.routes[step.route % this.routes.length]);
    }
  }

  private pick(permit: number): Pair | undefined {
    return this.open.length === 0 ? undefined : this.open[permit % this.open.length];
  }

  private async reserve(target: number, demand: Omit<Demand, 'policy' | 'offer'>): Promise<Reservation> {
    const policy = this.policies[target];
    const offer = demand.pin === undefined ? offerOf(this.routes, demand.pool, this.clock) : undefined;
    const whole = { ...demand, cost: Math.min(demand.cost ?? 1, policy.limit), policy, offer };
    const ours = this.ours.reserve(TARGETS[target], whole);
    const theirs = await this.theirs.reserve(TARGETS[target], whole);
    like(granted(theirs), granted(ours), 'permits');
    like(told(theirs), told(ours), 'answer');
    for (const [i, grant] of ours.grants.entries()) {
      const deadline = this.clock.now() + grant.startInMs + demand.deadlineMs;
      this.open.push({ target, ours: grant, theirs: theirs.grants[i], deadline, over: false });
    }
    return ours;
  }

  private async bind(permit: number, exit: number): Promise<void> {
    const pair = this.pick(permit);
    if (pair === undefined) return;
    const { target, ours, theirs } = pair;
    const { route } = ours;
    // Exits of its own for each pool: who goes first where two pools share one is open. With health, one for each route.
    const own = this.policies[target].health !== undefined;
    const egress = own && route.weight === 1 ? `exit of ${route.id}` : `${route.pool} ${EXITS[exit % EXITS.length]}`;
    // What a permit that is over has found out, a store need not hear.
    const held = !pair.over && pair.deadline > this.clock.now();
    if (held) route.trial = false;
    const expected = this.ours.bind(TARGETS[target], ours, egress);
    like(await this.theirs.bind(TARGETS[target], theirs, egress), expected, 'binding');
    like(theirs.egress, ours.egress, 'egress of the permit');
    if (expected.ok) this.used.add(egress);
    if (held && route.weight === 1) route.egress = egress;
    if (expected.duplicate && !own) await this.close(route);
  }

  private async close(route: Route): Promise<void> {
    route.closed = true;
    this.theirs.retired?.(route);
  }

  private async inspect(): Promise<void> {
    for (const [i, name] of TARGETS.entries()) {
      const [{ egresses: ours, ...target }] = this.ours.inspect(name).targets;
      const [snapshot] = (await this.theirs.inspect(name)).targets;
      like(snapshot, target, 'inspect()');
      // Either may have forgotten what is cold; nothing else.
      const known = byKey(snapshot.egresses);
      for (const egress of ours) {
        if (known.has(egress.egress) || matters(egress, this.policies[i]))
          like(known.get(egress.egress), egress, 'inspect()');
      }
      const own = byKey(ours);
      for (const egress of snapshot.egresses)
        if (matters(egress, this.policies[i])) like(own.has(egress.egress), true, egress.egress);
    }
  }

  async end(): Promise<void> {
    const store: (Store & Partial<AsyncDisposable>) | undefined = this.theirs;
    await (store?.[Symbol.asyncDispose]?.() ?? store?.close());
  }
}

/** What an account has left is known without the egress. */
function matters({ busy, cooling, cooldownMs, ejectedMs, usableInMs }: EgressSnapshot, { scope }: Policy): boolean {
  return busy + cooling + cooldownMs + ejectedMs > 0 || (scope !== 'account' && usableInMs > 0);
}

const byKey = (egresses: readonly EgressSnapshot[]): Map<string, EgressSnapshot> =>
  new Map(egresses.map((egress) => [egress.egress, egress]));

const granted = ({ grants }: Reservation): unknown =>
  grants.map(({ route, egress, startInMs }) => ({ route: route.id, egress, startInMs }));

/** Runs the trace of that seed. */
export async function sameAsMemory(make: MakeStore, seed: number): Promise<void> {
  const trace = drawTrace(seed, START_MS);
  const duel = new Duel(trace);
  try {
    await duel.run(make, trace);
  } finally {
    await duel.end();
  }
}
