import { type ChildProcess, fork } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A child process that runs a TypeScript file as it is; inside, `in-worker.ts` is its side of this. */
export interface Worker<Message> {
  readonly pid: number;
  /** All that it has told so far, in order. */
  readonly messages: readonly Message[];
  /** The first of its messages that fits, told already or still to come. Rejects with its output if it ends before. */
  message(fits?: (message: Message) => boolean): Promise<Message>;
  /** Every message still to come; returns what ends that. */
  listen(listener: (message: Message) => void): () => void;
  send(message: unknown): void;
  /** SIGKILL; resolves once it is gone. That is then no failure. */
  kill(): Promise<void>;
  /** Resolves once it has ended by itself or was killed by `kill`; rejects with its output if it failed. */
  readonly ended: Promise<void>;
}

/** Child processes of one file. Disposing kills those that still run. */
export interface Workers<Args, Message> extends AsyncDisposable {
  readonly all: readonly Worker<Message>[];
  /**
   * Starts one more; `args` goes over as JSON.
   *
   * @param options `clockOffsetMs`: how far its wall clock is ahead (behind, if negative).
   */
  start(args: Args, options?: { readonly clockOffsetMs?: number }): Worker<Message>;
  /** Resolves once all have ended; rejects with the output of the first that failed. */
  ended(): Promise<void>;
}

/**
 * Child processes of the file at `file`, which imports the package by its public names. A worker ends when nothing keeps it
 * alive, as any process does.
 *
 * @example
 * await using crew = workers<Args, Message>(new URL('./pacing.worker.ts', import.meta.url));
 * for (let i = 0; i < 8; i++) crew.start({ redis: server.url }, { clockOffsetMs: i % 2 ? 300_000 : -300_000 });
 * await crew.all[0].message();
 * await crew.all[0].kill();
 * await crew.ended();
 */
export function workers<Args, Message = unknown>(file: URL): Workers<Args, Message> {
  const all: Worker<Message>[] = [];
  return {
    all,
    start(args, { clockOffsetMs = 0 } = {}) {
      const preload = new URL(`./worker-preload.ts?clockOffsetMs=${clockOffsetMs}`, import.meta.url);
      const child = fork(fileURLToPath(file), [JSON.stringify(args)], {
        // Not what the test runner has set for itself.
        execArgv: ['--disable-warning=ExperimentalWarning', '--import', preload.href],
        // To compile some two hundred files takes a second each time.
        env: { ...process.env, NODE_COMPILE_CACHE: join(tmpdir(), 'paceline-test-workers') },
        stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      });
      const worker = follow<Message>(child);
      all.push(worker);
      return worker;
    },
    ended: async () => void (await Promise.all(all.map((worker) => worker.ended))),
    [Symbol.asyncDispose]: async () => void (await Promise.all(all.map((worker) => worker.kill()))),
  };
}

function follow<Message>(child: ChildProcess): Worker<Message> {
  const messages: Message[] = [];
  let output = '';
  let killed = false;
  for (const stream of [child.stdout!, child.stderr!])
    stream.on('data', (chunk) => (output = (output + chunk).slice(-20_000)));
  child.on('message', (message) => messages.push(message as Message));
  const gone = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    // Not at `exit`: its last words may still be in the pipes.
    child.once('close', (code, signal) => resolve(signal ?? `code ${code}`));
  });
  const failure = (how: string): Error => new Error(`worker ${child.pid} ended with ${how}\n${output}`);
  const ended = gone.then((how) => {
    if (how !== 'code 0' && !killed) throw failure(how);
  });
  // Whoever asks hears of it.
  ended.catch(() => {});
  return {
    pid: child.pid!,
    messages,
    message(fits = () => true) {
      const found = messages.find(fits);
      if (found !== undefined) return Promise.resolve(found);
      return new Promise((resolve, reject) => {
        const look = (message: unknown): void => {
          if (!fits(message as Message)) return;
          child.off('message', look);
          resolve(message as Message);
        };
        child.on('message', look);
        void gone.then((how) => reject(failure(how)));
      });
    },
    listen(listener) {
      child.on('message', listener);
      return () => void child.off('message', listener);
    },
    send: (message) => void child.send(message as object),
    async kill() {
      killed = true;
      child.kill('SIGKILL');
      await gone;
    },
    ended,
  };
}
