/** Stable codes of {@link PacelineError.code}. */
export type PacelineErrorCode =
  | 'PACELINE_CONFIG'
  | 'PACELINE_BUDGET_EXCEEDED'
  | 'PACELINE_GATEWAY'
  | 'PACELINE_CIRCUIT_OPEN'
  | 'PACELINE_RETRIES_EXHAUSTED'
  | 'PACELINE_QUEUE_TIMEOUT'
  | 'PACELINE_TIMEOUT'
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
 * - `auth`: the credentials were refused · `quota`: paid traffic or threads are used up · `forbidden`: the gateway's policy refuses the target
 * - `unreachable`: no connection to the gateway, or it closed without an answer · `timeout`: it did not answer in `connectMs`
 * - `exit-failed`: the exit could not reach the target, or there is no exit · `protocol`: the answer was not HTTP (or not SOCKS)
 */
export type GatewayErrorKind = 'auth' | 'quota' | 'forbidden' | 'unreachable' | 'timeout' | 'exit-failed' | 'protocol';

/** A fault of the gateway, never of the target. `auth`, `quota` and `forbidden` are not retried. */
export class GatewayError extends PacelineError {
  readonly kind: GatewayErrorKind;
  /** Status of the CONNECT response, when there was one. */
  readonly status: number | undefined;
  /** The provider's own code, when it sent one. */
  readonly providerCode: string | undefined;
  readonly pool: string;

  constructor(
    message: string,
    details: { kind: GatewayErrorKind; pool: string; status?: number; providerCode?: string; cause?: unknown },
  ) {
    super('PACELINE_GATEWAY', message, { cause: details.cause });
    this.kind = details.kind;
    this.status = details.status;
    this.providerCode = details.providerCode;
    this.pool = details.pool;
  }

  /** Whether another attempt could end differently. */
  get retryable(): boolean {
    return this.kind !== 'auth' && this.kind !== 'quota' && this.kind !== 'forbidden';
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
    const last = details.cause instanceof Error ? details.cause.message : String(details.cause);
    super('PACELINE_RETRIES_EXHAUSTED', `failed after ${details.attempts} attempts: ${last}`, { cause: details.cause });
    this.attempts = details.attempts;
    this.response = details.response;
  }
}

/** The store of the shared state failed or did not answer. */
export class StoreError extends PacelineError {
  constructor(message: string, options?: ErrorOptions) {
    super('PACELINE_STORE', message, options);
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
