import { Cluster, Redis } from 'ioredis';
import { type Store, systemClock } from 'paceline';
import { RedisBackend } from '../../src/store/redis/redis-backend.ts';
import { resolveFailureOptions } from '../../src/store/shared/failure-options.ts';
import { Guard } from '../../src/store/shared/guard.ts';
import { SharedStore } from '../../src/store/shared/shared-store.ts';
import type { Role } from './protocol.ts';

interface OpenedStore {
  /** The manager's own when left out. */
  readonly store?: Store;
  close(): Promise<void>;
}

/** Connects a worker to the state that it shares; resolves once that answers. */
export async function openStore({ store: place, onStoreError }: Role): Promise<OpenedStore> {
  if (place.kind === 'memory') return { close: async () => {} };
  if (place.kind === 'sqlite') throw new Error('no sqlite yet');
  const client =
    place.kind === 'redis'
      ? new Redis(place.port)
      : new Cluster(place.ports.map((port) => ({ host: '127.0.0.1', port })));
  client.on('error', () => {});
  await client.ping();
  const options = resolveFailureOptions({ ...(onStoreError && { onStoreError }) });
  const guard = new Guard(new RedisBackend(client as Redis), systemClock, Math.random, options);
  const store = new SharedStore(guard);
  return {
    store,
    async close() {
      await store.close();
      client.disconnect();
    },
  };
}
