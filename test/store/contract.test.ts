import { describe, it } from 'vitest';
import { MemoryStore } from '../../src/store/memory.ts';
import { Direct } from '../../src/store/shared/direct.ts';
import { localBackend } from '../../src/store/shared/local.ts';
import { SharedStore } from '../../src/store/shared/shared-store.ts';
import { type StoreContractOptions, storeContract } from '../../src/testing/store-contract/index.ts';

const stores: Record<string, StoreContractOptions['make']> = {
  'the memory store': ({ clock, random }) => new MemoryStore(clock, random),
  'the shared core': ({ clock, random }) =>
    new SharedStore(new Direct(localBackend({ clock }), clock), { clock, random }),
};

for (const [name, make] of Object.entries(stores)) {
  describe(`the store contract: ${name}`, () => {
    for (const { name, run } of storeContract({ make, traces: Number(process.env.RUNS ?? 50) })) it(name, run);
  });
}
