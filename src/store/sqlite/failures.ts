import { StoreError } from '../../errors.ts';
import { BackendError } from '../shared/failure.ts';

// Primary result codes of SQLite.
const BUSY = 5;
const LOCKED = 6;
const READONLY = 8;
const IOERR = 10;
const CORRUPT = 11;
const FULL = 13;
const CANTOPEN = 14;
const NOTADB = 26;

const REMEDY: Readonly<Record<number, string>> = {
  [BUSY]:
    'is locked by another process for too long: it is for paceline only, and nothing else may keep it open in a transaction',
  [LOCKED]:
    'is locked by another process for too long: it is for paceline only, and nothing else may keep it open in a transaction',
  [READONLY]:
    'cannot be written to: this process needs write access to it, and to its directory for the files beside it (-wal, -shm)',
  [IOERR]: 'cannot be read or written: see to its disk',
  [CORRUPT]: 'is damaged: delete it, with the files beside it (-wal, -shm), while no process uses it',
  [FULL]: 'cannot grow: its disk is full',
  [CANTOPEN]: 'cannot be opened: its directory must exist, and this process needs access to both',
  [NOTADB]: 'is no SQLite database: name another file, which is made if it is missing',
};

/** What does not pass by itself. */
const LASTING: ReadonlySet<number> = new Set([READONLY, CORRUPT, CANTOPEN, NOTADB]);

/** Whether somebody else is writing just now. */
export function isBusy(error: unknown): boolean {
  const code = codeOf(error);
  return code === BUSY || code === LOCKED;
}

/** What went wrong with which file, and what to do. */
export function storeFailure(path: string, error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  const reason = error instanceof Error ? error.message : String(error);
  const code = codeOf(error) ?? -1;
  const remedy = REMEDY[code];
  const message = remedy === undefined ? `${path}: ${reason}` : `${path} ${remedy} (${reason})`;
  return new BackendError(message, !LASTING.has(code), { cause: error });
}

function codeOf(error: unknown): number | undefined {
  const { code, errcode } = (error ?? {}) as { code?: unknown; errcode?: unknown };
  // The lowest byte of an extended code is the primary one.
  return code === 'ERR_SQLITE_ERROR' && typeof errcode === 'number' ? errcode & 0xff : undefined;
}
