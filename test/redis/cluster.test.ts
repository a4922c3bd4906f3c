import { describe, expect, it } from 'vitest';
import { isMissing } from '../support/real-servers.ts';
import { startRedisCluster } from '../support/redis-cluster.ts';

// The support itself: a test of a store on a cluster is worth as much as this cluster.

describe.skipIf(isMissing('redis-server'))('a Redis Cluster of the tests', () => {
  it('promotes a replica with its data, moves slots, and is whole again', async () => {
    await using cluster = await startRedisCluster();
    const client = cluster.client();
    await client.set('key', 'kept');
    const first = await cluster.masterOf('key');

    const { killed, promoted } = await cluster.failover('key');
    expect(killed).toBe(first);
    expect(cluster.nodes.indexOf(promoted)).toBe(cluster.nodes.indexOf(first) + 3);
    expect(await cluster.masterOf('key')).toBe(promoted);
    expect(await client.get('key')).toBe('kept');

    await killed.start();
    await cluster.whole();
    expect(await killed.client().role()).toEqual(expect.arrayContaining(['slave', promoted.port]));

    const other = cluster.nodes[(cluster.nodes.indexOf(first) + 1) % 3];
    await cluster.moveSlot('key', other);
    expect(await cluster.masterOf('key')).toBe(other);
    expect(await other.client().get('key')).toBe('kept');
    expect(await client.get('key')).toBe('kept');
  });
});
