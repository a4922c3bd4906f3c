import { channel } from 'node:diagnostics_channel';
import { EventEmitter } from 'node:events';
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
  /** An egress is left alone at a target. */
  cooldown: { readonly target: string; readonly egress: string; readonly forMs: number };
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
  /** A session was taken into use or given up. */
  session: { readonly pool: string; readonly session: string; readonly state: 'open' | 'close' };
  /** The store did not answer as it should. */
  'store-error': { readonly error: Error };
}

export type PacelineEventName = keyof PacelineEvents;

const NAMES: readonly PacelineEventName[] = [
  ...(['admit', 'settle', 'retry', 'cooldown', 'egress', 'refuse', 'session', 'store-error'] as const),
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
