import type { Worker } from '../support/workers.ts';
import type { News, Order } from './protocol.ts';

type Answer<Is extends News['is']> = Extract<News, { is: Is }>;
type Event = Answer<'event'>;

interface Asked {
  readonly resolve: (news: News) => void;
  readonly reject: (error: Error) => void;
}

/** The worker was killed: what it was asked stays unanswered. */
export class Gone extends Error {}

/** One process of a fleet. */
export class Member {
  private readonly worker: Worker<News>;
  private readonly asked = new Map<string, Asked>();
  private lost: Error | undefined;
  /** Told of its manager's events, in its present role. */
  onEvent: ((event: Event) => void) | undefined;

  constructor(worker: Worker<News>) {
    this.worker = worker;
    worker.listen((news) => {
      if (news.is === 'event') return this.onEvent?.(news);
      const key = keyOf(news.is, news);
      this.asked.get(key)?.resolve(news);
      this.asked.delete(key);
    });
    const end = (error: Error): void => {
      this.lost = error;
      for (const { reject } of this.asked.values()) reject(error);
      this.asked.clear();
    };
    worker.ended.then(() => end(new Gone()), end);
  }

  get pid(): number {
    return this.worker.pid;
  }

  get ended(): Promise<void> {
    return this.worker.ended;
  }

  /** Whether it has been given something to do that it has not answered. */
  get isBusy(): boolean {
    return this.asked.size > 0;
  }

  send(order: Order): void {
    this.worker.send(order);
  }

  /** What it says to an order. Rejects when it dies before: with `Gone`, if it was killed. */
  ask<Is extends News['is']>(order: Order, is: Is): Promise<Answer<Is>> {
    if (this.lost !== undefined) return Promise.reject(this.lost);
    return new Promise((resolve, reject) => {
      this.asked.set(keyOf(is, order), { resolve: resolve as Asked['resolve'], reject });
      this.send(order);
    });
  }

  kill(): Promise<void> {
    return this.worker.kill();
  }
}

function keyOf(is: News['is'], of: News | Order): string {
  return 'id' in of ? `${is} ${of.id}` : is;
}
