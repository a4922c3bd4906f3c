import type { PacelineEventName, ProxyManagerOptions, Snapshot } from 'paceline';

// What the tests of a fleet and its workers tell each other; all of it is plain data.

/** Where a worker's store has its state. */
export type StorePlace =
  | { readonly kind: 'memory' }
  | { readonly kind: 'redis'; readonly port: number }
  | { readonly kind: 'cluster'; readonly ports: readonly number[] }
  | { readonly kind: 'sqlite'; readonly path: string };

/** What one worker is for the length of a scenario. */
export interface Role {
  readonly store: StorePlace;
  readonly onStoreError?: 'local' | 'wait' | 'fail';
  readonly manager: ProxyManagerOptions;
}

/** A place among the requests in flight, asked of the store itself: a manager's permits outlive every test. */
export interface PlacesAsked {
  readonly target: string;
  readonly count: number;
  readonly concurrency: number;
  readonly deadlineMs: number;
}

export type Order =
  | { readonly do: 'join'; readonly role: Role }
  | { readonly do: 'fetch'; readonly id: number; readonly url: string; readonly session?: string }
  | { readonly do: 'places'; readonly id: number; readonly asked: PlacesAsked }
  | { readonly do: 'inspect'; readonly id: number; readonly target: string }
  | { readonly do: 'leave' }
  | { readonly do: 'end' };

export type News =
  | { readonly is: 'ready' | 'joined' | 'left' }
  | {
      readonly is: 'answer';
      readonly id: number;
      /** Of the response; undefined where there was an error. */
      readonly status?: number;
      readonly code?: string;
      readonly why?: string;
    }
  | { readonly is: 'places'; readonly id: number; readonly granted: number }
  | { readonly is: 'inspect'; readonly id: number; readonly snapshot: Snapshot }
  | { readonly is: 'event'; readonly name: PacelineEventName; readonly event: unknown };
