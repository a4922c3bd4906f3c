import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { describe, expect, it } from 'vitest';
import { isMissing } from '../support/real-servers.ts';
import { type RedisServer, startRedis } from '../support/redis-server.ts';

// The support itself: what the tests of a store on Redis build upon.

const pidOf = async (server: RedisServer): Promise<number> => Number(await readFile(join(server.directory, 'pid')));

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

describe.skipIf(isMissing('redis-server'))('a redis-server of the tests', () => {
  it('comes back on its port with its data or empty', async () => {
    await using server = await startRedis();
    const client = server.client();
    await client.set('key', 'kept');
    await server.restart({ keep: true });
    expect(await client.get('key')).toBe('kept');
    await server.kill();
    await server.start();
    expect(await client.get('key')).toBe('kept');
    await server.restart({ keep: false });
    expect(await client.get('key')).toBeNull();
  });

  it('comes back empty after each end when nothing is written down', async () => {
    await using server = await startRedis({ appendonly: false });
    await server.client().set('key', 'lost');
    await server.stop();
    await server.start();
    expect(await server.client().get('key')).toBeNull();
    await expect(server.restart({ keep: true })).rejects.toThrow('nothing to keep');
  });

  it('lets a command wait while it is frozen', async () => {
    await using server = await startRedis();
    const client = server.client({ commandTimeout: 300 });
    await client.ping();
    server.freeze();
    await expect(client.ping()).rejects.toThrow('timed out');
    server.thaw();
    expect(await client.ping()).toBe('PONG');
  });

  it('ends although it is frozen', async () => {
    await using server = await startRedis();
    await server.client().set('key', 'kept');
    server.freeze();
    const began = performance.now();
    await server.restart({ keep: true });
    // By SIGTERM: SIGKILL would follow only after 3 s.
    expect(performance.now() - began).toBeLessThan(3000);
    expect(await server.client().get('key')).toBe('kept');
  });

  it('asks for its password', async () => {
    await using server = await startRedis({ password: 'a "quoted" word' });
    expect(await server.client().ping()).toBe('PONG');
    const byUrl = new Redis(server.url);
    expect(await byUrl.ping()).toBe('PONG');
    byUrl.disconnect();
    await expect(server.client({ password: 'another' }).ping()).rejects.toThrow('WRONGPASS');
  });

  it('can be full', async () => {
    await using server = await startRedis({ config: ['maxmemory 1kb', 'maxmemory-policy noeviction'] });
    await expect(server.client().set('key', 'value')).rejects.toThrow('OOM');
  });

  it('can be a replica, in sync from the start', async () => {
    await using master = await startRedis({ password: 'word' });
    await using replica = await startRedis({ replicaOf: master, password: 'word' });
    const client = master.client();
    expect(await client.info('replication')).toContain('state=online');
    await client.set('key', 'value');
    expect(await client.wait(1, 1000)).toBe(1);
    expect(await replica.client().get('key')).toBe('value');
    await expect(replica.client().set('key', 'other')).rejects.toThrow('READONLY');
  });

  it('keeps to itself while many start at once', async () => {
    const servers = await Promise.all(Array.from({ length: 8 }, () => startRedis()));
    expect(new Set(servers.map(({ port }) => port)).size).toBe(8);
    await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()));
  });

  it('waits for its port when somebody has taken it meanwhile', async () => {
    await using server = await startRedis();
    await server.stop();
    const thief = createServer().listen(server.port, '127.0.0.1');
    await once(thief, 'listening');
    const started = server.start();
    await expect(Promise.race([started, new Promise((resolve) => setTimeout(resolve, 200, 'waits'))])).resolves.toBe(
      'waits',
    );
    thief.close();
    await started;
    expect(await server.client().ping()).toBe('PONG');
  });

  it('leaves nothing behind', async () => {
    const server = await startRedis();
    const client = server.client();
    await client.set('key', 'value');
    const pid = await pidOf(server);
    expect(isAlive(pid)).toBe(true);
    server.freeze();
    await server[Symbol.asyncDispose]();
    expect(isAlive(pid)).toBe(false);
    expect(existsSync(server.directory)).toBe(false);
    expect(client.status).toBe('end');
  });

  it('leaves nothing behind either when the test is killed', async () => {
    const support = new URL('../support/redis-server.ts', import.meta.url);
    const script = `
      import { startRedis } from ${JSON.stringify(support.href)};
      const { directory, port } = await startRedis();
      console.log(JSON.stringify({ directory, port }));`;
    const test = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const { directory, port } = JSON.parse(String((await once(test.stdout, 'data'))[0]));
    const client = new Redis({ port, retryStrategy: null, maxRetriesPerRequest: 0 });
    expect(await client.ping()).toBe('PONG');
    const ended = once(client, 'end');
    test.kill('SIGKILL');
    await ended;
    await expect.poll(() => existsSync(directory)).toBe(false);
  });
});
