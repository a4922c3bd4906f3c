// The side of the child processes that `workers.ts` starts.

const inbox: unknown[] = [];
let wake: (() => void) | undefined;
process.on('message', (message) => {
  inbox.push(message);
  wake?.();
});

/** What this worker was started with. */
export function workerArgs<Args>(): Args {
  return JSON.parse(process.argv[2]);
}

/** Resolves once it is on its way to the test's process; what is told after that cannot overtake it. */
export function tell(message: unknown): Promise<void> {
  return new Promise((resolve, reject) => {
    process.send!(message, undefined, {}, (error) => (error ? reject(error) : resolve()));
  });
}

/** The next message of the test; none is lost. One call at a time. Only while it waits does the channel keep the worker alive. */
export async function told<Message>(): Promise<Message> {
  process.channel!.ref();
  while (inbox.length === 0) await new Promise<void>((resolve) => (wake = resolve));
  process.channel!.unref();
  return inbox.shift() as Message;
}
