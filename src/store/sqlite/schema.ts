import { DatabaseSync } from 'node:sqlite';
import { StoreError } from '../../errors.ts';
import { isBusy, storeFailure } from './failures.ts';

/** "pace": whose file it is. */
const APPLICATION = 0x70616365;
/** Goes up whenever the tables, or what is in the records, change. */
const VERSION = 1;

/** While it works, a call blocks this process: this long it waits for another one, in milliseconds. */
const BUSY_MS = 3;
const PAUSE_MS = 5;

/**
 * The records are JSON. What is looked for has a column of its own (the places in the lanes, the end of the permits), and so
 * have the stamps of cooling slots, of which there may be thousands.
 * A target goes by a number, for its name would be in every key; one without a name is being cleaned up.
 */
const TABLES = `
CREATE TABLE target (
  id INTEGER PRIMARY KEY,
  name TEXT UNIQUE,
  keep_until REAL NOT NULL,
  gate TEXT NOT NULL,
  cooling BLOB,
  counts TEXT NOT NULL
) STRICT;
CREATE INDEX target_keep ON target (keep_until);
CREATE TABLE egress (
  target INTEGER NOT NULL,
  key TEXT NOT NULL,
  record TEXT NOT NULL,
  cooling BLOB,
  PRIMARY KEY (target, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE ejected (
  target INTEGER NOT NULL,
  egress TEXT NOT NULL,
  PRIMARY KEY (target, egress)
) STRICT, WITHOUT ROWID;
CREATE TABLE lane (
  target INTEGER NOT NULL,
  pool TEXT NOT NULL,
  egress TEXT NOT NULL,
  key REAL NOT NULL,
  PRIMARY KEY (target, pool, egress)
) STRICT, WITHOUT ROWID;
CREATE INDEX lane_key ON lane (target, pool, key);
CREATE TABLE permit (
  target INTEGER NOT NULL,
  id TEXT NOT NULL,
  until REAL NOT NULL,
  record TEXT NOT NULL,
  PRIMARY KEY (target, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX permit_until ON permit (target, until);
`;

/**
 * Opens the file, which is made when it is missing. Other processes may do the same at this moment: that is waited for.
 *
 * @throws {StoreError} when it is not to be used.
 */
export function openDatabase(path: string, busyMs: number): DatabaseSync {
  let db: DatabaseSync | undefined;
  try {
    db = new DatabaseSync(path, { timeout: busyMs });
    prepare(db, path, busyMs);
    db.exec(`PRAGMA busy_timeout = ${BUSY_MS}`);
    return db;
  } catch (error) {
    db?.close();
    throw storeFailure(path, error);
  }
}

function prepare(db: DatabaseSync, path: string, busyMs: number): void {
  // A read that does not ask for much, but tells whether it is a database at all.
  const mode = readPragma(db, 'journal_mode');
  // Checked before anything is written: it may be somebody else's.
  if (atOnce(db, () => isEmpty(db, path)) && mode !== 'wal')
    persist(busyMs, () => db.exec('PRAGMA journal_mode = WAL'));
  // A commit then waits for no disk. The last ones are lost with the machine's power; with a process, none.
  db.exec('PRAGMA synchronous = NORMAL');
  db.exec('BEGIN IMMEDIATE');
  try {
    if (isEmpty(db, path)) {
      db.exec(TABLES);
      db.exec(`PRAGMA application_id = ${APPLICATION}`);
      db.exec(`PRAGMA user_version = ${VERSION}`);
    }
    db.exec('COMMIT');
  } catch (error) {
    db.exec('ROLLBACK');
    throw error;
  }
}

/** What `look` sees is of one moment: between two readings another process may make its tables. */
function atOnce<T>(db: DatabaseSync, look: () => T): T {
  db.exec('BEGIN');
  try {
    return look();
  } finally {
    db.exec('ROLLBACK');
  }
}

/** Whether nothing is in it yet. Throws when what is in it is not this store's. */
function isEmpty(db: DatabaseSync, path: string): boolean {
  const application = readPragma(db, 'application_id');
  const version = readPragma(db, 'user_version');
  if (application === APPLICATION) {
    if (version === VERSION) return false;
    throw new StoreError(
      `${path} is of another version of paceline (its schema is ${version}, this one's ${VERSION}): name another file, or delete it while no process uses it`,
    );
  }
  const { tables } = db.prepare('SELECT COUNT(*) AS tables FROM sqlite_schema').get() as { tables: number };
  if (application === 0 && version === 0 && tables === 0) return true;
  throw new StoreError(`${path} is another program's database: name another file, which is made if it is missing`);
}

function readPragma(db: DatabaseSync, pragma: string): unknown {
  return Object.values(db.prepare(`PRAGMA ${pragma}`).get() ?? {})[0];
}

/** SQLite does not wait by itself where two would wait for each other, as when both change the journal's mode. */
function persist(busyMs: number, work: () => void): void {
  const until = performance.now() + busyMs;
  for (;;) {
    try {
      work();
      return;
    } catch (error) {
      if (!isBusy(error) || performance.now() >= until) throw error;
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
  }
}
