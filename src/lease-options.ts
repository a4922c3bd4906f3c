import { Call, type PaceOptions } from './call.ts';
import type { Engine } from './engine.ts';
import { mayHoldQuota, quotaReport } from './headers/quota-report.ts';
import type { HeaderSource } from './headers/read.ts';
import { retryAfterOf } from './headers/retry-after-of.ts';
import type { Ending } from './holding.ts';
import { OUTCOMES, outcomeOf } from './outcome.ts';
import { checkPace } from './pace.ts';
import { unsaidRestMs } from './settling.ts';
import type { Outcome } from './store/store.ts';
import { invalid, knownOnly, nonNegative, positive, within } from './validate.ts';

/** Options of {@link ProxyManager.acquire}. */
export interface LeaseOptions extends Omit<PaceOptions, 'inspectBody'> {
  /** Ends the wait. Once the lease is there it has no effect: settle the lease. */
  readonly signal?: AbortSignal;
  /**
   * The longest the lease is held, in milliseconds > 0; it then settles itself as `ignored`, and its slot begins to cool.
   * Longer than the request it is for may take. @default 2 × timeouts.connectMs + timeouts.headersMs + 60_000
   */
  readonly holdMs?: number;
}

/** A response as its client has it: undici's and the global fetch's, axios', got's and Puppeteer's fit once status and headers are named so. */
export interface LeaseResponse {
  readonly status: number;
  /** `Headers`, or a record. */
  readonly headers?: HeaderSource;
  /** @default the URL the lease was acquired for */
  readonly url?: string;
  /** @default 'GET' */
  readonly method?: string;
}

/** What a lease's end may say besides its outcome. */
export interface SettleDetails {
  /** How long the target asked to be left alone over this egress, in milliseconds ≥ 0. */
  readonly retryAfterMs?: number;
  /** Status of the response, for the `settle` event. */
  readonly status?: number;
}

const KNOWN = ['signal', 'session', 'tier', 'pool', 'priority', 'maxWaitMs', 'cost', 'holdMs'];

/** What a lease was asked for, checked. */
export interface LeaseRequest {
  readonly url: URL;
  readonly call: Call;
  readonly holdMs: number;
  readonly signal: AbortSignal | undefined;
}

export function checkAcquire(engine: Engine, url: string | URL, options: LeaseOptions): LeaseRequest {
  const parsed = URL.parse(String(url));
  if (parsed === null || !/^https?:$/.test(parsed.protocol)) throw invalid('url', 'an http:// or https:// URL', url);
  knownOnly('acquire', options, KNOWN);
  const { signal, holdMs, ...rest } = options;
  if (signal !== undefined && (typeof signal?.aborted !== 'boolean' || typeof signal.addEventListener !== 'function')) {
    throw invalid('acquire.signal', 'an AbortSignal', signal);
  }
  if (holdMs !== undefined) positive('acquire.holdMs', holdMs, 'milliseconds');
  const pace = checkPace(rest, engine.options, false, 'acquire');
  const { session, tier } = pace;
  const pin = session === undefined ? undefined : engine.sessions.byName(parsed.href, session, tier, pace.pool);
  return {
    url: parsed,
    call: new Call(pace, pin, false),
    holdMs: holdMs ?? engine.deadlineMs,
    signal,
  };
}

/** What the caller says of a lease's end, checked; of a response, what it means. */
export function checkEnding(
  engine: Engine,
  leasedFor: string,
  how: Outcome | LeaseResponse,
  details: SettleDetails,
): Ending {
  if (typeof how !== 'object' || how === null) {
    if (!OUTCOMES.has(how)) throw invalid('outcome', `one of ${[...OUTCOMES].join(', ')}, or a response`, how);
    knownOnly('settle', details, ['retryAfterMs', 'status']);
    const { retryAfterMs, status } = details;
    if (status !== undefined) within('settle.status', status, 100, 999);
    if (retryAfterMs !== undefined) nonNegative('settle.retryAfterMs', retryAfterMs, 'milliseconds');
    return { outcome: how, status, retryAfterMs };
  }
  const { status, url = leasedFor, method = 'GET' } = how;
  within('settle.status', status, 100, 999);
  if (typeof url !== 'string') throw invalid('settle.url', 'a string', url);
  if (typeof method !== 'string') throw invalid('settle.method', 'a string', method);
  const headers = recordOf(how.headers ?? {});
  const outcome = outcomeOf({ url, method, status, headers }, engine.options.classify);
  const { retryAfterCapMs } = engine.options.retry;
  const wallNow = engine.clock.wallNow();
  const retryAfterMs = status >= 300 ? retryAfterOf(headers, wallNow, retryAfterCapMs) : undefined;
  const quota = mayHoldQuota(headers) ? quotaReport(headers, wallNow, retryAfterCapMs) : undefined;
  return { outcome, status, retryAfterMs: retryAfterMs ?? unsaidRestMs(outcome, quota, headers), quota };
}

function recordOf(headers: HeaderSource): Record<string, string | string[] | undefined> {
  if (typeof headers !== 'object' || headers === null) throw invalid('settle.headers', 'headers', headers);
  const pairs = Symbol.iterator in headers ? (headers as Iterable<[string, string]>) : Object.entries(headers);
  return Object.fromEntries([...pairs].map(([name, value]) => [String(name).toLowerCase(), value]));
}
