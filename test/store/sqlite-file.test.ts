import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { ConfigError, StoreError } from 'paceline';
import { sqliteStore } from 'paceline/sqlite';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { storeFailure } from '../../src/store/sqlite/failures.ts';
import type { Demand } from '../../src/store/store.ts';
import { virtualClock } from '../../src/testing/virtual-clock.ts';
import { storePolicy, TARGET } from '../support/at-store.ts';
import { storeRoute } from '../support/store-trace.ts';

const route = storeRoute(1, { session: undefined });
const demand = (options: Partial<Demand> = {}): Demand => ({
  count: 1,
  policy: storePolicy(),
  pool: 'pool',
  pin: route,
  patienceMs: 0,
  horizonMs: 0,
  deadlineMs: 10_000,
  ...options,
});

describe('the file of a sqlite store', () => {
  let directory: string;
  let path: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'paceline-'));
    path = join(directory, 'pace.db');
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  const failure = (open: () => unknown): string => {
    try {
      open();
    } catch (error) {
      expect(error).toBeInstanceOf(StoreError);
      return (error as Error).message;
    }
    throw new Error('it opened');
  };

  it('keeps what was granted when the process that granted it is gone', async () => {
    const clock = virtualClock();
    const first = sqliteStore(path, { clock });
    const { grants } = await first.reserve(TARGET, demand({ count: 2 }));
    expect(grants.length).toBe(2);
    await first.settle(TARGET, [{ grant: grants[0], outcome: 'ok', retryAfterMs: undefined, graceMs: 0, end: true }]);
    await first.close();

    const second = sqliteStore(path, { clock });
    expect(await second.reserve(TARGET, demand())).toMatchObject({ grants: [], retryInMs: 100, limiting: 'budget' });
    clock.advanceSync(100);
    expect((await second.reserve(TARGET, demand())).grants.length).toBe(1);
    expect((await second.inspect(TARGET)).targets[0].active).toBe(2);
    await second.close();
  });

  it('goes on from where it was when the clock has been set back, as by a reboot', async () => {
    const clock = virtualClock();
    clock.advanceSync(1_000_000);
    const first = sqliteStore(path, { clock });
    const { grants } = await first.reserve(TARGET, demand({ count: 2 }));
    await first.settle(
      TARGET,
      grants.map((grant) => ({ grant, outcome: 'ok', retryAfterMs: undefined, graceMs: 0, end: true }) as const),
    );
    await first.close();
    const rebooted = virtualClock();
    const second = sqliteStore(path, { clock: rebooted });
    expect(await second.reserve(TARGET, demand())).toMatchObject({ grants: [], retryInMs: 100 });
    rebooted.advanceSync(99);
    expect(await second.reserve(TARGET, demand())).toMatchObject({ grants: [], retryInMs: 1 });
    rebooted.advanceSync(1);
    expect((await second.reserve(TARGET, demand({ count: 3 }))).grants.length).toBe(2);
    await second.close();
  });

  it('rests for a window when what a process has seen of a target is gone', async () => {
    const clock = virtualClock();
    clock.advanceSync(5);
    const store = sqliteStore(path, { clock });
    await store.reserve(TARGET, demand());
    const other = new DatabaseSync(path);
    other.exec('DELETE FROM target');
    other.close();
    clock.advanceSync(10);
    expect(await store.reserve(TARGET, demand())).toMatchObject({ grants: [], retryInMs: 100, limiting: 'target' });
    clock.advanceSync(100);
    expect((await store.reserve(TARGET, demand())).grants.length).toBe(1);
    await store.close();
  });

  it('forgets targets that nobody uses, a little at a time', async () => {
    const clock = virtualClock();
    const store = sqliteStore(path, { clock });
    const routes = Array.from({ length: 100 }, (_, i) => storeRoute(i + 1));
    const offer = (after: number) => routes.find(({ seq }) => seq > after);
    const policy = storePolicy({ limit: 1, windowMs: 1000 });
    const { grants } = await store.reserve('old.test', demand({ count: 100, policy, pin: undefined, offer }));
    expect(grants.length).toBe(100);
    await store.cancel('old.test', grants.slice(0, 99));
    const other = new DatabaseSync(path);
    const rows = (table: string): number => {
      const [target] = other.prepare("SELECT id FROM target WHERE name IS NULL OR name = 'old.test'").all();
      if (target === undefined) return 0;
      const found = other.prepare(`SELECT COUNT(*) AS n FROM ${table} WHERE target = ?`).get(target.id);
      return (found as { n: number }).n;
    };
    expect([rows('egress'), rows('lane'), rows('permit')]).toEqual([100, 100, 1]);
    const use = async (times: number): Promise<void> => {
      for (let i = 0; i < times; i++) await store.cancel(TARGET, (await store.reserve(TARGET, demand())).grants);
    };
    clock.advanceSync(50_000);
    await use(50);
    expect(rows('egress')).toBe(100);
    clock.advanceSync(50_000);
    await use(100);
    expect([rows('egress'), rows('lane'), rows('permit')]).toEqual([0, 0, 0]);
    expect(other.prepare('SELECT name FROM target').all()).toMatchObject([{ name: TARGET }]);
    other.close();
    await store.close();
  });

  it('waits for other processes without holding up this one, and then says who is to blame', async () => {
    const store = sqliteStore(path, { commandTimeoutMs: 100, onStoreError: 'fail' });
    await store.reserve(TARGET, demand());
    const other = new DatabaseSync(path);
    other.exec('BEGIN IMMEDIATE');
    let ticks = 0;
    const ticking = setInterval(() => ticks++, 5);
    const late = store.reserve(TARGET, demand());
    await expect(late).rejects.toThrow(StoreError);
    await expect(late).rejects.toThrow(`${path} has been locked by other processes for 90 ms`);
    clearInterval(ticking);
    expect(ticks).toBeGreaterThan(2);

    other.exec('COMMIT');
    other.close();
    const granted = async () => {
      try {
        return (await store.reserve(TARGET, demand())).grants.length;
      } catch {
        return 0;
      }
    };
    await expect.poll(granted, { timeout: 5000 }).toBe(1);
    expect((await store.inspect(TARGET)).targets[0].active).toBe(2);
    await store.close();
    await expect(async () => store.reserve(TARGET, demand())).rejects.toThrow('closed');
  });

  it('is opened by several at once', async () => {
    const stores = [1, 2, 3].map(() => sqliteStore(path));
    for (const store of stores)
      expect((await store.reserve(TARGET, demand({ count: 9 }))).grants.length).toBeLessThan(3);
    expect((await stores[2].inspect(TARGET)).targets[0].active).toBe(2);
    for (const store of stores) await store.close();
  });

  it('says what is wrong with it, and what to do', () => {
    const missing = join(directory, 'missing', 'pace.db');
    expect(failure(() => sqliteStore(missing))).toContain(`${missing} cannot be opened: its directory must exist`);
    writeFileSync(path, 'Not a database, but a text that is long enough to have a header of its own.'.repeat(20));
    expect(failure(() => sqliteStore(path))).toContain(`${path} is no SQLite database: name another file`);
    const foreign = join(directory, 'foreign.db');
    const other = new DatabaseSync(foreign);
    other.exec('CREATE TABLE notes (text TEXT)');
    expect(failure(() => sqliteStore(foreign))).toContain(`${foreign} is another program's database`);
    // Nothing of it was changed.
    expect(other.prepare('PRAGMA journal_mode').get()).toMatchObject({ journal_mode: 'delete' });
    other.close();
    const later = join(directory, 'later.db');
    void sqliteStore(later).close();
    const changed = new DatabaseSync(later);
    changed.exec('PRAGMA user_version = 7');
    changed.close();
    expect(failure(() => sqliteStore(later))).toContain('another version of paceline (its schema is 7, this one');
  });

  it('says so when its disk is full or it cannot be written to', () => {
    const full = new DatabaseSync(path);
    full.exec('PRAGMA max_page_count = 2; CREATE TABLE t (x)');
    const filled = (): unknown => {
      try {
        return full.exec('INSERT INTO t VALUES (randomblob(100000))');
      } catch (error) {
        return error;
      }
    };
    expect(storeFailure(path, filled()).message).toContain('cannot grow: its disk is full');
    full.close();
    const read = new DatabaseSync(path, { readOnly: true });
    const written = (): unknown => {
      try {
        return read.exec('DELETE FROM t');
      } catch (error) {
        return error;
      }
    };
    expect(storeFailure(path, written()).message).toContain('cannot be written to');
    read.close();
  });

  it('refuses options that it does not know', () => {
    expect(() => sqliteStore('')).toThrow(ConfigError);
    expect(() => sqliteStore(path, { commandTimeoutMs: -1 })).toThrow('commandTimeoutMs');
    expect(() => sqliteStore(path, { busy: 1 } as object)).toThrow('busy');
  });
});
