import { expect } from 'vitest';
import type { Clock, Random } from '../../src/clock.ts';
import type { EgressIndex } from '../../src/store/egress-index.ts';
import type { EgressTable } from '../../src/store/egress-table.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { MemoryTarget } from '../../src/store/memory-target.ts';
import { Direct } from '../../src/store/shared/direct.ts';
import { sweep } from '../../src/store/shared/lanes.ts';
import { MapRows } from '../../src/store/shared/map-rows.ts';
import { plainPolicy } from '../../src/store/shared/plain.ts';
import type { PermitRow, Place } from '../../src/store/shared/rows.ts';
import { SharedStore } from '../../src/store/shared/shared-store.ts';
import type { Backend, Batch, BatchAnswer } from '../../src/store/shared/steps.ts';
import { takeBatch } from '../../src/store/shared/take.ts';
import type {
  Binding,
  Demand,
  Grant,
  Policy,
  Report,
  Reservation,
  Route,
  Snapshot,
  Verdict,
} from '../../src/store/store.ts';

/**
 * A memory store that does everything with the shared stores' core as well, and expects the same of it, answer by answer.
 * What is lost with an egress that is cold is a matter of when it is looked at: here both forget the same ones, those that
 * the core finds.
 */
export class TwinStore extends MemoryStore {
  private readonly time: Clock;
  private readonly backend: ChoosingBackend;
  private readonly twin: SharedStore;
  private policy: Policy | undefined;
  private readonly grants = new WeakMap<Grant, Grant>();
  /**
   * Who goes first of several that are usable, when two pools share an egress, is a matter of its own: from there on the two
   * have gone different ways.
   */
  apart = false;

  constructor(clock: Clock, random: Random) {
    super(clock, random);
    this.time = clock;
    this.backend = new ChoosingBackend(clock);
    this.twin = new SharedStore(new Direct(this.backend, clock), { clock, random });
  }

  override reserve(target: string, demand: Demand): Reservation {
    this.notice(target);
    this.policy = demand.policy;
    const first = super.reserve(target, demand);
    if (this.apart) return first;
    const table = this.targetOf(target)!.table;
    table.sweep = () => {};
    this.backend.rowsOf(target).choices = first.grants.map(({ egress }) => egress);
    const second = this.twin.reserve(target, demand) as Reservation;
    // Of several that are usable next at the same time, either stands in the way.
    const exact = demand.pin !== undefined || this.backend.rowsOf(target).laneSize(demand.pool) < 2;
    if (demand.cost !== 1 && this.backend.rowsOf(target).shared.size > 0 && !sameChoice(first, second)) {
      this.apart = true;
      return first;
    }
    expect(plain(second, exact)).toEqual(plain(first, exact));
    for (const [i, grant] of first.grants.entries()) this.grants.set(grant, second.grants[i]);
    return first;
  }

  override bind(target: string, grant: Grant, egress: string): Binding {
    this.notice(target);
    const first = super.bind(target, grant, egress);
    if (this.apart) return first;
    const twin = this.grants.get(grant)!;
    expect(this.twin.bind(target, twin, egress)).toEqual(first);
    if (first.ok) expect(twin.egress).toBe(grant.egress);
    return first;
  }

  override settle(target: string, reports: readonly Report[]): readonly Verdict[] {
    this.notice(target);
    const first = super.settle(target, reports);
    if (this.apart) return first;
    const second = this.twin.settle(
      target,
      reports.map((report) => ({ ...report, grant: this.grants.get(report.grant)! })),
    );
    expect(second).toEqual(first);
    return first;
  }

  override cancel(target: string, grants: readonly Grant[]): void {
    this.notice(target);
    super.cancel(target, grants);
    if (this.apart) return;
    void this.twin.cancel(
      target,
      grants.map((grant) => this.grants.get(grant)!),
    );
  }

  override inspect(target?: string): Snapshot {
    const first = super.inspect(target);
    if (this.apart) return first;
    expect(sorted(this.twin.inspect(target) as Snapshot)).toEqual(sorted(first));
    return first;
  }

  retired(route: Route): void {
    this.twin.retired(route);
  }

  private targetOf(target: string): MemoryTarget | undefined {
    return (this as unknown as { targets: Map<string, MemoryTarget> }).targets.get(target);
  }

  /** That a route has ended, the memory store finds out in its own time; here it is to know, as the other does. */
  private notice(target: string): void {
    const table = this.targetOf(target)?.table;
    if (table === undefined) return;
    const now = this.time.now();
    for (let entry = 0; entry < table.slots.end; entry++) table.book.isLed(entry, now);
    if (this.apart) return;
    const rows = this.backend.rowsOf(target);
    rows.sweeping = true;
    sweep({ target, rows, gate: rows.gate()!, policy: plainPolicy(this.policy!), now });
    rows.sweeping = false;
    for (const key of rows.dropped.splice(0)) forget(table, key);
  }
}

/** Where several are equally good, chooses as it is told. */
class ChoosingRows extends MapRows {
  /** Of the next permits, in turn: their egress. */
  choices: string[] = [];
  private readonly clock: Clock;
  sweeping = false;
  readonly dropped: string[] = [];
  readonly shared: Set<string> = new Set<string>();
  private readonly keys = new Map<string, Map<string, number>>();

  constructor(clock: Clock) {
    super();
    this.clock = clock;
  }

  override savePermit(id: string, row: PermitRow): void {
    if (this.permit(id) === undefined) this.choices.shift();
    super.savePermit(id, row);
  }

  override place(pool: string, egress: string, key: number): void {
    if (Object.keys(this.egress(egress)!.routes).length > 1) this.shared.add(egress);
    super.place(pool, egress, key);
    const lane = this.keys.get(pool) ?? new Map<string, number>();
    this.keys.set(pool, lane.set(egress, key));
  }

  override leave(pool: string, egress: string): void {
    super.leave(pool, egress);
    this.keys.get(pool)?.delete(egress);
  }

  override first(pool: string): Place | undefined {
    const first = super.first(pool);
    const choice = this.chosen(pool);
    if (first === undefined || choice === undefined) return first;
    // An egress that two pools share, or did, may stand elsewhere among those that are usable.
    const shared = this.shared.has(first.egress) || this.shared.has(choice.egress);
    return choice.key === first.key || (shared && choice.key <= this.clock.now()) ? choice : first;
  }

  override *walk(pool: string): Iterable<Place> {
    const choice = this.chosen(pool);
    const first = choice !== undefined && choice.key < Infinity ? choice : undefined;
    if (first !== undefined) yield first;
    for (const place of super.walk(pool)) if (place.egress !== first?.egress) yield place;
  }

  override someEgresses(count: number): readonly string[] {
    return this.sweeping ? super.someEgresses(count) : [];
  }

  override dropEgress(key: string): void {
    this.dropped.push(key);
    super.dropEgress(key);
  }

  private chosen(pool: string): Place | undefined {
    const [egress] = this.choices;
    const key = this.keys.get(pool)?.get(egress);
    return key === undefined ? undefined : { egress, key };
  }
}

class ChoosingBackend implements Backend {
  private readonly clock: Clock;
  private readonly targets = new Map<string, ChoosingRows>();

  constructor(clock: Clock) {
    this.clock = clock;
  }

  rowsOf(target: string): ChoosingRows {
    let rows = this.targets.get(target);
    if (rows === undefined) this.targets.set(target, (rows = new ChoosingRows(this.clock)));
    return rows;
  }

  take(batch: Batch): BatchAnswer {
    return takeBatch(this.rowsOf(batch.target), batch, this.clock.now());
  }

  close(): void {
    this.targets.clear();
  }
}

/** As its own sweep does; but the entry is not used again, for a refusal of the old one would count as the new one's. */
function forget(table: EgressTable, key: string): void {
  const { index } = table as unknown as { index: EgressIndex };
  const entry = index.find(key);
  index.remove(entry);
  table.slots.release(entry);
  (table.slots as unknown as { vacant: number[] }).vacant.pop();
  table.health.forget(entry);
}

function sameChoice(a: Reservation, b: Reservation): boolean {
  const chosen = ({ grants }: Reservation): string => grants.map(({ egress }) => egress).join();
  return chosen(a) === chosen(b);
}

function plain({ grants, retryInMs, limiting, probing }: Reservation, exact: boolean): unknown {
  const ofOne = limiting === 'budget' || limiting === 'cooldown' || limiting === 'health';
  return {
    grants: grants.map(({ egress, route, startInMs }) => [egress, route.id, startInMs]),
    retryInMs,
    limiting: ofOne && !exact ? 'egress' : limiting,
    probing,
  };
}

function sorted({ targets }: Snapshot): unknown {
  return targets.map((target) => ({
    ...target,
    egresses: [...target.egresses].sort((a, b) => (a.egress < b.egress ? -1 : 1)),
  }));
}
