import { adapting } from './adapting.ts';
import { binding } from './binding.ts';
import { breaker } from './breaker.ts';
import { choice } from './choice.ts';
import { cooldowns } from './cooldowns.ts';
import { sameAsMemory } from './differential.ts';
import { ends } from './ends.ts';
import { health } from './health.ts';
import { limits } from './limits.ts';
import { promises } from './promises.ts';
import { slots } from './slots.ts';
import { type Cases, type MakeStore, onStage } from './stage.ts';

export interface StoreContractOptions {
  readonly make: MakeStore;
  readonly traces?: number;
  readonly seed?: number;
}
export interface StoreCase {
  readonly name: string;
  run(): Promise<void>;
}

const ALL: readonly Cases[] = [slots, choice, limits, ends, binding, cooldowns, health, breaker, adapting, promises];

export function storeContract(options: StoreContractOptions): readonly StoreCase[] {
  const { make, traces = 50, seed = 1 } = options;
  const cases = ALL.flatMap((some) =>
    Object.entries(some).map(([name, play]) => ({ name, run: () => onStage(make, play) })),
  );
  const random = Array.from({ length: traces }, (_, i) => ({
    name: `as memoryStore() has it: trace ${seed + i}`,
    run: () => sameAsMemory(make, seed + i),
  }));
  return [...cases, ...random];
}
