import { Cluster, type ClusterOptions } from 'ioredis';
import { type ClusterNode, clusterNode, until } from './cluster-node.ts';
import { type RedisServer, startRedis } from './redis-server.ts';

export interface RedisClusterOptions {
  /** How long a server may be silent before the others hold it for dead, in milliseconds. @default 1000 */
  readonly nodeTimeoutMs?: number;
  /** More lines for each server's `redis.conf`. */
  readonly config?: readonly string[];
}

/** A real Redis Cluster: three masters, each with a replica. Disposing removes all of it. */
export interface RedisCluster extends AsyncDisposable {
  /** The masters first, as they were in the beginning, then a replica of each in the same order. */
  readonly nodes: readonly RedisServer[];
  /** A new client that knows all nodes, with ioredis's defaults but for `options`; it is disconnected at disposal. */
  client(options?: ClusterOptions): Cluster;
  /** The server that holds a key's slot; waits until all that are alive agree. A dead one counts until it is replaced. */
  masterOf(key: string): Promise<RedisServer>;
  /**
   * Kills (SIGKILL) the master of a key and waits until its replica holds the slot and all survivors know. What the master
   * had answered but not yet sent on to the replica is lost, as in life. For the next one, `start` the killed one first.
   */
  failover(key: string): Promise<{ readonly killed: RedisServer; readonly promoted: RedisServer }>;
  /** Moves a key's slot with all its keys to another master. */
  moveSlot(key: string, to: RedisServer): Promise<void>;
  /** Waits until all servers are there and every master has a replica in sync. */
  whole(): Promise<void>;
}

const slotCount = 16_384;
const masterCount = 3;

/** Starts the servers, makes a cluster of them and waits until it is whole. About three seconds. */
export async function startRedisCluster(options: RedisClusterOptions = {}): Promise<RedisCluster> {
  const servers = await startServers(options);
  const clients: Cluster[] = [];
  const dispose = async (): Promise<void> => {
    for (const client of clients) client.disconnect();
    await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()));
  };
  let nodes: readonly ClusterNode[];
  try {
    nodes = await Promise.all(servers.map(clusterNode));
    await join(nodes);
    await whole(nodes);
  } catch (error) {
    await dispose();
    throw error;
  }

  const holder = async (slot: number): Promise<RedisServer> => {
    let holding: RedisServer | undefined;
    await until('of one mind', async () => {
      const answers = await Promise.allSettled(nodes.map((node) => node.ranges()));
      const ports = answers.flatMap((answer) =>
        answer.status === 'fulfilled'
          ? [answer.value.find(({ first, last }) => first <= slot && slot <= last)?.ports[0]]
          : [],
      );
      holding = new Set(ports).size === 1 ? servers.find(({ port }) => port === ports[0]) : undefined;
      return holding !== undefined;
    });
    return holding!;
  };
  const slotOf = async (key: string): Promise<number> =>
    Number(await Promise.any(nodes.map((node) => node.order('KEYSLOT', key))));
  const nodeOf = (server: RedisServer): ClusterNode => nodes.find((node) => node.server === server)!;

  return {
    nodes: servers,
    client(more) {
      const addresses = servers.map(({ port }) => ({ host: '127.0.0.1', port }));
      const made = new Cluster(addresses, more);
      // Without a listener ioredis prints them; who is interested adds one.
      made.on('error', () => {});
      clients.push(made);
      return made;
    },
    masterOf: async (key) => holder(await slotOf(key)),
    async failover(key) {
      const slot = await slotOf(key);
      const killed = await holder(slot);
      await killed.kill();
      const survivors = nodes.filter(({ server }) => server !== killed);
      let promoted = killed;
      await until('over the loss of a master', async () => {
        promoted = await holder(slot);
        const serving = await Promise.all(survivors.map((node) => node.serves()));
        return promoted !== killed && serving.every(Boolean);
      });
      return { killed, promoted };
    },
    async moveSlot(key, to) {
      const slot = await slotOf(key);
      await move(slot, nodeOf(await holder(slot)), nodeOf(to));
    },
    whole: () => whole(nodes),
    [Symbol.asyncDispose]: dispose,
  };
}

async function startServers({ nodeTimeoutMs = 1000, config = [] }: RedisClusterOptions): Promise<RedisServer[]> {
  const lines = [
    'cluster-enabled yes',
    // Beside the data, not among them: a server that comes back empty is still the same one.
    'cluster-config-file ../nodes.conf',
    `cluster-node-timeout ${nodeTimeoutMs}`,
    // A replica takes over however long it has not heard of its master.
    'cluster-replica-validity-factor 0',
    ...config,
  ];
  const started = await Promise.allSettled(
    Array.from({ length: 2 * masterCount }, () => startRedis({ config: lines })),
  );
  const servers = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  const failed = started.find((one) => one.status === 'rejected');
  if (failed === undefined) return servers;
  await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()));
  throw failed.reason;
}

/** Makes one cluster of servers that do not know each other: slots for the first three, the others as their replicas. */
async function join(nodes: readonly ClusterNode[]): Promise<void> {
  const range = (index: number): [number, number] => [
    Math.ceil((index * slotCount) / masterCount),
    Math.ceil(((index + 1) * slotCount) / masterCount) - 1,
  ];
  const masters = nodes.slice(0, masterCount);
  // Epochs of their own, so that no two of them have to settle a conflict first.
  await Promise.all(nodes.map((node, i) => node.order('SET-CONFIG-EPOCH', i + 1)));
  await Promise.all(masters.map((node, i) => node.order('ADDSLOTSRANGE', ...range(i))));
  // Everyone to everyone: gossip would take its time.
  for (const [i, node] of nodes.entries()) {
    await Promise.all(nodes.slice(0, i).map(({ server }) => node.order('MEET', '127.0.0.1', server.port)));
  }
  const acquainted = async (): Promise<boolean> =>
    (await Promise.all(nodes.map((node) => node.known()))).every((known) => known === nodes.length);
  await until('acquainted', acquainted);
  for (const [i, replica] of nodes.slice(masterCount).entries()) {
    // It may not yet know that this is a master.
    await until('taking replicas', async () => (await replica.order('REPLICATE', masters[i].id)) === 'OK');
  }
}

/** Waits until each knows a master and a replica for every slot, and the masters send on what they write. */
async function whole(nodes: readonly ClusterNode[]): Promise<void> {
  const complete = async (node: ClusterNode): Promise<boolean> => {
    const ranges = await node.ranges();
    const covered = ranges.reduce((sum, { first, last }) => sum + last - first + 1, 0);
    const leads = ranges.some(({ ports }) => ports[0] === node.server.port);
    return (
      covered === slotCount &&
      ranges.every(({ ports }) => ports.length === 2) &&
      (!leads || (await node.replicas()) === 1) &&
      (await node.serves())
    );
  };
  await until('whole', async () => (await Promise.all(nodes.map(complete))).every(Boolean));
}

async function move(slot: number, from: ClusterNode, to: ClusterNode): Promise<void> {
  await to.order('SETSLOT', slot, 'IMPORTING', from.id);
  await from.order('SETSLOT', slot, 'MIGRATING', to.id);
  for (;;) {
    const keys = (await from.order('GETKEYSINSLOT', slot, 100)) as string[];
    if (keys.length === 0) break;
    await from.command.migrate('127.0.0.1', to.server.port, '', 0, 5000, 'KEYS', ...keys);
  }
  await to.order('SETSLOT', slot, 'NODE', to.id);
  await from.order('SETSLOT', slot, 'NODE', to.id);
}
