import { createHash } from 'node:crypto';
import { StoreError } from '../../errors.ts';
import { BackendError } from '../shared/failure.ts';
import type { Backend, Batch, BatchAnswer, Seen, Step, StepPolicy } from '../shared/steps.ts';
import { keysOf, validPrefix } from './keys.ts';
import type { RedisClient } from './redis-client.ts';
import { isNoScript, redisError } from './redis-errors.ts';
import { STEP_SCRIPT } from './scripts/step-script.ts';
import { batchText } from './wire.ts';

export interface RedisBackendOptions {
  /** What all keys begin with; without braces, which are for the hash tag. @default 'paceline:' */
  readonly prefix?: string;
  /** For tests: the time, in milliseconds, in the place of the server's own. One clock for all, or nothing holds. */
  readonly now?: () => number;
}

/** Permits and reports that go in one call, at most, unless one batch has more: Redis does nothing else meanwhile. */
const MOST_WORK = 512;
/** As many of one batch are worth a call of their own, at once. */
const MUCH_WORK = 256;

const SHA: string = createHash('sha1').update(STEP_SCRIPT).digest('hex');

/** Batches of one target that wait for the end of the tick. */
interface Waiting {
  readonly target: string;
  policy: StepPolicy;
  seen: Seen;
  readonly steps: Step[];
  work: number;
  /** Of each batch: how many of the steps are its own, and who waits for their answers. */
  readonly callers: { steps: number; resolve: (answer: BatchAnswer) => void; reject: (error: unknown) => void }[];
}

/**
 * The state in a Redis: one call of one script decides all that was asked about a target in one tick. The client is the
 * caller's own, and is not closed.
 */
export class RedisBackend implements Backend {
  private readonly client: RedisClient;
  private readonly prefix: string;
  private readonly now: (() => number) | undefined;
  private readonly waiting = new Map<string, Waiting>();
  private scheduled = false;
  private closed = false;

  constructor(client: RedisClient, options: RedisBackendOptions = {}) {
    this.client = client;
    this.prefix = validPrefix(options.prefix ?? 'paceline:');
    this.now = options.now;
  }

  take({ target: name, policy, seen, steps }: Batch): Promise<BatchAnswer> {
    // Half a character is none, neither in a key nor in JSON.
    const target = name.toWellFormed();
    if (this.closed) return Promise.reject(new StoreError('the Redis store is closed'));
    const work = workOf(steps);
    let waiting = this.waiting.get(target);
    if (waiting !== undefined && (work >= MUCH_WORK || waiting.work + work > MOST_WORK)) {
      this.send(waiting);
      waiting = undefined;
    }
    if (waiting === undefined) {
      waiting = { target, policy, seen, steps: [], work: 0, callers: [] };
      this.waiting.set(target, waiting);
    }
    const all = waiting;
    all.policy = policy;
    all.seen = seen;
    all.steps.push(...steps);
    all.work += work;
    if (!this.scheduled && work < MUCH_WORK) {
      this.scheduled = true;
      process.nextTick(() => this.flush());
    }
    const answer = new Promise<BatchAnswer>(
      (resolve, reject) => void all.callers.push({ steps: steps.length, resolve, reject }),
    );
    if (work >= MUCH_WORK) this.send(all);
    return answer;
  }

  close(): void {
    this.closed = true;
    this.flush();
  }

  private flush(): void {
    this.scheduled = false;
    for (const waiting of [...this.waiting.values()]) this.send(waiting);
  }

  private send(waiting: Waiting): void {
    const { target, policy, seen, steps, callers } = waiting;
    this.waiting.delete(target);
    const keys = keysOf(this.prefix, target);
    const time = this.now === undefined ? '' : String(this.now());
    const batch = batchText(target, policy, seen, steps);
    this.call([...keys, time, batch], keys.length).then(
      (answer) => {
        let from = 0;
        for (const caller of callers) {
          caller.resolve({ ...answer, answers: answer.answers.slice(from, from + caller.steps) });
          from += caller.steps;
        }
      },
      (error) => {
        for (const caller of callers) caller.reject(error);
      },
    );
  }

  private async call(args: string[], keys: number): Promise<BatchAnswer> {
    let answer: unknown;
    try {
      try {
        answer = await this.client.evalsha(SHA, keys, ...args);
      } catch (error) {
        if (!isNoScript(error)) throw error;
        // A Redis that has started anew, or another node of a Cluster: sent once with its text, it knows the script.
        answer = await this.client.eval(STEP_SCRIPT, keys, ...args);
      }
    } catch (error) {
      throw redisError(error);
    }
    try {
      return JSON.parse(String(answer)) as BatchAnswer;
    } catch (cause) {
      throw new BackendError(
        'the client answers something else than the script: is it a pipeline or a transaction?',
        false,
        {
          cause,
        },
      );
    }
  }
}

function workOf(steps: readonly Step[]): number {
  let work = 0;
  for (const step of steps) work += step.do === 'reserve' ? step.count : step.do === 'settle' ? step.reports.length : 1;
  return work;
}
