import type { Jar } from './cookies.ts';
import type { Pool, PoolRoute } from './gateway/pool.ts';
import type { Stay } from './stay.ts';
import type { Outcome } from './store/store.ts';

/** How one request wants to be paced: `fetch(url, { pace: { … } })`. */
export interface PaceOptions {
  /** Id of a session to stay on: 1 to 64 of A–Z a–z 0–9 */
  readonly session?: string;
  /** Tier instead of the rule's. Requests of a target under different tiers are counted apart. */
  readonly tier?: string;
  /** Pool instead of the rule's. */
  readonly pool?: string;
  /** Higher goes first; equals go first come, first served. @default 0 */
  readonly priority?: number;
  /** The longest wait in the queue that is worth it, in milliseconds; a {@link BudgetExceededError} at once when it is known to be longer. */
  readonly maxWaitMs?: number;
  /** How many requests it counts as: slots of its egress's budget, and units of the target's rates; an integer from 1 to the budget's limit. @default 1 */
  readonly cost?: number;
  /** Whether HTML pages that look like a success are looked at too, for what a block says. @default the manager's `inspectBody` */
  readonly inspectBody?: boolean;
}

/** What is known of a request's way: `proxies.exchange(response)`. Counts grow while the body comes. */
export interface ExchangeInfo {
  readonly target: string;
  readonly tier: string;
  readonly pool: string;
  readonly session: string | undefined;
  readonly egress: string;
  /** Whether the gateway, a probe or the configuration named the egress, or it is assumed from the session. */
  readonly egressVerified: boolean;
  /** Attempts made, this one included. */
  readonly attempts: number;
  /** Requests sent, redirect hops and attempts counted each; 0 for a response out of the cache, or of an equal request joined. */
  readonly sends: number;
  /** Time spent waiting for permits, in milliseconds. */
  readonly waitedMs: number;
  /** On the wire, tunnel and TLS set-up included. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** It came out of the cache, and nothing was sent for it: such a response has no egress. */
  readonly cached: boolean;
  readonly outcome: Outcome | undefined;
}

/** An exchange that goes on, as far as its call counts it. */
export interface LiveExchange {
  /** Its body is not wanted. */
  dump(): void;
  bytes(): { readonly sent: number; readonly received: number };
}

/** One call of the caller's, over all its attempts and hops. */
export class Call {
  readonly pace: PaceOptions;
  /** The route all hops of this attempt stay on; for a sticky session, all attempts. */
  pin: PoolRoute | undefined;
  readonly sticky: boolean;
  /** The session it belongs to, where a caller holds one, and the cookies it shares. */
  stay: Stay | undefined;
  jar: Jar | undefined;
  /** The route used last. */
  route: PoolRoute | undefined;
  /** The pool that refused the last attempt, where that has no other way out: the next one goes above it. */
  refusedBy: Pool | undefined;
  /** The bodies of redirects are read here, since nobody above will. */
  readonly dumpsRedirects: boolean;
  /** It has no headers but those that fetch gives every request. */
  plain = false;
  attempts = 0;
  /** Something of it came down to the dispatcher. */
  dispatched = false;
  sends = 0;
  /** Equal requests of others it was joined with, and the sends of those. */
  joins = 0;
  shared = 0;
  cached = false;
  waitedMs = 0;
  bytesSent = 0;
  bytesReceived = 0;
  target = '';
  tier = '';
  egress = '';
  outcome: Outcome | undefined;
  /** What the caller asked for: where a redirect leads may mean something. */
  requestedUrl: string | undefined;
  /** Of the last response, when it asked for a pause. */
  retryAfterMs: number | undefined;
  /** The exchange sent last, while it goes on. */
  live: LiveExchange | undefined;
  /** Called when that one is over, body and all. */
  onEnd: (() => void) | undefined;
  /** What the last exchange failed with, if it did. */
  failure: Error | undefined;
  /** Sends before this attempt. */
  private sentBefore = 0;
  private sharedBefore = 0;
  private joinsBefore = 0;

  constructor(pace: PaceOptions, pin: PoolRoute | undefined, dumpsRedirects: boolean) {
    this.pace = pace;
    this.pin = pin;
    this.sticky = pin !== undefined;
    this.dumpsRedirects = dumpsRedirects;
  }

  /** Another attempt: free to take another route, unless it is to stay on one. */
  again(): void {
    this.attempts++;
    this.sentBefore = this.sends;
    this.sharedBefore = this.shared;
    this.joinsBefore = this.joins;
    if (!this.sticky) this.pin = undefined;
    this.retryAfterMs = undefined;
    this.outcome = undefined;
    this.failure = undefined;
  }

  /** Nothing of this attempt has reached a target. */
  get unsent(): boolean {
    return this.sends === this.sentBefore && this.shared === this.sharedBefore;
  }

  /** This attempt was joined with another request, and sent nothing itself. */
  get onlyJoined(): boolean {
    return this.joins > this.joinsBefore && this.sends === this.sentBefore;
  }

  info(): ExchangeInfo {
    const { route } = this;
    const live = this.live?.bytes();
    return {
      target: this.target,
      tier: this.tier,
      pool: route?.pool ?? '',
      session: route?.session,
      egress: this.egress,
      egressVerified: route?.verified ?? false,
      attempts: this.attempts,
      sends: this.sends,
      waitedMs: this.waitedMs,
      bytesSent: this.bytesSent + (live?.sent ?? 0),
      bytesReceived: this.bytesReceived + (live?.received ?? 0),
      cached: this.cached,
      outcome: this.outcome,
    };
  }
}
