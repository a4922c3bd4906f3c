import { channel } from 'node:diagnostics_channel';
import { EventEmitter } from 'node:events';
import type { EgressStats } from './stats.ts';
import type { Outcome } from './store/store.ts';
import { invalid } from './validate.ts';

/** What can be listened to with `proxies.on(name, listener)`; the same objects go to the diagnostics channel `paceline:<name>`. */
export interface PacelineEvents {
  /** A request was let go. */
  admit: {
    readonly target: string;
    readonly tier: string;
    readonly pool: string;
    readonly session: string | undefined;
    readonly egress: string;
    /** Time in the queue, in milliseconds. */
    readonly waitedMs: number;
  };
  /** A response's headers came, or a request failed. */
  settle: {
    readonly target: string;
    readonly pool: string;
    readonly session: string | undefined;
    readonly egress: string;
    readonly outcome: Outcome;
    readonly status: number | undefined;
    /** From the send to the headers, in milliseconds. */
    readonly latencyMs: number;
  };
  /** An attempt failed and another follows. */
  retry: { readonly target: string; readonly attempt: number; readonly delayMs: number; readonly reason: string };
  /** An egress is left alone at a target; without one, all of them are. */
  cooldown: { readonly target: string; readonly egress: string | undefined; readonly forMs: number };
  /** An egress is out at a target for its bad health; and back, after a good probe. */
  eject: { readonly target: string; readonly egress: string; readonly forMs: number };
  return: { readonly target: string; readonly egress: string };
  /** A target, or a pool's gateway, is left alone because it is down, or is back. */
  circuit: {
    readonly target: string | undefined;
    readonly pool: string | undefined;
    readonly open: boolean;
    readonly forMs: number;
  };
  /** A target's requests take another pool from now on: a dearer one, since the one before was refused too often, or a cheaper one again. */
  escalate: { readonly target: string; readonly from: string; readonly to: string };
  /** A limit came down on evidence, or grew back: requests per window and egress, or requests in flight. */
  adapt: { readonly target: string; readonly of: 'budget' | 'concurrency'; readonly limit: number };
  /** An exit became known, or another one than before. */
  egress: {
    readonly pool: string;
    readonly session: string | undefined;
    readonly egress: string;
    /** Another session already leads there: this one is given up. */
    readonly duplicate: boolean;
  };
  /** A tunnel came up on an exit that must not be used now: it was dropped, nothing was sent. */
  refuse: { readonly target: string; readonly pool: string; readonly egress: string; readonly retryInMs: number };
  /** A session was taken into use or given up; `lost`: a strict one goes no further. */
  session: {
    readonly pool: string;
    readonly session: string;
    readonly state: 'open' | 'close' | 'lost';
    /** Of a `close` that makes room for another id of the same session. */
    readonly reason?: 'rotate' | 'expire';
  };
  /** How the egresses are, every 500 requests. */
  health: EgressStats;
  /** The store did not answer as it should. */
  'store-error': { readonly error: Error };
  /** A shared store that could not be asked answers again. */
  'store-back': { readonly downMs: number };
}

export type PacelineEventName = keyof PacelineEvents;

const NAMES: readonly PacelineEventName[] = [
  ...([
    'admit',
    'settle',
    'retry',
    'cooldown',
    'eject',
    'return',
    'circuit',
    'adapt',
    'escalate',
    'health',
    'egress',
    'refuse',
    'session',
    'store-error',
    'store-back',
  ] as const),
];

const CHANNELS = new Map<string, ReturnType<typeof channel>>();

function channelOf(name: string): ReturnType<typeof channel> {
  let found = CHANNELS.get(name);
  if (found === undefined) {
    found = channel(`paceline:${name}`);
    CHANNELS.set(name, found);
  }
  return found;
}

/** The events of one manager. An event nobody listens to costs one lookup and is never built. */
export class Events {
  private readonly emitter = new EventEmitter();

  constructor() {
    // Ten listeners are no leak here: each part of an application may have its own.
    this.emitter.setMaxListeners(0);
  }

  on<N extends PacelineEventName>(name: N, listener: (event: PacelineEvents[N]) => void): () => void {
    if (!NAMES.includes(name)) throw invalid('event', `one of ${NAMES.join(', ')}`, name);
    if (typeof listener !== 'function') throw invalid('listener', 'a function', listener);
    this.emitter.on(name, listener);
    return () => {
      this.emitter.off(name, listener);
    };
  }

  wants(name: PacelineEventName): boolean {
    return this.emitter.listenerCount(name) > 0 || channelOf(name).hasSubscribers;
  }

  /** A listener that throws must not end a request: its error surfaces as an uncaught exception of its own. */
  emit<N extends PacelineEventName>(name: N, event: PacelineEvents[N]): void {
    for (const listener of this.emitter.listeners(name)) {
      try {
        listener(event);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
    const out = channelOf(name);
    if (out.hasSubscribers) out.publish(event);
  }
}
