import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';

export interface RedisPlace extends AsyncDisposable {
  /** For `new Redis(url)`: an URL, or the path of a socket. */
  readonly url: string;
  /** What it is, without a password. */
  readonly title: string;
}

/**
 * The Redis of REDIS_URL; without it one of our own, on a socket in the temporary directory, which ends with the example.
 * Where there is neither, says what to do and ends the program.
 */
export async function openRedis(): Promise<RedisPlace> {
  const { REDIS_URL } = process.env;
  if (REDIS_URL !== undefined) {
    const error = await tryToConnect(REDIS_URL);
    if (error === undefined)
      return { url: REDIS_URL, title: 'the Redis of REDIS_URL', async [Symbol.asyncDispose]() {} };
    console.error(`The Redis of REDIS_URL cannot be used: ${error.message}`);
    process.exit(1);
  }

  const url = join(tmpdir(), `paceline-example-${process.pid}.sock`);
  const settings = { port: '0', unixsocket: url, save: '', appendonly: 'no', 'maxmemory-policy': 'noeviction' };
  const server = spawn(
    'redis-server',
    Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]),
    {
      stdio: 'ignore',
    },
  );
  const ended = once(server, 'exit').catch(() => {});
  const failed = new Promise<Error>((resolve) => server.once('error', resolve));
  const error = await Promise.race([failed, untilThere(url)]);
  if (error !== undefined) {
    console.log(
      'No Redis here: nothing to show. Install redis-server (sh scripts/test-servers.sh does, with apt), or name one',
    );
    console.log('in REDIS_URL: REDIS_URL=redis://localhost:6379');
    process.exit(0);
  }
  return {
    url,
    title: 'a redis-server of its own',
    async [Symbol.asyncDispose]() {
      server.kill();
      await ended;
    },
  };
}

async function untilThere(url: string): Promise<Error | undefined> {
  for (const until = performance.now() + 5000; ; await sleep(50)) {
    const error = await tryToConnect(url);
    if (error === undefined || performance.now() > until) return error;
  }
}

async function tryToConnect(url: string): Promise<Error | undefined> {
  const client = new Redis(url, { lazyConnect: true, connectTimeout: 3000, retryStrategy: () => null });
  let why: Error | undefined;
  client.on('error', (error) => {
    why ??= error;
  });
  try {
    await client.connect();
    await client.ping();
    return undefined;
  } catch (error) {
    return why ?? (error as Error);
  } finally {
    client.disconnect();
  }
}
