import type { EgressRow, GateRow, PermitRow, Place, Rows } from './rows.ts';

/** Items in the order of their key; of equal keys in the order of their names. */
export class Sorted {
  private readonly keys = new Map<string, number>();
  private readonly names: string[] = [];

  get size(): number {
    return this.names.length;
  }

  set(name: string, key: number): void {
    const before = this.keys.get(name);
    if (before === key) return;
    if (before !== undefined) this.names.splice(this.placeOf(name, before), 1);
    this.names.splice(this.placeOf(name, key), 0, name);
    this.keys.set(name, key);
  }

  delete(name: string): void {
    const key = this.keys.get(name);
    if (key === undefined) return;
    this.names.splice(this.placeOf(name, key), 1);
    this.keys.delete(name);
  }

  at(place: number): Place | undefined {
    const egress = this.names[place];
    return egress === undefined ? undefined : { egress, key: this.keys.get(egress)! };
  }

  /** Where it stands, or would. */
  private placeOf(name: string, key: number): number {
    const { names, keys } = this;
    let low = 0;
    let high = names.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const other = keys.get(names[middle])!;
      if (other < key || (other === key && names[middle] < name)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** The records of one target in this process's memory. */
export class MapRows implements Rows {
  private theGate: GateRow | undefined;
  private readonly byKey = new Map<string, EgressRow>();
  private readonly permits = new Map<string, PermitRow>();
  private readonly ends = new Sorted();
  private readonly lanes = new Map<string, Sorted>();
  private readonly out = new Set<string>();
  private readonly rounds: Iterator<string> = this.inTurn();

  gate(): GateRow | undefined {
    return this.theGate;
  }

  saveGate(gate: GateRow): void {
    this.theGate = gate;
  }

  egress(key: string): EgressRow | undefined {
    return this.byKey.get(key);
  }

  saveEgress(key: string, row: EgressRow): void {
    this.byKey.set(key, row);
  }

  dropEgress(key: string): void {
    this.byKey.delete(key);
  }

  egressCount(): number {
    return this.byKey.size;
  }

  egresses(): readonly string[] {
    return [...this.byKey.keys()];
  }

  someEgresses(count: number): readonly string[] {
    const some: string[] = [];
    while (some.length < Math.min(count, this.byKey.size)) some.push(this.rounds.next().value);
    return some;
  }

  permit(id: string): PermitRow | undefined {
    return this.permits.get(id);
  }

  savePermit(id: string, row: PermitRow): void {
    this.permits.set(id, row);
    this.ends.set(id, row.until);
  }

  dropPermit(id: string): void {
    this.permits.delete(id);
    this.ends.delete(id);
  }

  permitCount(): number {
    return this.permits.size;
  }

  overdue(now: number): string | undefined {
    const next = this.ends.at(0);
    return next !== undefined && next.key <= now ? next.egress : undefined;
  }

  place(pool: string, egress: string, key: number): void {
    let lane = this.lanes.get(pool);
    if (lane === undefined) this.lanes.set(pool, (lane = new Sorted()));
    lane.set(egress, key);
  }

  leave(pool: string, egress: string): void {
    const lane = this.lanes.get(pool);
    lane?.delete(egress);
    if (lane?.size === 0) this.lanes.delete(pool);
  }

  laneSize(pool: string): number {
    return this.lanes.get(pool)?.size ?? 0;
  }

  first(pool: string): Place | undefined {
    return this.lanes.get(pool)?.at(0);
  }

  *walk(pool: string): Iterable<Place> {
    const lane = this.lanes.get(pool);
    for (let place = 0; lane !== undefined && place < lane.size; place++) yield lane.at(place)!;
  }

  setOut(egress: string, out: boolean): void {
    if (out) this.out.add(egress);
    else this.out.delete(egress);
  }

  outs(): readonly string[] {
    return [...this.out];
  }

  outCount(): number {
    return this.out.size;
  }

  private *inTurn(): Generator<string, never> {
    for (;;) yield* this.byKey.keys();
  }
}
