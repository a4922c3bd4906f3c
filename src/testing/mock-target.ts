import { seededRandom, systemClock } from '../clock.ts';
import { count, invalid, nonNegative, positive } from '../validate.ts';
import { type Arrival, overOf, tally, worstOf } from './arrivals.ts';
import { PeerBudget, type TargetBudget } from './budget.ts';
import { type Delay, delayOf, pause } from './delays.ts';
import { authority, isLoopback, listen, plainIp, SocketSet, unlisten } from './sockets.ts';
import { pageOf, refusal, type TargetHandler, type TargetReply, write } from './target-reply.ts';
import { bodyOf, hostOf, type Request, type Response, streamOf, targetServer } from './target-server.ts';

/** Options of {@link mockTarget}. */
export interface MockTargetOptions {
  /**
   * What each IP may send; more is answered 429. Measured on the target's own clock, over half-open windows. @default no limit
   *
   * @example { limit: 15, windowMs: 60_000 }
   */
  readonly budget?: TargetBudget;
  /** Whether arrivals answered 429 or 403 for the budget stand in `arrivals`, and so count in `worst()` and `overBudget()`. They never consume budget. @default true */
  readonly countRejected?: boolean;
  /** Whether a 429 or a ban says `Retry-After`, in whole seconds, rounded up. @default true */
  readonly retryAfter?: boolean;
  /** After this many arrivals over the budget the IP is banned: answered 403. An integer ≥ 1. @default never */
  readonly banAfter?: number;
  /** How long a ban lasts, in milliseconds. @default 60_000 */
  readonly banMs?: number;
  /** Time before each answer, in milliseconds, or [min, max]. @default 0 */
  readonly latencyMs?: Delay;
  /**
   * The answer to an arrival within the budget. `undefined` stands for the default page. May be async.
   *
   * @example (request) => (request.path === '/old' ? { redirect: '/new' } : undefined)
   */
  readonly handler?: TargetHandler;
  /** Size of the default page, in bytes. @default 1024 */
  readonly bodyBytes?: number;
  /** PEM key and certificate: the target speaks https. */
  readonly tls?: { readonly key: string | Buffer; readonly cert: string | Buffer };
  /** Offer HTTP/2 besides HTTP/1.1 (by ALPN, so it needs `tls`). @default false */
  readonly http2?: boolean;
  /** The loopback address to listen on. @default '127.0.0.1' */
  readonly host?: string;
  /** The port to listen on; 0 takes a free one. @default 0 */
  readonly port?: number;
  /** How long an idle connection is kept, in milliseconds; sent as `Keep-Alive: timeout`. @default 75_000 */
  readonly keepAliveMs?: number;
  /** Seed of everything drawn at random. @default 1 */
  readonly seed?: number;
}

/** An HTTP server on loopback that sees which IP every request comes from, and holds each to a budget. */
export interface MockTarget extends AsyncDisposable {
  /** `http://127.0.0.1:PORT`, or https. */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /** Every request seen, oldest first. */
  readonly arrivals: readonly Arrival[];
  /** How many client connections are open. */
  readonly connections: number;
  /** The most arrivals of any one IP within any half-open window of `windowMs` (default: the budget's). The promise to test: ≤ the limit. */
  worst(windowMs?: number): number;
  /** How many arrivals, whatever was answered, were beyond the budget; 0 without a budget. */
  overBudget(): number;
  /** Arrivals per status answered; those not answered (yet) under 0. */
  byStatus(): Record<string, number>;
  /** The IPs seen, in order of appearance. */
  ips(): string[];
  /** Resolves once `total` requests have arrived. */
  arrived(total: number): Promise<void>;
  /** Forgets arrivals, budgets and bans. */
  reset(): void;
  /** Drops every connection and frees the port; resolves once all of that is done. */
  close(): Promise<void>;
}

/**
 * Starts a target on loopback.
 *
 * @example
 * await using target = await mockTarget({ budget: { limit: 5, windowMs: 1_000 } });
 * await fetch(target.url);
 * target.ips(); // ['127.0.0.1'], or the exit of a mockGateway
 */
export async function mockTarget(options: MockTargetOptions = {}): Promise<MockTarget> {
  const { host = '127.0.0.1', port = 0, tls, http2 = false, handler, seed = 1 } = options;
  const { budget, countRejected = true, retryAfter = true, banAfter, banMs = 60_000 } = options;
  if (budget !== undefined) {
    count('budget.limit', budget.limit);
    positive('budget.windowMs', budget.windowMs, 'milliseconds');
  }
  if (banAfter !== undefined) count('banAfter', banAfter);
  positive('banMs', banMs, 'milliseconds');
  const keepAliveMs = positive('keepAliveMs', options.keepAliveMs ?? 75_000, 'milliseconds');
  if (http2 && tls === undefined)
    throw invalid('http2', 'tls beside it: HTTP/2 is agreed on in the TLS handshake', http2);
  if (!isLoopback(host)) throw invalid('host', 'a loopback address', host);
  const latency = delayOf('latencyMs', options.latencyMs ?? 0, seededRandom(seed));
  const page = pageOf(nonNegative('bodyBytes', options.bodyBytes ?? 1024, 'bytes'));
  const peers = budget && new PeerBudget(budget, banAfter ?? Number.POSITIVE_INFINITY, banMs);

  const arrivals: Arrival[] = [];
  const sockets = new SocketSet();
  let waiting: { total: number; resolve: () => void }[] = [];

  function announce(): void {
    for (const { total, resolve } of waiting) if (arrivals.length >= total) resolve();
    if (waiting.length > 0) waiting = waiting.filter(({ total }) => arrivals.length < total);
  }

  async function answer(request: Request, response: Response): Promise<void> {
    const at = performance.now();
    const ip = plainIp(request.socket.remoteAddress ?? '');
    const { method = 'GET', url: path = '/' } = request;
    const arrival: Arrival = { at, ip, method, path, host: hostOf(request), status: 0 };
    const verdict = peers?.arrive(ip, at) ?? { kind: 'allowed' };
    if (verdict.kind === 'allowed' || countRejected) arrivals.push(arrival);
    announce();

    let reply: TargetReply | undefined;
    if (verdict.kind !== 'allowed') {
      request.resume();
      reply = refusal(verdict, retryAfter);
    } else if (handler === undefined) {
      request.resume();
    } else {
      const body = await bodyOf(request);
      if (body === undefined) return;
      reply = await handler({ method, path, headers: request.headers, ip, host: arrival.host, body });
    }
    reply ??= page;
    if (!(await pause(systemClock, latency() + (reply.delayMs ?? 0), streamOf(response)))) return;
    if (reply.reset) sockets.reset(request.socket);
    else arrival.status = write(response, reply, ip);
  }

  const listener = (request: Request, response: Response): void => {
    request.on('error', () => {});
    response.on('error', () => {});
    answer(request, response).catch((error: unknown) => {
      // The handler threw: the test should see why, and the target lives on.
      if (!response.headersSent) write(response, { status: 500, body: `handler: ${String(error)}` }, '');
    });
  };

  const server = targetServer({ tls, http2, keepAliveMs }, listener);
  server.on('connection', (socket) => sockets.add(socket));
  const listening = await listen(server, host, port);

  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closed ??= (async () => {
      const stopped = unlisten(server);
      sockets.destroy();
      await Promise.all([stopped, sockets.empty()]);
    })();
    return closed;
  };

  return {
    url: `${tls ? 'https' : 'http'}://${authority(host, listening)}`,
    host,
    port: listening,
    arrivals,
    get connections() {
      return sockets.size;
    },
    worst(windowMs = budget?.windowMs ?? Number.POSITIVE_INFINITY) {
      return worstOf(arrivals, windowMs);
    },
    overBudget: () => (budget ? overOf(arrivals, budget.limit, budget.windowMs) : 0),
    byStatus: () => tally(arrivals, 'status'),
    ips: () => Object.keys(tally(arrivals, 'ip')),
    arrived(total) {
      if (arrivals.length >= total) return Promise.resolve();
      return new Promise((resolve) => waiting.push({ total, resolve }));
    },
    reset() {
      arrivals.length = 0;
      peers?.reset();
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}
