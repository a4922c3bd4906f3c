import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { ClosedError } from '../../errors.ts';
import { BackendError } from '../shared/failure.ts';
import type { Backend, Batch, BatchAnswer } from '../shared/steps.ts';
import { takeBatch } from '../shared/take.ts';
import type { Awaitable } from '../store.ts';
import { CleanUp } from './clean-up.ts';
import { isBusy, storeFailure } from './failures.ts';
import { openDatabase } from './schema.ts';
import { SqliteRows, type Statements, statements } from './sqlite-rows.ts';

/** Every so many transactions one of them cleans up a little. */
const CLEAN_UP_EVERY = 16;

/** The file is tried again after this, in milliseconds, and up to as much more at random: those who wait do not come together. */
const PAUSE_MS = 2;

interface Waiting {
  readonly batch: Batch;
  readonly until: number;
  readonly resolve: (answer: BatchAnswer) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * The state in a file that the processes of one machine share. A batch is one transaction, so it is one decision for all.
 * `node:sqlite` blocks the process while it works: who finds the file locked is not made to wait for it, but tries again.
 */
export class SqliteBackend implements Backend {
  private readonly path: string;
  private readonly busyMs: number;
  private readonly now: () => number;
  private readonly db: DatabaseSync;
  private readonly sql: Statements;
  private readonly cleanUp: CleanUp;
  private readonly begin: StatementSync;
  private readonly commit: StatementSync;
  private untilCleanUp = CLEAN_UP_EVERY;
  private waiting: Waiting[] = [];
  private timer: NodeJS.Timeout | undefined;
  private closed = false;

  /** @param now The file's clock: the same in all processes, in milliseconds. */
  constructor(path: string, busyMs: number, now: () => number) {
    this.path = path;
    this.busyMs = busyMs;
    this.now = now;
    this.db = openDatabase(path, busyMs);
    try {
      this.sql = statements(this.db);
      this.cleanUp = new CleanUp(this.db);
      this.begin = this.db.prepare('BEGIN IMMEDIATE');
      this.commit = this.db.prepare('COMMIT');
    } catch (error) {
      this.db.close();
      throw storeFailure(path, error);
    }
  }

  take(batch: Batch): Awaitable<BatchAnswer> {
    if (this.closed) throw new ClosedError(`the store in ${this.path}`);
    // In turn: who waits has come before.
    if (this.waiting.length === 0) {
      const [answer] = this.transaction([batch]) ?? [];
      if (answer !== undefined) return answer;
    }
    return new Promise((resolve, reject) => {
      this.waiting.push({ batch, until: performance.now() + this.busyMs, resolve, reject });
      if (this.timer === undefined) this.tryLater();
    });
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.timer);
    for (const { reject } of this.waiting) reject(new ClosedError(`the store in ${this.path}`));
    this.waiting = [];
    this.db.close();
  }

  /** Takes all of them as one transaction; undefined when the file is locked. */
  private transaction(batches: readonly Batch[]): readonly BatchAnswer[] | undefined {
    try {
      this.begin.run();
      const answers = batches.map((batch) => this.takeOne(batch));
      if (--this.untilCleanUp <= 0) {
        this.untilCleanUp = CLEAN_UP_EVERY;
        this.cleanUp.run(this.now());
      }
      this.commit.run();
      return answers;
    } catch (error) {
      this.rollBack();
      if (isBusy(error)) return undefined;
      throw storeFailure(this.path, error);
    }
  }

  private takeOne(batch: Batch): BatchAnswer {
    const rows = new SqliteRows(this.sql, batch.target);
    const answer = takeBatch(rows, batch, this.now());
    rows.flush();
    return answer;
  }

  /** Some errors end the transaction by themselves. */
  private rollBack(): void {
    if (!this.db.isTransaction) return;
    try {
      this.db.exec('ROLLBACK');
    } catch {
      // What was wrong is said by the first error; the next transaction will not begin either.
    }
  }

  private tryLater(): void {
    this.timer = setTimeout(() => this.tryAgain(), PAUSE_MS * (1 + Math.random()));
  }

  private tryAgain(): void {
    this.timer = undefined;
    const { waiting } = this;
    try {
      const answers = this.transaction(waiting.map(({ batch }) => batch));
      if (answers !== undefined) {
        this.waiting = [];
        waiting.forEach(({ resolve }, i) => void resolve(answers[i]));
        return;
      }
    } catch (error) {
      this.waiting = [];
      for (const { reject } of waiting) reject(error);
      return;
    }
    this.giveUp();
    if (this.waiting.length > 0) this.tryLater();
  }

  private giveUp(): void {
    const now = performance.now();
    const late = this.waiting.filter(({ until }) => until <= now);
    if (late.length === 0) return;
    this.waiting = this.waiting.filter(({ until }) => until > now);
    const failure = new BackendError(
      `${this.path} has been locked by other processes for ${this.busyMs} ms: it is for paceline only, and on a disk that keeps up`,
      true,
    );
    for (const { reject } of late) reject(failure);
  }
}
