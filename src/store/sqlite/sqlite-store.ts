import type { Clock, Random } from '../../clock.ts';
import { systemClock } from '../../clock.ts';
import { hasMethods, invalid, isFunction, knownOnly } from '../../validate.ts';
import { FAILURE_OPTIONS, type FailureOptions, resolveFailureOptions } from '../shared/failure-options.ts';
import { Guard } from '../shared/guard.ts';
import { SharedStore } from '../shared/shared-store.ts';
import type { Store } from '../store.ts';
import { SqliteBackend } from './sqlite-backend.ts';

const BUSY_SHARE = 0.9;
/** SQLite counts in 32 bits. */
const MOST_BUSY_MS = 2 ** 31 - 1;

/** Options of {@link sqliteStore}. */
export interface SqliteStoreOptions extends FailureOptions {
  /** Of this process and of the file; for tests. @default the machine's monotonic clock */
  readonly clock?: Clock;
  /** Jitter, and names. @default Math.random */
  readonly random?: Random;
}

/**
 * State in a file, shared by the processes of one machine: together they keep each budget, with no server to run. The file
 * is made when it is missing, its directory is not; it must be on a local disk, and for paceline only.
 *
 * A process may be killed at any moment: the slots that it held come free a window after their deadline. After a loss of
 * power the last fractions of a second may be forgotten.
 *
 * @param path The file; `:memory:` for one that only this process sees and that ends with it.
 * @throws {StoreError} when the file cannot be used; its message says why, and what to do.
 * @throws {ConfigError} on a bad option.
 * @example
 * import { sqliteStore } from 'paceline/sqlite';
 *
 * const proxies = new ProxyManager({ gateway, store: sqliteStore('/var/lib/crawler/pace.db') });
 */
export function sqliteStore(path: string, options: SqliteStoreOptions = {}): Store {
  if (typeof path !== 'string' || path === '') throw invalid('path', 'the name of a file', path);
  knownOnly('sqliteStore', options, [...FAILURE_OPTIONS, 'clock', 'random']);
  hasMethods('clock', options.clock, ['now', 'wallNow', 'setTimeout', 'clearTimeout']);
  isFunction('random', options.random);
  const { clock = systemClock, random = Math.random } = options;
  const failure = resolveFailureOptions(options);
  const now = options.clock === undefined ? machineNow : () => clock.now();
  // While another process writes it is tried again, until just before the answer would come too late anyway.
  const backend = new SqliteBackend(
    path,
    Math.min(MOST_BUSY_MS, Math.ceil(failure.commandTimeoutMs * BUSY_SHARE)),
    now,
  );
  return new SharedStore(new Guard(backend, clock, random, failure), { clock, random });
}

/** The same for all processes of a machine, and no one can set it. */
function machineNow(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
