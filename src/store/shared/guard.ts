import type { Clock, Random, TimerHandle } from '../../clock.ts';
import { ClosedError, StoreError } from '../../errors.ts';
import { isLater } from '../answers.ts';
import type { Awaitable, StoreListener } from '../store.ts';
import { BackendError, isTransient } from './failure.ts';
import type { FailureOptions } from './failure-options.ts';
import type { Link } from './link.ts';
import { Outage } from './outage.ts';
import { inFlight, permitsOf } from './outage-steps.ts';
import type { Taker } from './shared-store.ts';
import type { Backend, BatchAnswer, Step, StepAnswer } from './steps.ts';

/** How soon it is looked whether the state is back, and how seldom at last; milliseconds, a quarter more or less at random. */
const FIRST_LOOK_MS = 100;
const LAST_LOOK_MS = 500;
const LOOK_JITTER = 0.25;

/** Takes steps to where the state is, waits no longer than the deadline, and sees to what happens when there is no answer. */
export class Guard implements Taker {
  readonly backend: Backend;
  readonly clock: Clock;
  readonly options: Required<FailureOptions>;
  private readonly random: Random;
  private readonly outages = new Map<Link, Outage>();
  private readonly listeners = new Set<StoreListener>();
  /** Calls without an answer so far. */
  private readonly asked = new Set<Promise<BatchAnswer>>();
  /** It has answered once: whatever it says now, it is not for a wrong password. */
  private known = false;
  private closed = false;
  private cause: StoreError | undefined;
  private downAt = 0;
  /** When there was an answer last, for any target. */
  private heardAt = -Infinity;
  private lookMs = FIRST_LOOK_MS;
  private timer: TimerHandle | undefined;

  constructor(backend: Backend, clock: Clock, random: Random, options: Required<FailureOptions>) {
    this.backend = backend;
    this.clock = clock;
    this.random = random;
    this.options = options;
  }

  take(link: Link, steps: readonly Step[]): Awaitable<readonly StepAnswer[]> {
    const outage = this.outages.get(link) ?? this.sameAsOthers(link);
    if (outage !== undefined) return outage.take(steps);
    let answer: Awaitable<BatchAnswer>;
    try {
      answer = this.ask(link, steps);
    } catch (error) {
      return this.down(link, steps, error);
    }
    if (!isLater(answer)) return this.heard(link, answer);
    return answer.then(
      (heard) => this.heard(link, heard),
      (error) => this.down(link, steps, error),
    );
  }

  watch(listener: StoreListener): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  /** What was said last arrives: nobody else may have the slots of a permit whose end is not known. */
  close(): Awaitable<void> {
    this.closed = true;
    this.clock.clearTimeout(this.timer);
    for (const outage of this.outages.values()) outage.end(new ClosedError('the store'));
    this.outages.clear();
    if (this.asked.size === 0) return this.backend.close();
    return Promise.allSettled(this.asked).then(() => this.backend.close());
  }

  /** From the return of the state until the last worker has noticed, nearly: it has yet to hear its answer. */
  get mostBetweenLooksMs(): number {
    return LAST_LOOK_MS * (1 + LOOK_JITTER) + 100;
  }

  /** Somebody waits for the end of it: that must keep the process going. */
  awaited(): void {
    (this.timer as Partial<NodeJS.Timeout> | undefined)?.ref?.();
  }

  /** The backend's answer, by the deadline. */
  private ask(link: Link, steps: readonly Step[]): Awaitable<BatchAnswer> {
    const { clock, options } = this;
    const answer = this.backend.take(link.batch(steps, clock));
    if (!isLater(answer)) return answer;
    const { commandTimeoutMs } = options;
    const inTime = new Promise<BatchAnswer>((resolve, reject) => {
      let late = false;
      let answered = false;
      const timer = clock.setTimeout(() => {
        // After a long computation the answer may lie there unread: it is read before a check.
        setImmediate(() => {
          if (answered) return;
          late = true;
          reject(new BackendError(`the store did not answer within ${commandTimeoutMs} ms (commandTimeoutMs)`, true));
        });
      }, commandTimeoutMs);
      answer.then(
        (value) => {
          answered = true;
          clock.clearTimeout(timer);
          if (late) this.tooLate(link, steps);
          else resolve(value);
        },
        (error) => {
          answered = true;
          clock.clearTimeout(timer);
          reject(error);
        },
      );
    });
    this.asked.add(inTime);
    const heard = (): void => void this.asked.delete(inTime);
    inTime.then(heard, heard);
    return inTime;
  }

  private heard(link: Link, answer: BatchAnswer): readonly StepAnswer[] {
    this.known = true;
    this.heardAt = this.clock.now();
    const other = link.heard(answer, this.clock);
    // Once for all that was on its way just then.
    if (!answer.setBack || !other) return answer.answers;
    const lost = new StoreError(
      `the shared state of ${link.target} was lost or set back: it rests for ${link.windowMs} ms`,
    );
    for (const listener of this.listeners) listener.lost(lost);
    // Its memory of what is in flight is gone with the rest. An answer that came just before this one is yet to become permits.
    void Promise.resolve().then(() => {
      if (link.permits.size > 0) this.later(link, [inFlight(link, this.clock.now())]);
    });
    return answer.answers;
  }

  /** It answers after all: permits that nobody waits for any more are given back. */
  private tooLate(link: Link, steps: readonly Step[]): void {
    if (this.options.onStoreError === 'wait') return; // they are asked for again, by the same name
    const permits = permitsOf(steps);
    if (permits.length > 0) this.later(link, [{ do: 'cancel', permits }]);
  }

  private later(link: Link, steps: readonly Step[]): void {
    if (this.closed) return;
    void Promise.resolve(this.take(link, steps)).catch(() => {});
  }

  private down(link: Link, steps: readonly Step[], cause: unknown): Awaitable<readonly StepAnswer[]> {
    const error = StoreError.from(cause);
    // What never worked is set up wrongly: to go on without it would hide that.
    if (this.closed || (!this.known && !isTransient(error))) throw error;
    let outage = this.outages.get(link);
    if (outage === undefined) {
      if (this.outages.size === 0) {
        this.downAt = this.clock.now();
        this.lookMs = FIRST_LOOK_MS;
        for (const { down } of this.listeners) down(error);
        this.lookLater();
      }
      outage = new Outage(this, link, error, this.clock.now());
      this.outages.set(link, outage);
      this.cause = error;
    }
    return outage.take(steps, true);
  }

  /** While nothing at all has been heard since the first of them went down, the others need not find out one by one. */
  private sameAsOthers(link: Link): Outage | undefined {
    if (this.outages.size === 0 || this.heardAt >= this.downAt) return undefined;
    const outage = new Outage(this, link, this.cause!, this.downAt);
    this.outages.set(link, outage);
    return outage;
  }

  private lookLater(): void {
    const inMs = this.lookMs * (1 + LOOK_JITTER * (2 * this.random() - 1));
    this.lookMs = Math.min(LAST_LOOK_MS, 2 * this.lookMs);
    this.timer = this.clock.setTimeout(() => void this.look(), inMs);
    let waiting = false;
    for (const outage of this.outages.values()) waiting ||= outage.isAwaited;
    if (!waiting) (this.timer as Partial<NodeJS.Timeout>).unref?.();
  }

  /** Tries the targets in turn; where one is not back, the others most likely are not either. */
  private async look(): Promise<void> {
    for (const [link, outage] of [...this.outages]) {
      try {
        // First whether it answers at all, which may take its time; a worker by itself goes on meanwhile.
        this.heard(link, await this.ask(link, []));
        this.heard(link, await this.ask(link, outage.homecoming()));
      } catch (error) {
        outage.notYet(StoreError.from(error));
        // Or they are, on another node of a Cluster: the next look begins with them.
        if (this.outages.delete(link)) this.outages.set(link, outage);
        break;
      }
      if (this.closed) return;
      this.outages.delete(link);
      const rest = outage.undelivered.splice(0);
      if (rest.length > 0) this.later(link, rest);
      outage.end();
    }
    if (this.closed) return;
    if (this.outages.size > 0) this.lookLater();
    else {
      const downMs = this.clock.now() - this.downAt;
      for (const { back } of this.listeners) back(downMs);
    }
  }
}
