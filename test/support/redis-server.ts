import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis, type RedisOptions } from 'ioredis';
import { guard } from './guard.ts';
import { PortTaken, type RedisProcess, spawnRedis } from './redis-process.ts';
import { eventually } from './resources.ts';

export interface RedisServerOptions {
  readonly password?: string;
  /** A master without a password, or with the same one. */
  readonly replicaOf?: RedisServer;
  /** Writes what it does to a file, before it answers: what was answered survives the process, also a SIGKILL. @default true */
  readonly appendonly?: boolean;
  /** More lines for its `redis.conf`: `maxmemory 2mb`. No `logfile`: its log on stdout tells when it is ready. */
  readonly config?: readonly string[];
}

/** A real redis-server on loopback, in a directory of its own. Disposing disconnects, kills and removes everything. */
export interface RedisServer extends AsyncDisposable {
  readonly port: number;
  /** With the password in it. */
  readonly url: string;
  readonly directory: string;
  /** A new client with ioredis's defaults but for `options`; it is disconnected at disposal. */
  client(options?: RedisOptions): Redis;
  /** Ends it by SIGTERM and starts it again on the same port, with its data or empty. */
  restart(options: { readonly keep: boolean }): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** SIGTERM; also of a frozen one. */
  stop(): Promise<void>;
  /** After `kill` or `stop`, on the same port, with what `appendonly` kept. */
  start(): Promise<void>;
  /** SIGSTOP: connections stay open, and nobody answers. */
  freeze(): void;
  /** SIGCONT. */
  thaw(): void;
}

/**
 * A port below those that the system gives to outgoing connections, so that none of them takes it while the server is away;
 * 10,000 above, where a cluster's servers speak to one another, is so too. Whether it is free shows when the server starts.
 */
const randomPort = (): number => 10_000 + Math.floor(Math.random() * 12_000);

/** Tries again while somebody else has the port. */
async function untilPortFree<T>(start: () => Promise<T>, pauseMs: number): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start();
    } catch (error) {
      if (!(error instanceof PortTaken) || attempt === 20) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

function configFile(directory: string, port: number, options: RedisServerOptions): string {
  const { password, replicaOf, appendonly = true, config = [] } = options;
  return [
    `port ${port}`,
    'bind 127.0.0.1',
    `dir ${directory}/data`,
    // No snapshots. The operating system outlives the tests, so nothing has to be forced to the disk.
    'save ""',
    `appendonly ${appendonly ? 'yes' : 'no'}`,
    'appendfsync no',
    // Replicas join at once; and a cluster does not show one that its master never wrote to, not even a ping.
    'repl-diskless-sync no',
    'repl-ping-replica-period 1',
    ...(password === undefined
      ? []
      : [`requirepass ${JSON.stringify(password)}`, `masterauth ${JSON.stringify(password)}`]),
    ...(replicaOf === undefined ? [] : [`replicaof 127.0.0.1 ${replicaOf.port}`]),
    ...config,
    '',
  ].join('\n');
}

/** Waits until a master sends each write on to the replica at `port`; the replica itself says so too early. */
async function inSync(master: RedisServer, port: number): Promise<void> {
  const client = master.client();
  const online = new RegExp(`port=${port},state=online`);
  await eventually(async () => online.test(await client.info('replication')), 10_000).toBe(true);
  client.disconnect();
}

/** Starts a redis-server and waits until it answers; a replica, until it is in sync with its master. */
export async function startRedis(options: RedisServerOptions = {}): Promise<RedisServer> {
  const directory = await mkdtemp(join(tmpdir(), 'paceline-redis-'));
  const keeper = guard(directory);
  const data = join(directory, 'data');
  const clients: Redis[] = [];
  let port = 0;
  let running: RedisProcess | undefined;

  const start = async (): Promise<void> => {
    if (running !== undefined) throw new Error('this redis-server is running');
    await mkdir(data, { recursive: true });
    const started = await spawnRedis(directory);
    running = started;
    void started.ended.then(() => {
      if (running === started) running = undefined;
    });
  };
  const end = async (signal: 'SIGTERM' | 'SIGKILL'): Promise<void> => {
    const ending = running;
    if (ending === undefined) return;
    ending.signal(signal);
    ending.signal('SIGCONT');
    const insist = setTimeout(() => ending.signal('SIGKILL'), 3000);
    await ending.ended;
    clearTimeout(insist);
  };
  const dispose = async (): Promise<void> => {
    for (const client of clients) client.disconnect();
    await end('SIGKILL');
    await rm(directory, { recursive: true, force: true, maxRetries: 5 });
    keeper.kill('SIGKILL');
  };
  const client = (more?: RedisOptions): Redis => {
    const made = new Redis({ host: '127.0.0.1', port, password: options.password, ...more });
    // Without a listener ioredis prints them; who is interested adds one.
    made.on('error', () => {});
    clients.push(made);
    return made;
  };
  const signalled = (name: NodeJS.Signals): void => {
    if (running === undefined) throw new Error('this redis-server is not running');
    running.signal(name);
  };

  try {
    await untilPortFree(async () => {
      port = randomPort();
      await writeFile(join(directory, 'redis.conf'), configFile(directory, port, options), { mode: 0o600 });
      await start();
    }, 0);
    if (options.replicaOf !== undefined) await inSync(options.replicaOf, port);
  } catch (error) {
    await dispose();
    throw error;
  }

  return {
    port,
    url: `redis://${options.password === undefined ? '' : `:${encodeURIComponent(options.password)}@`}127.0.0.1:${port}`,
    directory,
    client,
    async restart({ keep }) {
      if (keep && options.appendonly === false) throw new Error('nothing to keep without appendonly');
      await end('SIGTERM');
      if (!keep) await rm(data, { recursive: true, force: true, maxRetries: 5 });
      await untilPortFree(start, 50);
    },
    kill: () => end('SIGKILL'),
    stop: () => end('SIGTERM'),
    start: () => untilPortFree(start, 50),
    freeze: () => signalled('SIGSTOP'),
    thaw: () => signalled('SIGCONT'),
    [Symbol.asyncDispose]: dispose,
  };
}
