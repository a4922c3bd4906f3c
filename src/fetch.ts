import pRetry from 'p-retry';
import { type Dispatcher, type Response, fetch as undiciFetch } from 'undici';
import { Call, type PaceOptions } from './call.ts';
import type { Engine } from './engine.ts';
import { DeadlineError, GatewayError, PacelineError, RetriesExhaustedError } from './errors.ts';
import type { PoolRoute } from './gateway/pool.ts';
import { checkSessionId } from './gateway/template.ts';
import { type Backoff, fullJitter } from './limits/backoff.ts';
import { type RetryBudget, retryBudget } from './limits/retry-budget.ts';
import { type PreparedRequest, prepareRequest } from './request.ts';
import { retryDelayMs } from './retry.ts';
import { invalid, nonNegative } from './validate.ts';

/** A fetch that takes a dispatcher. */
export type FetchLike<R = Response> = (input: never, init: never) => Promise<R>;

/** What the loop needs of a response. */
interface AnyResponse {
  readonly status: number;
  readonly body: { cancel(): Promise<void> } | null;
}

/** An attempt that is to be followed by another. */
class TryAgain extends Error {
  readonly delayMs: number;

  constructor(delayMs: number, cause: unknown) {
    super('try again', { cause });
    this.delayMs = delayMs;
  }
}

const PACE_OPTIONS = new Set(['session', 'tier', 'pool', 'priority', 'maxWaitMs']);

/** The loop above the dispatcher: attempts, bodies, deadline. Retrying is done up here, where a body can still be sent again. */
export class Fetcher {
  private readonly engine: Engine;
  private readonly backoff: Backoff;
  private readonly budget: RetryBudget;
  private readonly calls = new WeakMap<object, Call>();

  constructor(engine: Engine) {
    const { retry, clock, random } = engine.options;
    this.engine = engine;
    this.backoff = fullJitter({ baseMs: retry.baseMs, capMs: retry.capMs, random });
    this.budget = retryBudget({ ratio: retry.ratio, clock });
  }

  callOf(response: object): Call | undefined {
    return this.calls.get(response);
  }

  /** Runs one request through `send`, on `route` when it is given. */
  async run<R extends AnyResponse>(
    input: unknown,
    init: { pace?: PaceOptions } | undefined,
    route: PoolRoute | undefined,
    send: (request: PreparedRequest, dispatcher: Dispatcher, signal: AbortSignal | undefined) => Promise<R>,
  ): Promise<R> {
    const { engine } = this;
    const pace = checkPace(init?.pace);
    const request = prepareRequest(input, init as never, engine.options.headers);
    const call = new Call(pace, route, request.follows);
    const deadline = this.deadline(call, request.signal);
    const dispatcher = {
      dispatch: (o: Dispatcher.DispatchOptions, h: Dispatcher.DispatchHandler) => engine.dispatch(call, o, h),
    };
    let lastResponse: R | undefined;

    const attempt = async (): Promise<R> => {
      call.again();
      const sendsBefore = call.sends;
      let response: R | undefined;
      let failure: unknown;
      try {
        response = await send(request, dispatcher as unknown as Dispatcher, deadline.signal);
      } catch (error) {
        if (deadline.signal?.aborted) throw deadline.signal.reason;
        failure = reveal(error);
      }
      const delayMs = this.delayAfter(call, request, response, failure, sendsBefore);
      if (delayMs === undefined) {
        if (response !== undefined) return response;
        if (call.attempts === 1 || isFatal(failure)) throw failure;
        throw new RetriesExhaustedError({ attempts: call.attempts, cause: failure, response: lastResponse });
      }
      lastResponse = response ?? lastResponse;
      await response?.body?.cancel().catch(() => {});
      throw new TryAgain(delayMs, failure ?? new Error(`status ${response?.status}`));
    };

    this.budget.deposit();
    try {
      const response = await pRetry(attempt, {
        // The count, the waits and their clock are ours; p-retry runs the loop.
        retries: Number.POSITIVE_INFINITY,
        minTimeout: 0,
        shouldRetry: ({ error }) => error instanceof TryAgain,
        onFailedAttempt: ({ error }) => {
          if (error instanceof TryAgain) return this.pause(call, error, deadline.signal);
        },
      });
      this.calls.set(response, call);
      deadline.responded();
      return response;
    } catch (error) {
      deadline.end();
      // The caller's reason as it is: p-retry takes nothing but errors.
      throw deadline.signal?.aborted ? deadline.signal.reason : error;
    }
  }

  /** A fetch in the place of the global one. */
  fetch(input: unknown, init: { pace?: PaceOptions } | undefined, route?: PoolRoute): Promise<Response> {
    return this.run(input, init, route, (request, dispatcher, signal) =>
      undiciFetch(request.input as never, { ...request.init, dispatcher, ...(signal && { signal }) }),
    );
  }

  private delayAfter(
    call: Call,
    request: PreparedRequest,
    response: AnyResponse | undefined,
    failure: unknown,
    sendsBefore: number,
  ): number | undefined {
    const { retry } = this.engine.options;
    const delayMs = retryDelayMs(
      {
        attempts: call.attempts,
        status: response?.status,
        outcome: call.outcome,
        retryAfterMs: call.retryAfterMs,
        unsent: response === undefined && call.sends === sendsBefore,
        fatal: failure !== undefined && isFatal(failure),
        elsewhere: !call.sticky && call.route !== undefined && this.engine.pool(call.route.pool).hasOthers,
      },
      {
        attempts: retry.attempts,
        maxRetryAfterMs: retry.maxRetryAfterMs,
        idempotent: retry.methods.has(request.method),
        replayable: request.replayable(),
        backoff: this.backoff,
      },
    );
    // All retries together stay within a share of the requests: in an outage, trying harder only makes it worse.
    return delayMs === undefined || !this.budget.tryWithdraw() ? undefined : delayMs;
  }

  private pause(call: Call, again: TryAgain, signal: AbortSignal | undefined): Promise<void> | undefined {
    const { events, clock } = this.engine;
    if (events.wants('retry')) {
      const reason = again.cause instanceof Error ? again.cause.message : String(again.cause);
      events.emit('retry', { target: call.target, attempt: call.attempts, delayMs: again.delayMs, reason });
    }
    if (again.delayMs <= 0) return undefined;
    return new Promise((resolve, reject) => {
      const aborted = (): void => {
        clock.clearTimeout(timer);
        reject(signal!.reason);
      };
      const timer = clock.setTimeout(() => {
        signal?.removeEventListener('abort', aborted);
        resolve();
      }, Math.ceil(again.delayMs));
      if (signal?.aborted) aborted();
      else signal?.addEventListener('abort', aborted, { once: true });
    });
  }

  /** The caller's signal and `timeouts.totalMs` in one; the timer ends with the body. */
  private deadline(call: Call, own: AbortSignal | undefined): Deadline {
    const { clock, timeouts } = this.engine;
    const { totalMs } = timeouts;
    if (totalMs === undefined) return { signal: own, end() {}, responded() {} };
    const controller = new AbortController();
    const timer = clock.setTimeout(() => controller.abort(new DeadlineError(totalMs)), totalMs);
    const end = (): void => clock.clearTimeout(timer);
    return {
      signal: own === undefined ? controller.signal : AbortSignal.any([own, controller.signal]),
      end,
      responded() {
        if (call.live === undefined) end();
        else call.onEnd = end;
      },
    };
  }
}

interface Deadline {
  readonly signal: AbortSignal | undefined;
  end(): void;
  /** The response is the caller's now; the deadline goes on until its body has ended. */
  responded(): void;
}

/** undici's fetch hides the reason two causes deep; ours is worth showing as it is. */
function reveal(error: unknown): unknown {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof PacelineError) return cause;
  }
  return error;
}

/** Nothing another attempt could mend: bad options, bad arguments, credentials, a closed manager, a full queue. */
function isFatal(error: unknown): boolean {
  if (error instanceof GatewayError) return !error.retryable;
  if (error instanceof PacelineError) return true;
  // fetch's own network errors are TypeErrors with a cause; without one the arguments are wrong.
  return !(error instanceof TypeError && error.cause !== undefined) || isCertificateError(error.cause);
}

function isCertificateError(cause: unknown): boolean {
  const code = String((cause as { code?: unknown })?.code ?? '');
  return code.startsWith('ERR_TLS_CERT') || code.includes('CERT') || code.startsWith('UNABLE_TO_');
}

function checkPace(pace: PaceOptions | undefined): PaceOptions {
  if (pace === undefined) return {};
  if (typeof pace !== 'object' || pace === null) throw invalid('pace', 'an object', pace);
  for (const name of Object.keys(pace)) {
    if (!PACE_OPTIONS.has(name))
      throw invalid(`pace.${name}`, `one of ${[...PACE_OPTIONS].join(', ')}`, 'an unknown option');
  }
  if (pace.session !== undefined) checkSessionId('pace.session', pace.session);
  if (pace.maxWaitMs !== undefined) nonNegative('pace.maxWaitMs', pace.maxWaitMs, 'milliseconds');
  if (pace.priority !== undefined && !Number.isFinite(pace.priority)) {
    throw invalid('pace.priority', 'a finite number', pace.priority);
  }
  return pace;
}
