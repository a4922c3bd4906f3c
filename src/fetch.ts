import pRetry from 'p-retry';
import { type Dispatcher, type Response, fetch as undiciFetch } from 'undici';
import { Call, type PaceOptions } from './call.ts';
import { type Deadline, deadlineOf } from './deadline.ts';
import type { Engine } from './engine.ts';
import { RetriesExhaustedError } from './errors.ts';
import { isFatal, reveal } from './failure.ts';
import type { PoolRoute } from './gateway/pool.ts';
import { type Backoff, fullJitter } from './limits/backoff.ts';
import { type RetryBudget, retryBudget } from './limits/retry-budget.ts';
import { checkPace } from './pace.ts';
import { isReplayable, type PreparedRequest, prepareRequest } from './request.ts';
import { retryDelayMs } from './retry.ts';
import { Stamp } from './stamp.ts';

/** What the loop needs of a response. */
interface AnyResponse {
  readonly status: number;
  readonly body: { cancel(): Promise<void> } | null;
}

/** Hands a prepared request to a fetch. */
type Send<R> = (request: PreparedRequest) => Promise<R>;

/** An attempt that failed for good. Not thrown: what a signal was aborted with need not be an Error. */
class Failed {
  readonly error: unknown;

  constructor(error: unknown) {
    this.error = error;
  }
}

/** An attempt that is to be followed by another. An Error, since that is what p-retry goes by. */
class TryAgain extends Error {
  readonly delayMs: number;

  constructor(delayMs: number, cause: unknown) {
    super('try again', { cause });
    this.delayMs = delayMs;
  }
}

/** One request on its way through its attempts. */
interface Run<R> {
  readonly call: Call;
  readonly request: PreparedRequest;
  readonly deadline: Deadline;
  readonly send: Send<R>;
  lastResponse: R | undefined;
}

/** What fetch takes for a dispatcher: it knows the call that its dispatches belong to. */
class CallDispatcher {
  private readonly engine: Engine;
  private readonly call: Call;

  constructor(engine: Engine, call: Call) {
    this.engine = engine;
    this.call = call;
  }

  dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    return this.engine.dispatch(this.call, options, handler);
  }
}

const sendWithUndici: Send<Response> = ({ input, init }) => undiciFetch(input as never, init);

/** The loop above the dispatcher: attempts, bodies, deadline. Retrying is done up here, where a body can still be sent again. */
export class Fetcher {
  private readonly engine: Engine;
  private readonly backoff: Backoff;
  private readonly budget: RetryBudget;
  /** Ends of the pauses between attempts. */
  private readonly pausing = new Set<() => void>();

  constructor(engine: Engine) {
    const { retry, clock, random } = engine.options;
    this.engine = engine;
    this.backoff = fullJitter({ baseMs: retry.baseMs, capMs: retry.capMs, random });
    this.budget = retryBudget({ ratio: retry.ratio, clock });
  }

  /** A fetch in the place of the global one; on `route` when it is given. */
  fetch(input: unknown, init: { pace?: PaceOptions } | undefined, route?: PoolRoute): Promise<Response> {
    return this.run(input, init, route, sendWithUndici, false);
  }

  /** The same through a fetch of unknown make. */
  fetchThrough<R extends AnyResponse>(
    input: unknown,
    init: { pace?: PaceOptions } | undefined,
    send: Send<R>,
  ): Promise<R> {
    return this.run(input, init, undefined, send, true);
  }

  /** Ends the pauses between attempts: the engine is about to refuse further ones. */
  stop(): void {
    for (const end of this.pausing) end();
  }

  private async run<R extends AnyResponse>(
    input: unknown,
    init: { pace?: PaceOptions } | undefined,
    route: PoolRoute | undefined,
    send: Send<R>,
    foreign: boolean,
  ): Promise<R> {
    const { engine } = this;
    engine.begin();
    try {
      const pace = checkPace(init?.pace, engine.options, route !== undefined);
      const request = prepareRequest(input, init as never, engine.options.headers, foreign);
      const call = new Call(pace, route ?? this.namedRoute(pace, request), request.dumpsRedirects);
      const deadline = deadlineOf(call, request.signal, engine);
      try {
        if (request.ready !== undefined) await request.ready;
        const { init } = request;
        if (deadline.signal !== undefined) init.signal = deadline.signal;
        init.dispatcher = new CallDispatcher(engine, call) as unknown as Dispatcher;
        this.budget.deposit();
        const run: Run<R> = { call, request, deadline, send, lastResponse: undefined };
        const first = await this.attempt(run);
        const ending = first instanceof TryAgain ? await this.furtherAttempts(run, first) : first;
        if (ending instanceof Failed) throw ending.error;
        Stamp.on(ending, call);
        deadline.responded();
        return ending;
      } catch (error) {
        deadline.end();
        throw error;
      }
    } finally {
      engine.finish();
    }
  }

  /** The count, the waits and their clock are ours; p-retry runs the loop. */
  private async furtherAttempts<R extends AnyResponse>(run: Run<R>, first: TryAgain): Promise<R | Failed> {
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

  private attempt<R extends AnyResponse>(run: Run<R>): Promise<R | Failed | TryAgain> {
    run.call.again();
    return run.send(run.request).then(
      (response) => (run.call.outcome === 'ok' ? response : this.answered(run, response)),
      (error) => this.failed(run, error),
    );
  }

  private answered<R extends AnyResponse>(run: Run<R>, response: R): R | TryAgain | Promise<TryAgain> {
    const delayMs = this.delayAfter(run, response, undefined);
    if (delayMs === undefined) return response;
    run.lastResponse = response;
    const again = new TryAgain(delayMs, new Error(`status ${response.status}`));
    if (response.body === null) return again;
    run.call.live?.dump();
    const unwanted = (): TryAgain => again;
    return response.body.cancel().then(unwanted, unwanted);
  }

  private failed<R extends AnyResponse>(run: Run<R>, error: unknown): Failed | TryAgain {
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
    const delayMs = retryDelayMs(
      {
        attempts: call.attempts,
        status: response?.status,
        outcome: call.outcome,
        retryAfterMs: call.retryAfterMs,
        unsent: response === undefined && call.unsent,
        fatal: response === undefined && isFatal(failure, call.failure),
        elsewhere: !call.sticky && call.route !== undefined && this.engine.pool(call.route.pool).hasOthers,
      },
      {
        attempts: retry.attempts,
        maxRetryAfterMs: retry.maxRetryAfterMs,
        idempotent: retry.methods.has(request.method),
        replayable: isReplayable(request.init.body),
        backoff: this.backoff,
      },
    );
    // All retries together stay within a share of the requests: in an outage, trying harder only makes it worse.
    return delayMs === undefined || !this.budget.tryWithdraw() ? undefined : delayMs;
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

  /** The route of the session that the request names. What fetch refuses anyway, it refuses in its own words. */
  private namedRoute(pace: PaceOptions, { input }: PreparedRequest): PoolRoute | undefined {
    if (pace.session === undefined) return undefined;
    const url = URL.parse(typeof input === 'object' && 'url' in input ? input.url : String(input));
    if (url === null || !/^https?:$/.test(url.protocol)) return undefined;
    return this.engine.sessions.byName(url.href, pace.session, pace.tier, pace.pool);
  }
}
