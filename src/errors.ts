/** Stable codes of {@link PacelineError.code}. */
export type PacelineErrorCode =
  | 'PACELINE_CONFIG'
  | 'PACELINE_BUDGET_EXCEEDED'
  | 'PACELINE_GATEWAY'
  | 'PACELINE_CIRCUIT_OPEN'
  | 'PACELINE_RETRIES_EXHAUSTED'
  | 'PACELINE_QUEUE_TIMEOUT'
  | 'PACELINE_TIMEOUT'
  | 'PACELINE_SESSION_LOST'
  | 'PACELINE_STORE'
  | 'PACELINE_CLOSED';

/** The base of every error that paceline itself makes. `code` is stable; messages are not. */
export class PacelineError extends Error {
  readonly code: PacelineErrorCode;

  constructor(code: PacelineErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.name = new.target.name;
  }
}

/** An option is unusable. Thrown at construction or at the call that brought it; never retried. */
export class ConfigError extends PacelineError {
  /** The option, as a path: `pools.res.gateway`. */
  readonly option: string;

  constructor(message: string, details: { option: string; cause?: unknown }) {
    super('PACELINE_CONFIG', message, { cause: details.cause });
    this.option = details.option;
  }
}

/** No slot comes free within the time the caller is willing to wait. Thrown as soon as that is known. */
export class BudgetExceededError extends PacelineError {
  readonly target: string;
  /** How long the wait would have been, in milliseconds; `Infinity` when no time is known. */
  readonly waitMs: number;
  readonly maxWaitMs: number;

  constructor(details: { target: string; waitMs: number; maxWaitMs: number }) {
    const wait = Number.isFinite(details.waitMs) ? `${Math.ceil(details.waitMs)} ms away` : 'at no known time';
    super(
      'PACELINE_BUDGET_EXCEEDED',
      `no slot for ${details.target} within ${details.maxWaitMs} ms: the next one is ${wait}`,
    );
    this.target = details.target;
    this.waitMs = details.waitMs;
    this.maxWaitMs = details.maxWaitMs;
  }
}

/** The request waited in the queue for as long as `timeouts.queueMs` (or `maxWaitMs`) allows. */
export class QueueTimeoutError extends PacelineError {
  readonly target: string;
  readonly waitedMs: number;

  constructor(details: { target: string; waitedMs: number }) {
    super(
      'PACELINE_QUEUE_TIMEOUT',
      `gave up after ${Math.round(details.waitedMs)} ms in the queue of ${details.target}`,
    );
    this.target = details.target;
    this.waitedMs = details.waitedMs;
  }
}

/** The total time of the request (`timeouts.totalMs`) is over. */
export class DeadlineError extends PacelineError {
  readonly totalMs: number;

  constructor(totalMs: number) {
    super('PACELINE_TIMEOUT', `not done within timeouts.totalMs = ${totalMs} ms`);
    this.totalMs = totalMs;
  }
}

/**
 * What went wrong at the gateway, before the target saw anything.
 *
 * - `auth`: the credentials were refused; some providers refuse used-up traffic in the same words
 * - `quota`: paid traffic is used up (fatal), or there are too many requests or connections at a time (it passes) · `forbidden`: the gateway's policy
 *   refuses the target
 * - `unreachable`: no connection to the gateway, or it closed without an answer · `timeout`: it did not answer in `connectMs`
 * - `exit-failed`: the exit could not reach the target, or there is no exit · `protocol`: the answer was not HTTP (or not SOCKS)
 */
export type GatewayErrorKind = 'auth' | 'quota' | 'forbidden' | 'unreachable' | 'timeout' | 'exit-failed' | 'protocol';

const FATAL_KINDS: ReadonlySet<GatewayErrorKind> = new Set(['auth', 'quota', 'forbidden']);

/**
 * A fault of the gateway, never of the target: it does not count against the target, nor against the IP there. Where no other attempt can mend it
 * (`fatal`), none is made. The message holds the provider's own words, without credentials.
 *
 * @example
 * if (error instanceof GatewayError && error.fatal) alert(`pool ${error.pool}: ${error.kind} (${error.providerCode})`);
 */
export class GatewayError extends PacelineError {
  readonly kind: GatewayErrorKind;
  /** Status of the CONNECT response, when there was one. */
  readonly status: number | undefined;
  /** The provider's own code, when it sent one: `client_10100`, `dns_error`, `TRAFFIC_EXHAUSTED`. */
  readonly providerCode: string | undefined;
  readonly pool: string;
  /** No other attempt can mend it: wrong credentials, used-up traffic, a target that the gateway's policy refuses. */
  readonly fatal: boolean;
  /** How long the gateway asks to be left alone, in milliseconds in [0, one year]; undefined when it does not. Kept before the next attempt. */
  readonly retryAfterMs: number | undefined;

  /** @param details `fatal` when left out goes by the kind: `auth`, `quota` and `forbidden` are. */
  constructor(
    message: string,
    details: {
      kind: GatewayErrorKind;
      pool: string;
      status?: number | undefined;
      providerCode?: string | undefined;
      fatal?: boolean | undefined;
      retryAfterMs?: number | undefined;
      cause?: unknown;
    },
  ) {
    super('PACELINE_GATEWAY', message, { cause: details.cause });
    this.kind = details.kind;
    this.status = details.status;
    this.providerCode = details.providerCode;
    this.pool = details.pool;
    this.fatal = details.fatal ?? FATAL_KINDS.has(details.kind);
    this.retryAfterMs = details.retryAfterMs;
  }

  /** Whether another attempt could end differently: not {@link fatal}. */
  get retryable(): boolean {
    return !this.fatal;
  }
}

/** The circuit breaker is open: the call was refused without being tried. */
export class CircuitOpenError extends PacelineError {
  /** Milliseconds until the breaker lets a probe through. */
  readonly retryInMs: number;

  constructor(what: string, retryInMs: number) {
    super('PACELINE_CIRCUIT_OPEN', `the circuit of ${what} is open for ${Math.ceil(retryInMs)} ms more`);
    this.retryInMs = retryInMs;
  }
}

/** Every allowed attempt failed. `cause` is the last error; `response` the last response, if any attempt got one. */
export class RetriesExhaustedError extends PacelineError {
  readonly attempts: number;
  readonly response: unknown;

  constructor(details: { attempts: number; cause: unknown; response?: unknown }) {
    const last = innermost(details.cause);
    super('PACELINE_RETRIES_EXHAUSTED', `failed after ${details.attempts} attempts: ${last}`, { cause: details.cause });
    this.attempts = details.attempts;
    this.response = details.response;
  }
}

/**
 * A strict session ended: nothing was sent, and nothing will be until `session.rotate()`. Not retried.
 *
 * - `exit-changed`: a tunnel came up on another exit · `expired`: its time (`sessionTtlMs`) is over
 */
export class SessionLostError extends PacelineError {
  readonly session: string;
  readonly reason: 'exit-changed' | 'expired';
  /** Egress that the session had, where it was known. */
  readonly expected: string | undefined;
  /** Egress that it came up on instead. */
  readonly actual: string | undefined;

  constructor(details: {
    session: string;
    reason: 'exit-changed' | 'expired';
    expected: string | undefined;
    actual: string | undefined;
  }) {
    const { session, reason, expected, actual } = details;
    const what = reason === 'expired' ? 'its time is over' : `its exit was ${expected} and is now ${actual}`;
    super('PACELINE_SESSION_LOST', `the strict session ${session} is lost: ${what}; rotate() opens another`);
    this.session = session;
    this.reason = reason;
    this.expected = expected;
    this.actual = actual;
  }
}

/** The message that says most: undici's fetch hides the reason two causes deep. */
function innermost(error: unknown): string {
  let message = String(error);
  for (let cause = error, depth = 0; cause instanceof Error && depth < 8; cause = cause.cause, depth++) {
    if (cause.message !== '') message = cause.message;
  }
  return message;
}

/** The store of the shared state failed or did not answer. */
export class StoreError extends PacelineError {
  constructor(message: string, options?: ErrorOptions) {
    super('PACELINE_STORE', message, options);
    // A bundler may have called the class otherwise; and those derived from it are nobody else's business.
    this.name = 'StoreError';
  }

  /** What a store threw, as a StoreError. */
  static from(cause: unknown): StoreError {
    if (cause instanceof StoreError) return cause;
    return new StoreError(`the store failed: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

/** The manager, session or pool was closed while, or before, the request waited. */
export class ClosedError extends PacelineError {
  constructor(what = 'the ProxyManager') {
    super('PACELINE_CLOSED', `${what} is closed`);
  }
}
