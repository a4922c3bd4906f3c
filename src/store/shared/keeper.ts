import type { TimerHandle } from '../../clock.ts';
import type { Link, SharedGrant } from './link.ts';
import type { SharedStore } from './shared-store.ts';

/**
 * How long a place among the requests in flight outlives its last sign of life, in milliseconds. A body may take hours;
 * the worker that reads it may be killed any moment.
 */
export const KEEP_MS = 60_000;

/** Tells the store now and then which bodies are still being read. */
export class Keeper {
  private readonly store: SharedStore;
  private readonly reading = new Map<SharedGrant, Link>();
  private timer: TimerHandle | undefined;

  constructor(store: SharedStore) {
    this.store = store;
  }

  add(link: Link, grant: SharedGrant): void {
    this.reading.set(grant, link);
    if (this.timer === undefined) this.start();
  }

  remove(grant: SharedGrant): void {
    if (!this.reading.delete(grant) || this.reading.size > 0) return;
    this.close();
  }

  close(): void {
    this.store.clock.clearTimeout(this.timer);
    this.timer = undefined;
  }

  private start(): void {
    this.timer = this.store.clock.setTimeout(() => this.renew(), KEEP_MS / 3);
    // Who reads a body keeps the process going, not this.
    (this.timer as Partial<NodeJS.Timeout>).unref?.();
  }

  private renew(): void {
    const permits = new Map<Link, string[]>();
    for (const [{ id }, link] of this.reading) {
      const ids = permits.get(link);
      if (ids === undefined) permits.set(link, [id]);
      else ids.push(id);
    }
    for (const [link, ids] of permits) {
      // What is missed this time is made up for the next.
      void Promise.resolve(this.store.taker.take(link, [{ do: 'renew', permits: ids, keepMs: KEEP_MS }])).catch(
        () => {},
      );
    }
    this.start();
  }
}
