import type { Clock } from '../../src/clock.ts';
import { localBackend } from '../../src/store/shared/local.ts';
import type { Backend, Batch, BatchAnswer } from '../../src/store/shared/steps.ts';
import type { Awaitable } from '../../src/store/store.ts';

/** A backend that is away when a test says so. */
export interface FailingBackend extends Backend {
  /** How many batches it was asked to take. */
  readonly asked: number;
  /** Nobody answers; what was asked meanwhile is taken at `thaw`, as of a process that was stopped. */
  freeze(): void;
  thaw(): void;
  /** Every batch (of that target) is refused with this, until `refuse(undefined)`. */
  refuse(error: Error | undefined, target?: string): void;
  /** The next batch is taken, but its answer is lost and nobody will ever say so. */
  loseReply(): void;
  /** The next batch is taken, and answered, only when the result is called: another way than the others took was slower. */
  holdNext(): () => void;
  /** As of a process that was started anew, with nothing. */
  replace(other: Backend): void;
  /** As of a replica that had not heard of the last so many batches. */
  setBack(batches: number): void;
}

export function failingBackend(first: Backend, clock: Clock): FailingBackend {
  let inner = first;
  let frozen: (() => void)[] | undefined;
  let error: Error | undefined;
  let refused: string | undefined;
  let lose = false;
  let asked = 0;
  let held: (() => void)[] | undefined;
  /** What the state has come from, and when. */
  let history: [number, Batch][] = [];
  const taken = (batch: Batch): Awaitable<BatchAnswer> => {
    history.push([clock.now(), batch]);
    return inner.take(batch);
  };
  const later = (batch: Batch): Promise<BatchAnswer> =>
    new Promise((resolve, reject) => {
      frozen!.push(() => Promise.resolve(taken(batch)).then(resolve, reject));
    });
  return {
    get asked() {
      return asked;
    },
    take(batch): Awaitable<BatchAnswer> {
      asked++;
      // As over a wire: what is sent is what it was then.
      const sent = JSON.parse(JSON.stringify(batch)) as Batch;
      if (error !== undefined && (refused ?? batch.target) === batch.target) return Promise.reject(error);
      if (held !== undefined) {
        const waiting = held;
        held = undefined;
        return new Promise((resolve) => waiting.push(() => resolve(taken(sent))));
      }
      if (frozen !== undefined) return later(sent);
      if (lose) {
        lose = false;
        void taken(sent);
        return new Promise(() => {});
      }
      return Promise.resolve(taken(sent));
    },
    freeze: () => void (frozen ??= []),
    thaw() {
      const waiting = frozen ?? [];
      frozen = undefined;
      for (const go of waiting) go();
    },
    refuse(other, target) {
      error = other;
      refused = target;
    },
    loseReply: () => void (lose = true),
    holdNext() {
      const waiting: (() => void)[] = [];
      held = waiting;
      return () => {
        for (const go of waiting) go();
      };
    },
    replace(other) {
      inner = other;
      history = [];
    },
    setBack(batches) {
      let time: number | undefined = 0;
      const replica = localBackend({ clock: { ...clock, now: () => time ?? clock.now() } });
      history = history.slice(0, Math.max(0, history.length - batches));
      for (const [at, batch] of history) {
        time = at;
        replica.take(batch);
      }
      time = undefined;
      inner = replica;
    },
    close: () => inner.close(),
  };
}
