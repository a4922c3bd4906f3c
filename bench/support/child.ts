import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';

/**
 * Another process, for what must be measured apart: its own heap, its own CPU time, its own compiled code.
 * It answers each message with one message.
 */
export interface Child extends AsyncDisposable {
  ask<T>(question: unknown): Promise<T>;
  /** For results that come without a question. */
  next<T>(): Promise<T>;
}

export function child(file: URL, args: readonly string[] = [], execArgv: readonly string[] = []): Child {
  const process_: ChildProcess = fork(file, [...args], { execArgv: [...process.execArgv, ...execArgv] });
  const ended = once(process_, 'exit');
  const next = async <T>(): Promise<T> => {
    const died = ended.then(([code]) => {
      throw new Error(`${args.join(' ')}: the process ended early, with code ${code}`);
    });
    const [answer] = await Promise.race([once(process_, 'message'), died]);
    return answer as T;
  };
  return {
    next,
    ask(question) {
      process_.send(question as object);
      return next();
    },
    async [Symbol.asyncDispose]() {
      process_.kill();
      await ended;
    },
  };
}

/** The child's side: answers every question with what `work` makes of it. */
export function answer<Q>(work: (question: Q) => unknown): void {
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

export function send(result: unknown): void {
  process.send?.(result);
}

/** Heap and array buffers in use, after collecting what is garbage. Needs `--expose-gc`. */
export function memoryUsed(): number {
  for (let i = 0; i < 4; i++) globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
