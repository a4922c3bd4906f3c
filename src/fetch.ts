import { type Dispatcher, type Response, fetch as undiciFetch } from 'undici';
import { type AnyResponse, Attempts, Failed, type Run, type Send, TryAgain } from './attempts.ts';
import { Call, type PaceOptions } from './call.ts';
import { deadlineOf } from './deadline.ts';
import type { Engine } from './engine.ts';
import { ClosedError } from './errors.ts';
import type { PoolRoute } from './gateway/pool.ts';
import { checkPace } from './pace.ts';
import { type PreparedRequest, prepareRequest } from './request.ts';
import { Stamp } from './stamp.ts';
import type { Stay } from './stay.ts';
import { invalid } from './validate.ts';

/** What fetch takes for a dispatcher: it knows the call that its dispatches belong to. */
class CallDispatcher {
  private readonly engine: Engine;
  private readonly call: Call;

  constructor(engine: Engine, call: Call) {
    this.engine = engine;
    this.call = call;
  }

  dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    this.call.dispatched = true;
    return this.engine.entry.dispatch(this.call, options, handler);
  }
}

const sendWithUndici: Send<Response> = ({ input, init }) => undiciFetch(input as never, init);

/** The loop above the dispatcher: attempts, bodies, deadline. Retrying is done up here, where a body can still be sent again. */
export class Fetcher {
  private readonly engine: Engine;
  private readonly attempts: Attempts;

  constructor(engine: Engine) {
    this.engine = engine;
    this.attempts = new Attempts(engine);
  }

  /** A fetch in the place of the global one; on a session's route, with its cookies, when `stay` is given. */
  fetch(input: unknown, init: { pace?: PaceOptions } | undefined, stay?: Stay): Promise<Response> {
    return this.run(input, init, stay, sendWithUndici, false);
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
    this.attempts.stop();
  }

  /** Not async: most requests need one attempt, and every promise more is a tenth of what pacing costs. */
  private run<R extends AnyResponse>(
    input: unknown,
    init: { pace?: PaceOptions } | undefined,
    stay: Stay | undefined,
    send: Send<R>,
    foreign: boolean,
  ): Promise<R> {
    const { engine } = this;
    if (engine.closed) return Promise.reject(new ClosedError());
    engine.begin();
    let run: Run<R> | undefined;
    try {
      run = this.prepare(input, init, stay, send, foreign);
      const { ready } = run.request;
      return ready === undefined ? this.start(run) : this.startWhen(ready, run);
    } catch (error) {
      if (run === undefined) engine.finish();
      else this.ended(run);
      return Promise.reject(error);
    }
  }

  private prepare<R extends AnyResponse>(
    input: unknown,
    init: { pace?: PaceOptions } | undefined,
    stay: Stay | undefined,
    send: Send<R>,
    foreign: boolean,
  ): Run<R> {
    const { engine } = this;
    const pace = checkPace(init?.pace, engine.options, stay !== undefined);
    const request = prepareRequest(input, init as never, engine.options.headers, foreign);
    const call = new Call(pace, stay?.route ?? this.namedRoute(pace, request), request.dumpsRedirects);
    call.plain = request.plain;
    call.stay = stay;
    call.jar = stay?.jarFor(input, init);
    const deadline = deadlineOf(call, request.signal, engine);
    if (deadline.signal !== undefined) request.init.signal = deadline.signal;
    request.init.dispatcher = new CallDispatcher(engine, call) as unknown as Dispatcher;
    return { call, request, deadline, send, lastResponse: undefined, foreign, over: false };
  }

  private async startWhen<R extends AnyResponse>(ready: Promise<void>, run: Run<R>): Promise<R> {
    try {
      await ready;
    } catch (error) {
      this.ended(run);
      throw error;
    }
    return this.start(run);
  }

  private start<R extends AnyResponse>(run: Run<R>): Promise<R> {
    this.attempts.begin();
    run.call.again();
    return run.send(run.request).then(
      (response) =>
        run.call.outcome === 'ok'
          ? this.handOver(run, response)
          : this.conclude(run, this.attempts.answered(run, response)),
      (error) => this.conclude(run, this.attempts.failed(run, error)),
    );
  }

  /** Tries again, if that is what the first attempt came to. */
  private async conclude<R extends AnyResponse>(
    run: Run<R>,
    first: R | Failed | TryAgain | Promise<TryAgain>,
  ): Promise<R> {
    try {
      const one = await first;
      const ending = one instanceof TryAgain ? await this.attempts.further(run, one) : one;
      if (ending instanceof Failed) throw ending.error;
      return this.handOver(run, ending);
    } catch (error) {
      this.ended(run);
      throw error;
    }
  }

  private handOver<R extends AnyResponse>(run: Run<R>, response: R): R {
    try {
      if (run.foreign && !run.call.dispatched) throw bypassed(response, run.request);
      Stamp.on(response, run.call);
      run.deadline.responded();
    } catch (error) {
      // What a foreign fetch gave is no object.
      this.ended(run);
      throw error;
    }
    run.over = true;
    this.engine.finish();
    return response;
  }

  /** Nothing will be handed over; once a run. */
  private ended<R>(run: Run<R>): void {
    if (run.over) return;
    run.over = true;
    run.deadline.end();
    this.engine.finish();
  }

  /** The route of the session that the request names. What fetch refuses anyway, it refuses in its own words. */
  private namedRoute(pace: PaceOptions, { input }: PreparedRequest): PoolRoute | undefined {
    if (pace.session === undefined) return undefined;
    const url = URL.parse(typeof input === 'object' && 'url' in input ? input.url : String(input));
    if (url === null || !/^https?:$/.test(url.protocol)) return undefined;
    return this.engine.sessions.byName(url.href, pace.session, pace.tier, pace.pool);
  }
}

/** A foreign fetch answered without its dispatcher: what it sent left unpaced, from the machine's own address. */
function bypassed(response: AnyResponse, { input }: PreparedRequest): Error {
  response.body?.cancel().catch(() => {});
  const url = String(typeof input === 'object' && 'url' in input ? input.url : input);
  const what = /^https?:/i.test(url) ? 'one that ignores it' : `an answer to ${url.slice(0, 16)}… without a request`;
  return invalid('fetchLike', 'a fetch that sends through init.dispatcher', what);
}
