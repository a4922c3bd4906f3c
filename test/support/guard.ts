import { type ChildProcess, spawn } from 'node:child_process';

// Its standard input ends when this process does, however that came about; a SIGKILL runs no exit handler.
const script = 'cat >/dev/null; [ -f "$1/pid" ] && kill -KILL "-$(cat "$1/pid")"; rm -rf "$1"';

/**
 * Outlives this process, then kills the process group whose id stands in the file `pid` of the directory, if there is one, and
 * removes the directory. To be killed when the directory is gone.
 */
export function guard(directory: string): ChildProcess {
  // A session of its own: Ctrl-C in the terminal must not reach it.
  const child = spawn('sh', ['-c', script, 'guard', directory], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  child.unref();
  (child.stdin as unknown as { unref(): void }).unref();
  return child;
}
