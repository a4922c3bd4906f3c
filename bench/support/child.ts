import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';

/**
 * Another process, for what must be measured apart: its own heap, its own CPU time, its own compiled code.
 * It answers each message with one message.
 */
export interface Child extends AsyncDisposable {
  ask<T>(question: unknown): Promise<T>;
}

export function child(file: URL, args: readonly string[] = [], execArgv: readonly string[] = []): Child {
  const process_: ChildProcess = fork(file, [...args], { execArgv: [...process.execArgv, ...execArgv] });
  const ended = once(process_, 'exit');
  return {
    async ask<T>(question: unknown): Promise<T> {
      process_.send(question as object);
      const died = ended.then(([code]) => {
        throw new Error(`${args.join(' ')}: the process ended early, with code ${code}`);
      });
      const [result] = await Promise.race([once(process_, 'message'), died]);
      return result as T;
    },
    async [Symbol.asyncDispose]() {
      process_.kill();
      await ended;
    },
  };
}

/** The child's side: answers every question with what `work` makes of it. */
export function answer<Q>(work: (question: Q) => unknown): void {
  // Whoever asked is gone: servers and timers must not keep this process.
  process.on('disconnect', () => process.exit());
  process.on('message', (question: Q) => {
    Promise.resolve(work(question)).then(
      (result) => process.send?.(result ?? null),
      (error) => {
        console.error(error);
        process.exit(1);
      },
    );
  });
}

/** Heap and array buffers in use, after collecting what is garbage. Needs `--expose-gc`. */
export function memoryUsed(): number {
  for (let i = 0; i < 4; i++) globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
