import { count, invalid, positive } from '../../validate.ts';

/** What a shared store does when where its state is cannot be asked. */
export interface FailureOptions {
  /**
   * No call waits longer for an answer, whatever the client's own settings; milliseconds, > 0.
   *
   * @default 1000
   */
  readonly commandTimeoutMs?: number;
  /**
   * What becomes of requests while there is no answer.
   *
   * - `'local'`: after one window of rest this worker goes on by itself, on its share of every limit (1 / `expectedWorkers`).
   *   No budget is exceeded by workers that are all cut off; one that is cut off alone adds its share to what the others use.
   * - `'wait'`: they wait until the state is back, or their own time limits are over. Nothing is exceeded in any case.
   * - `'fail'`: they fail with a {@link StoreError}, at once while it is known to be down.
   *
   * @default 'local'
   */
  readonly onStoreError?: 'local' | 'wait' | 'fail';
  /**
   * How many workers share the state, at most: an integer ≥ 1. What each may use alone is the limit divided by it.
   *
   * @default 8
   */
  readonly expectedWorkers?: number;
}

export const FAILURE_OPTIONS: readonly string[] = ['commandTimeoutMs', 'onStoreError', 'expectedWorkers'];

/** @throws {ConfigError} on a bad one. */
export function resolveFailureOptions(options: FailureOptions): Required<FailureOptions> {
  const { onStoreError = 'local' } = options;
  if (onStoreError !== 'local' && onStoreError !== 'wait' && onStoreError !== 'fail') {
    throw invalid('onStoreError', "'local', 'wait' or 'fail'", onStoreError);
  }
  return {
    commandTimeoutMs: positive('commandTimeoutMs', options.commandTimeoutMs ?? 1000, 'milliseconds'),
    onStoreError,
    expectedWorkers: count('expectedWorkers', options.expectedWorkers ?? 8),
  };
}
