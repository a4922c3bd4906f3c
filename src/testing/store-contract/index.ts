import { adapting } from './adapting.ts';
import { binding } from './binding.ts';
import { breaker } from './breaker.ts';
import { choice } from './choice.ts';
import { cooldowns } from './cooldowns.ts';
import { ends } from './ends.ts';
import { health } from './health.ts';
import { limits } from './limits.ts';
import { promises } from './promises.ts';
import { slots } from './slots.ts';
import { type Cases, type MakeStore, onStage } from './stage.ts';

export interface StoreContractOptions {
  readonly make: MakeStore;
}
export interface StoreCase {
  readonly name: string;
  run(): Promise<void>;
}

const ALL: readonly Cases[] = [slots, choice, limits, ends, binding, cooldowns, health, breaker, adapting, promises];

export function storeContract(options: StoreContractOptions): readonly StoreCase[] {
  return ALL.flatMap((cases) =>
    Object.entries(cases).map(([name, play]) => ({ name, run: () => onStage(options.make, play) })),
  );
}
