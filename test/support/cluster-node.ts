import type { Redis } from 'ioredis';
import type { RedisServer } from './redis-server.ts';

/** Which ports a node takes for the master (first) and the replicas of a range of slots. */
interface SlotRange {
  readonly first: number;
  readonly last: number;
  readonly ports: readonly number[];
}

/** One server of a cluster, and what it says of itself and of the others; it all rejects soon when the server is away. */
export interface ClusterNode {
  readonly server: RedisServer;
  readonly id: string;
  /** `CLUSTER …`; rejects with the server's error. */
  order(...words: (string | number)[]): Promise<unknown>;
  readonly command: Redis;
  ranges(): Promise<SlotRange[]>;
  /** How many nodes it knows, itself among them. */
  known(): Promise<number>;
  /** Whether it holds the cluster for able to serve. */
  serves(): Promise<boolean>;
  /** How many replicas it sends each write on to. */
  replicas(): Promise<number>;
}

export async function clusterNode(server: RedisServer): Promise<ClusterNode> {
  const command = server.client({ maxRetriesPerRequest: 0, retryStrategy: () => 50, commandTimeout: 1000 });
  const info = async (): Promise<string> => String(await command.cluster('INFO'));
  return {
    server,
    command,
    id: String(await command.cluster('MYID')),
    order: (...words) => command.call('CLUSTER', ...words),
    async ranges() {
      const rows = (await command.cluster('SLOTS')) as unknown as [number, number, ...[string, number][]][];
      return rows.map(([first, last, ...nodes]) => ({ first, last, ports: nodes.map(([, port]) => port) }));
    },
    known: async () => Number(/cluster_known_nodes:(\d+)/.exec(await info())?.[1]),
    serves: async () => (await info()).includes('cluster_state:ok'),
    replicas: async () => (await command.info('replication')).match(/state=online/g)?.length ?? 0,
  };
}

/** Waits for a condition that asks servers, some of which may be away. */
export async function until(
  what: string,
  condition: () => Promise<boolean>,
  timeoutMs: number = 20_000,
): Promise<void> {
  let last: unknown;
  for (const end = performance.now() + timeoutMs; performance.now() < end; ) {
    try {
      if (await condition()) return;
      last = undefined;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error(`the cluster is not ${what} after ${timeoutMs} ms`, { cause: last });
}
