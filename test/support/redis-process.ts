import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { programPath } from './real-servers.ts';

/** A running redis-server. */
export interface RedisProcess {
  signal(name: NodeJS.Signals): void;
  /** Resolves once it has ended. */
  readonly ended: Promise<void>;
}

/** Another process has the port. */
export class PortTaken extends Error {}

const startTimeoutMs = 10_000;

/**
 * Starts redis-server with the `redis.conf` of the directory and resolves once it takes commands, by its own log: an answer on
 * the port could come from somebody else's server. Its id stands in the file `pid` of the directory while it lives.
 */
export async function spawnRedis(directory: string): Promise<RedisProcess> {
  const program = programPath('redis-server');
  if (program === undefined) throw new Error('redis-server is not installed: run scripts/test-servers.sh');
  const pidFile = join(directory, 'pid');
  const child = spawn(program, [join(directory, 'redis.conf')], {
    cwd: directory,
    // A process group of its own, for the children that it forks to write its files.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (child.pid !== undefined) writeFileSync(pidFile, String(child.pid));
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => {
      rmSync(pidFile, { force: true });
      resolve();
    });
  });
  const signal = (name: NodeJS.Signals): void => {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    // Its children would go on writing; by SIGTERM it ends them itself.
    process.kill(name === 'SIGKILL' ? -child.pid : child.pid, name);
  };
  try {
    await ready(child);
  } catch (error) {
    signal('SIGKILL');
    throw error;
  }
  return { signal, ended };
}

function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let log: string | undefined = '';
    const failed = (why: string): void => {
      clearTimeout(timer);
      reject(new (/Address already in use/.test(log ?? '') ? PortTaken : Error)(`redis-server ${why}: ${log}`));
    };
    const timer = setTimeout(() => failed(`was not ready after ${startTimeoutMs} ms`), startTimeoutMs);
    const read = (chunk: Buffer): void => {
      // Read on to the end: a full pipe would stop the server.
      if (log === undefined) return;
      log += chunk;
      if (!log.includes('Ready to accept connections')) return;
      clearTimeout(timer);
      log = undefined;
      resolve();
    };
    child.stdout!.on('data', read);
    child.stderr!.on('data', read);
    child.once('error', (error) => failed(error.message));
    // Not at `exit`: the last words of its log may still be in the pipe.
    child.once('close', () => failed('ended'));
  });
}
