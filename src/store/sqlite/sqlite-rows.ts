import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { EgressRow, GateRow, PermitRow, Place, Rows } from '../shared/rows.ts';

/** How many there are of everything, so that nothing is counted; and the last egress that was looked at for clean-up. */
interface Counts {
  egresses: number;
  permits: number;
  outs: number;
  readonly lanes: Record<string, number>;
  sweptTo: string;
}

const NOTHING: Counts = { egresses: 0, permits: 0, outs: 0, lanes: {}, sweptTo: '' };

const SQL = {
  findTarget: 'SELECT id, gate, cooling, counts FROM target WHERE name = ?',
  addTarget: "INSERT INTO target (name, keep_until, gate, cooling, counts) VALUES (?, 0, '', NULL, '')",
  saveTarget: 'UPDATE target SET keep_until = ?, gate = ?, cooling = ?, counts = ? WHERE id = ?',
  egress: 'SELECT record, cooling FROM egress WHERE target = ? AND key = ?',
  addEgress: 'INSERT INTO egress (record, cooling, target, key) VALUES (?, ?, ?, ?)',
  saveEgress: 'UPDATE egress SET record = ?, cooling = ? WHERE target = ? AND key = ?',
  dropEgress: 'DELETE FROM egress WHERE target = ? AND key = ?',
  egresses: 'SELECT key FROM egress WHERE target = ? ORDER BY key',
  someEgresses: 'SELECT key FROM egress WHERE target = ? AND key > ? ORDER BY key LIMIT ?',
  permit: 'SELECT record FROM permit WHERE target = ? AND id = ?',
  addPermit: 'INSERT INTO permit (until, record, target, id) VALUES (?, ?, ?, ?)',
  savePermit: 'UPDATE permit SET until = ?, record = ? WHERE target = ? AND id = ?',
  dropPermit: 'DELETE FROM permit WHERE target = ? AND id = ?',
  overdue: 'SELECT id FROM permit WHERE target = ? AND until <= ? ORDER BY until LIMIT 1',
  place: 'UPDATE lane SET key = ? WHERE target = ? AND pool = ? AND egress = ?',
  join: 'INSERT INTO lane (key, target, pool, egress) VALUES (?, ?, ?, ?)',
  leave: 'DELETE FROM lane WHERE target = ? AND pool = ? AND egress = ?',
  first: 'SELECT egress, key FROM lane WHERE target = ? AND pool = ? ORDER BY key LIMIT 1',
  walk: 'SELECT egress, key FROM lane WHERE target = ? AND pool = ? ORDER BY key',
  setOut: 'INSERT OR IGNORE INTO ejected (target, egress) VALUES (?, ?)',
  setIn: 'DELETE FROM ejected WHERE target = ? AND egress = ?',
  outs: 'SELECT egress FROM ejected WHERE target = ?',
};

/** The statements of one connection, each compiled once. */
export type Statements = Readonly<Record<keyof typeof SQL, StatementSync>>;

export function statements(db: DatabaseSync): Statements {
  return Object.fromEntries(Object.entries(SQL).map(([name, sql]) => [name, db.prepare(sql)])) as Statements;
}

interface FoundTarget {
  readonly id: number;
  readonly gate: string;
  readonly cooling: Uint8Array | null;
  readonly counts: string;
}

interface FoundEgress {
  readonly record: string;
  readonly cooling: Uint8Array | null;
}

interface Kept<T> {
  /** Undefined: it is not there, or no more. */
  row: T | undefined;
  /** It has a record in the file. */
  stored: boolean;
  changed: boolean;
}

/** The records of one target in the file, for one batch: inside a transaction, so that what was read once holds. */
export class SqliteRows implements Rows {
  private readonly sql: Statements;
  private readonly target: number;
  private readonly counts: Counts;
  private theGate: GateRow | undefined;
  private readonly read = new Map<string, Kept<EgressRow>>();
  private readonly permits = new Map<string, PermitRow | undefined>();
  /** By pool and egress: places that are not yet written. */
  private readonly places = new Map<string, Map<string, number>>();

  constructor(sql: Statements, name: string) {
    this.sql = sql;
    const found = sql.findTarget.get(name) as FoundTarget | undefined;
    if (found === undefined) {
      this.target = Number(sql.addTarget.run(name).lastInsertRowid);
      this.counts = { ...NOTHING, lanes: {} };
    } else {
      this.target = found.id;
      this.counts = JSON.parse(found.counts);
      this.theGate = JSON.parse(found.gate) as GateRow;
      if (this.theGate.account !== undefined) this.theGate.account.cooling = unpacked(found.cooling);
    }
  }

  /** Writes what is not yet written. */
  flush(): void {
    this.writePlaces();
    this.writeEgresses();
    const gate = this.theGate!;
    // On the clock of the file, that is: without what was added so that it never steps back.
    const keepUntil = gate.keepUntil - gate.skew;
    const account = gate.account && { ...gate.account, cooling: [] };
    const record = JSON.stringify({ ...gate, account });
    const cooling = packed(gate.account?.cooling ?? []);
    this.sql.saveTarget.run(keepUntil, record, cooling, JSON.stringify(this.counts), this.target);
  }

  gate(): GateRow | undefined {
    return this.theGate;
  }

  saveGate(gate: GateRow): void {
    this.theGate = gate;
  }

  egress(key: string): EgressRow | undefined {
    return this.keep(key).row;
  }

  saveEgress(key: string, row: EgressRow): void {
    const kept = this.keep(key);
    if (kept.row === undefined) this.counts.egresses++;
    kept.row = row;
    kept.changed = true;
  }

  dropEgress(key: string): void {
    const kept = this.keep(key);
    if (kept.row === undefined) return;
    if (kept.stored) this.sql.dropEgress.run(this.target, key);
    this.read.set(key, { row: undefined, stored: false, changed: false });
    this.counts.egresses--;
  }

  egressCount(): number {
    return this.counts.egresses;
  }

  egresses(): readonly string[] {
    this.writeEgresses();
    return (this.sql.egresses.all(this.target) as { key: string }[]).map(({ key }) => key);
  }

  someEgresses(count: number): readonly string[] {
    const { sql, target, counts } = this;
    let some = sql.someEgresses.all(target, counts.sweptTo, count) as { key: string }[];
    if (some.length === 0 && counts.sweptTo !== '') some = sql.someEgresses.all(target, '', count) as { key: string }[];
    counts.sweptTo = some.at(-1)?.key ?? '';
    return some.map(({ key }) => key);
  }

  permit(id: string): PermitRow | undefined {
    if (this.permits.has(id)) return this.permits.get(id);
    const found = this.sql.permit.get(this.target, id) as { record: string } | undefined;
    const row = found === undefined ? undefined : (JSON.parse(found.record) as PermitRow);
    this.permits.set(id, row);
    return row;
  }

  savePermit(id: string, row: PermitRow): void {
    const known = this.permit(id) !== undefined;
    const { addPermit, savePermit } = this.sql;
    (known ? savePermit : addPermit).run(row.until, JSON.stringify(row), this.target, id);
    if (!known) this.counts.permits++;
    this.permits.set(id, row);
  }

  dropPermit(id: string): void {
    if (this.sql.dropPermit.run(this.target, id).changes > 0) this.counts.permits--;
    this.permits.set(id, undefined);
  }

  permitCount(): number {
    return this.counts.permits;
  }

  overdue(now: number): string | undefined {
    return (this.sql.overdue.get(this.target, now) as { id: string } | undefined)?.id;
  }

  place(pool: string, egress: string, key: number): void {
    let lane = this.places.get(pool);
    if (lane === undefined) this.places.set(pool, (lane = new Map()));
    lane.set(egress, key);
  }

  leave(pool: string, egress: string): void {
    this.places.get(pool)?.delete(egress);
    if (this.sql.leave.run(this.target, pool, egress).changes === 0) return;
    if (--this.counts.lanes[pool] === 0) delete this.counts.lanes[pool];
  }

  laneSize(pool: string): number {
    this.writePlaces();
    return this.counts.lanes[pool] ?? 0;
  }

  first(pool: string): Place | undefined {
    this.writePlaces();
    return this.sql.first.get(this.target, pool) as Place | undefined;
  }

  walk(pool: string): Iterable<Place> {
    this.writePlaces();
    return this.sql.walk.iterate(this.target, pool) as Iterable<unknown> as Iterable<Place>;
  }

  setOut(egress: string, out: boolean): void {
    const { changes } = (out ? this.sql.setOut : this.sql.setIn).run(this.target, egress);
    this.counts.outs += out ? Number(changes) : -Number(changes);
  }

  outs(): readonly string[] {
    return (this.sql.outs.all(this.target) as { egress: string }[]).map(({ egress }) => egress);
  }

  outCount(): number {
    return this.counts.outs;
  }

  private keep(key: string): Kept<EgressRow> {
    let kept = this.read.get(key);
    if (kept === undefined) {
      const found = this.sql.egress.get(this.target, key) as FoundEgress | undefined;
      const row = found === undefined ? undefined : (JSON.parse(found.record) as EgressRow);
      if (row !== undefined) row.cooling = unpacked(found!.cooling);
      this.read.set(key, (kept = { row, stored: row !== undefined, changed: false }));
    }
    return kept;
  }

  private writeEgresses(): void {
    const { addEgress, saveEgress } = this.sql;
    for (const [key, kept] of this.read) {
      if (!kept.changed) continue;
      const record = JSON.stringify({ ...kept.row, cooling: [] });
      (kept.stored ? saveEgress : addEgress).run(record, packed(kept.row!.cooling), this.target, key);
      kept.stored = true;
      kept.changed = false;
    }
  }

  private writePlaces(): void {
    const { place, join } = this.sql;
    for (const [pool, lane] of this.places) {
      for (const [egress, key] of lane) {
        if (place.run(key, this.target, pool, egress).changes > 0) continue;
        join.run(key, this.target, pool, egress);
        this.counts.lanes[pool] = (this.counts.lanes[pool] ?? 0) + 1;
      }
    }
    this.places.clear();
  }
}

/** The stamps apart from the rest of their record, eight bytes each: there may be thousands, and every step writes them. */
function packed(stamps: readonly number[]): Uint8Array | null {
  // Node 22 takes no bytes for nothing at all.
  if (stamps.length === 0) return null;
  return new Uint8Array(Float64Array.from(stamps).buffer);
}

function unpacked(bytes: Uint8Array | null): number[] {
  if (bytes === null) return [];
  // A copy: the bytes need not begin where a number may.
  return Array.from(new Float64Array(Uint8Array.from(bytes).buffer));
}
