import { Cluster, Redis } from 'ioredis';
import type { Store } from 'paceline';
import { redisStore } from 'paceline/redis';
import { sqliteStore } from 'paceline/sqlite';
import type { Role } from './protocol.ts';

interface OpenedStore {
  /** The manager's own when left out. */
  readonly store?: Store;
  close(): Promise<void>;
}

/** Connects a worker to the state that it shares; resolves once that answers. */
export async function openStore({ store: place, onStoreError }: Role): Promise<OpenedStore> {
  if (place.kind === 'memory') return { close: async () => {} };
  if (place.kind === 'sqlite') {
    const store = sqliteStore(place.path);
    return { store, close: async () => store.close() };
  }
  const client =
    place.kind === 'redis'
      ? new Redis(place.port)
      : new Cluster(place.ports.map((port) => ({ host: '127.0.0.1', port })));
  // A server that is away is what is tested.
  client.on('error', () => {});
  await client.ping();
  const store = redisStore(client, { ...(onStoreError && { onStoreError }) });
  return {
    store,
    async close() {
      await store.close();
      client.disconnect();
    },
  };
}
