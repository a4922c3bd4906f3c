import { invalid, knownOnly } from '../../validate.ts';
import { adapting } from './adapting.ts';
import { binding } from './binding.ts';
import { breaker } from './breaker.ts';
import { choice } from './choice.ts';
import { cooldowns } from './cooldowns.ts';
import { sameAsMemory } from './differential.ts';
import { ends } from './ends.ts';
import { health } from './health.ts';
import { limits } from './limits.ts';
import { pins } from './pins.ts';
import { probes } from './probe.ts';
import { promises } from './promises.ts';
import { slots } from './slots.ts';
import { type Cases, type MakeStore, onStage } from './stage.ts';

/** Options of {@link storeContract}. */
export interface StoreContractOptions {
  /**
   * Makes a store with nothing in it, several of them in one case: in a shared database, each with a prefix or a table of
   * its own. All of its decisions are to go by `clock`, which stands still until a case moves it, and its jitter by
   * `random`: a store that knows only its server's own time cannot be tested by this. Afterwards it is disposed of where it
   * is an `AsyncDisposable`, and closed where not.
   */
  readonly make: MakeStore;
  /** How many random traces are compared with {@link memoryStore}; an integer ≥ 0. @default 50 */
  readonly traces?: number;
  /** Number of the first trace; the same number is the same trace. An integer ≥ 0. @default 1 */
  readonly seed?: number;
}

/** One test of {@link storeContract}. */
export interface StoreCase {
  readonly name: string;
  /** Rejects with an `AssertionError` of `node:assert` when the store breaks the contract. */
  run(): Promise<void>;
}

const ALL: readonly Cases[] = [
  slots,
  choice,
  pins,
  limits,
  ends,
  binding,
  cooldowns,
  health,
  probes,
  breaker,
  adapting,
  promises,
];

/**
 * What a {@link Store} promises, as tests for one of your own: about 170 cases by name, each with a fresh store in virtual
 * time, then random traces whose every answer is to be that of {@link memoryStore}. For any test runner. Where the words of
 * the contract leave something open, `memoryStore()` is right.
 *
 * Numbers may differ by a millionth. Two things are not asked of a store: which of several egresses it takes that are
 * equally good to the microsecond, and what it remembers of an egress that is cold.
 *
 * @throws {ConfigError} on a bad option.
 * @example
 * import { storeContract } from 'paceline/testing';
 * import { describe, it } from 'vitest'; // or node:test, or Jest
 *
 * describe('my store', () => {
 *   const make = ({ clock, random }) => new MyStore({ table: nextTable(), clock, random });
 *   for (const { name, run } of storeContract({ make })) it(name, run);
 * });
 */
export function storeContract(options: StoreContractOptions): readonly StoreCase[] {
  knownOnly('storeContract', options, ['make', 'traces', 'seed']);
  const { make, traces = 50, seed = 1 } = options;
  if (typeof make !== 'function') throw invalid('make', 'a function that makes a store', make);
  whole('traces', traces);
  whole('seed', seed);
  const cases = ALL.flatMap((some) =>
    Object.entries(some).map(([name, play]) => ({ name, run: () => onStage(make, play) })),
  );
  const random = Array.from({ length: traces }, (_, i) => ({
    name: `as memoryStore() has it: trace ${seed + i}`,
    run: () => sameAsMemory(make, seed + i),
  }));
  return [...cases, ...random];
}

function whole(option: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw invalid(option, 'an integer ≥ 0', value);
}
