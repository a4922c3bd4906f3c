import pRetry from 'p-retry';
import type { Call } from './call.ts';
import type { Deadline } from './deadline.ts';
import type { Engine } from './engine.ts';
import { GatewayError, RetriesExhaustedError } from './errors.ts';
import { isFatal, reveal } from './failure.ts';
import { type Backoff, fullJitter } from './limits/backoff.ts';
import { type RetryBudget, retryBudget } from './limits/retry-budget.ts';
import { isReplayable, type PreparedRequest } from './request.ts';
import { retryDelayMs } from './retry.ts';

/** What the loop needs of a response. */
export interface AnyResponse {
  readonly status: number;
  readonly body: { cancel(): Promise<void> } | null;
}

/** Hands a prepared request to a fetch. */
export type Send<R> = (request: PreparedRequest) => Promise<R>;

/** An attempt that failed for good. Not thrown: what a signal was aborted with need not be an Error. */
export class Failed {
  readonly error: unknown;

  constructor(error: unknown) {
    this.error = error;
  }
}

/** An attempt that is to be followed by another. An Error, since that is what p-retry goes by. */
export class TryAgain extends Error {
  readonly delayMs: number;

  constructor(delayMs: number, cause: unknown) {
    super('try again', { cause });
    this.delayMs = delayMs;
  }
}

/** One request on its way through its attempts. */
export interface Run<R> {
  readonly call: Call;
  readonly request: PreparedRequest;
  readonly deadline: Deadline;
  readonly send: Send<R>;
  lastResponse: R | undefined;
  /** Sent by a fetch of unknown make. */
  readonly foreign: boolean;
  /** It is no longer counted among the calls under way. */
  over: boolean;
}

/** The attempts of a request after the first: whether there is another, and when. */
export class Attempts {
  private readonly engine: Engine;
  private readonly backoff: Backoff;
  private readonly budget: RetryBudget;
  /** Ends of the pauses between attempts. */
  private readonly pausing = new Set<() => void>();

  constructor(engine: Engine) {
    const { retry, clock, random } = engine.options;
    this.engine = engine;
    this.backoff = fullJitter({ baseMs: retry.baseMs, capMs: retry.capMs, random });
    this.budget = retryBudget({ ratio: retry.ratio, floorPerSecond: retry.floorPerSecond, clock });
  }

  /** A request begins: it vouches for a share of a retry. */
  begin(): void {
    this.budget.deposit();
  }

  /** Ends the pauses between attempts: the engine is about to refuse further ones. */
  stop(): void {
    for (const end of this.pausing) end();
  }

  /** The count, the waits and their clock are ours; p-retry runs the loop. */
  async further<R extends AnyResponse>(run: Run<R>, first: TryAgain): Promise<R | Failed> {
    const { signal } = run.deadline;
    await this.pause(run, first);
    return pRetry(
      async () => {
        if (signal?.aborted) return new Failed(signal.reason);
        const ending = await this.attempt(run);
        if (ending instanceof TryAgain) throw ending;
        return ending;
      },
      {
        retries: Number.POSITIVE_INFINITY,
        minTimeout: 0,
        shouldRetry: ({ error }) => error instanceof TryAgain,
        onFailedAttempt: ({ error }) => (error instanceof TryAgain ? this.pause(run, error) : undefined),
      },
    );
  }

  answered<R extends AnyResponse>(run: Run<R>, response: R): R | TryAgain | Promise<TryAgain> {
    const delayMs = this.delayAfter(run, response, undefined);
    if (delayMs === undefined) return response;
    run.lastResponse = response;
    const again = new TryAgain(delayMs, new Error(`status ${response.status}`));
    if (response.body === null) return again;
    run.call.live?.dump();
    const unwanted = (): TryAgain => again;
    return response.body.cancel().then(unwanted, unwanted);
  }

  failed<R extends AnyResponse>(run: Run<R>, error: unknown): Failed | TryAgain {
    const { call, deadline, lastResponse } = run;
    if (deadline.signal?.aborted) return new Failed(deadline.signal.reason);
    const cause = reveal(error);
    const delayMs = this.delayAfter(run, undefined, cause);
    if (delayMs !== undefined) return new TryAgain(delayMs, cause);
    if (call.attempts === 1 || isFatal(cause, call.failure)) return new Failed(cause);
    return new Failed(new RetriesExhaustedError({ attempts: call.attempts, cause, response: lastResponse }));
  }

  private delayAfter<R>(
    { call, request }: Run<R>,
    response: AnyResponse | undefined,
    failure: unknown,
  ): number | undefined {
    const { retry } = this.engine.options;
    const fault = failure instanceof GatewayError ? failure : undefined;
    const delayMs = retryDelayMs(
      {
        attempts: call.attempts,
        status: response?.status,
        outcome: call.outcome,
        retryAfterMs: response === undefined ? fault?.retryAfterMs : call.retryAfterMs,
        unsent: response === undefined && call.unsent,
        fatal: response === undefined && isFatal(failure, call.failure),
        crowded: fault?.kind === 'quota',
        elsewhere: !call.sticky && call.route !== undefined && this.engine.targets.hasOthers(call),
      },
      {
        attempts: retry.attempts,
        maxRetryAfterMs: retry.maxRetryAfterMs,
        idempotent: retry.methods.has(request.method),
        replayable: isReplayable(request.init.body),
        backoff: this.backoff,
      },
    );
    // What was only joined with another request has not used its own send yet.
    if (delayMs === undefined || call.onlyJoined) return delayMs;
    // All retries together stay within a share of the requests: in an outage, trying harder only makes it worse.
    return this.budget.tryWithdraw() ? delayMs : undefined;
  }

  /** The wait before the next attempt. It ends early, without an error: the attempt itself sees that it is not wanted. */
  private pause<R>({ call, deadline: { signal } }: Run<R>, again: TryAgain): Promise<void> | undefined {
    const { events, clock } = this.engine;
    if (events.wants('retry')) {
      const reason = again.cause instanceof Error ? again.cause.message : String(again.cause);
      events.emit('retry', { target: call.target, attempt: call.attempts, delayMs: again.delayMs, reason });
    }
    if (again.delayMs <= 0) return undefined;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = clock.setTimeout(resolve, Math.ceil(again.delayMs));
    this.pausing.add(resolve);
    signal?.addEventListener('abort', resolve as () => void, { once: true });
    if (signal?.aborted) resolve();
    return promise.finally(() => {
      clock.clearTimeout(timer);
      this.pausing.delete(resolve);
      signal?.removeEventListener('abort', resolve as () => void);
    });
  }

  private attempt<R extends AnyResponse>(run: Run<R>): Promise<R | Failed | TryAgain> {
    run.call.again();
    return run.send(run.request).then(
      (response) => (run.call.outcome === 'ok' ? response : this.answered(run, response)),
      (error) => this.failed(run, error),
    );
  }
}
