import type { Clock, Random } from '../../clock.ts';
import { systemClock } from '../../clock.ts';
import { invalid, knownOnly, nonNegative } from '../../validate.ts';
import { Direct } from '../shared/direct.ts';
import { SharedStore } from '../shared/shared-store.ts';
import { SqliteBackend } from './sqlite-backend.ts';

/** Options of {@link sqliteStore}. */
export interface SqliteStoreOptions {
  /** How long a call waits for other processes that are writing, in milliseconds, ≥ 0; then it fails with a `StoreError`. @default 1000 */
  readonly busyMs?: number;
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
export function sqliteStore(path: string, options: SqliteStoreOptions = {}): SharedStore {
  if (typeof path !== 'string' || path === '') throw invalid('path', 'the name of a file', path);
  knownOnly('options', options, ['busyMs', 'clock', 'random']);
  const { clock = systemClock, random } = options;
  const busyMs = nonNegative('busyMs', options.busyMs ?? 1000, 'milliseconds');
  const backend = new SqliteBackend(path, busyMs, options.clock === undefined ? machineNow : () => clock.now());
  return new SharedStore(new Direct(backend, clock), { clock, random });
}

/** The same for all processes of a machine, and no one can set it. */
function machineNow(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
