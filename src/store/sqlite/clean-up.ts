import type { DatabaseSync, StatementSync } from 'node:sqlite';

/** Records that are deleted at a time: no call is to wait for many. */
const AT_A_TIME = 64;
const TABLES = ['lane', 'ejected', 'permit', 'egress'];

/** Deletes targets that nobody has used for long, a little at a time. Inside a transaction. */
export class CleanUp {
  private readonly due: StatementSync;
  private readonly unname: StatementSync;
  private readonly gone: StatementSync;
  private readonly empty: readonly StatementSync[];
  private readonly drop: StatementSync;

  constructor(db: DatabaseSync) {
    this.due = db.prepare(
      'SELECT id FROM target WHERE keep_until < ? AND name IS NOT NULL ORDER BY keep_until LIMIT 1',
    );
    this.unname = db.prepare('UPDATE target SET name = NULL, keep_until = -1 WHERE id = ?');
    this.gone = db.prepare('SELECT id FROM target WHERE keep_until = -1 LIMIT 1');
    this.empty = TABLES.map((table) => {
      const keys = { lane: 'pool, egress', ejected: 'egress', permit: 'id', egress: 'key' }[table];
      return db.prepare(
        `DELETE FROM ${table} WHERE target = ?1 AND (${keys}) IN (SELECT ${keys} FROM ${table} WHERE target = ?1 LIMIT ${AT_A_TIME})`,
      );
    });
    this.drop = db.prepare('DELETE FROM target WHERE id = ?');
  }

  run(time: number): void {
    const gone = this.gone.get() as { id: number } | undefined;
    if (gone === undefined) {
      const due = this.due.get(time) as { id: number } | undefined;
      // Whoever asks for it now finds nothing of it, however long its records take.
      if (due !== undefined) this.unname.run(due.id);
      return;
    }
    for (const empty of this.empty) if (empty.run(gone.id).changes > 0) return;
    this.drop.run(gone.id);
  }
}
