import { StoreError } from '../../errors.ts';
import { allOf, andThen } from '../awaitable.ts';
import type { Awaitable } from '../store.ts';
import { Alone } from './alone.ts';
import type { Guard } from './guard.ts';
import type { Link } from './link.ts';
import { inFlight, permitsOf } from './outage-steps.ts';
import { shareOf } from './share.ts';
import type { Step, StepAnswer } from './steps.ts';

/** What is kept to be told when the state is back, at most: beyond, permits run into their deadlines. */
const MOST_UNDELIVERED = 10_000;

/** One target, from the first step that found no answer until the state is back. */
export class Outage {
  /** What the state has to be told, in turn. */
  readonly undelivered: Step[] = [];
  private readonly startedAt: number;
  private readonly guard: Guard;
  private readonly link: Link;
  private error: StoreError;
  /** This worker by itself, where it may go on. */
  private readonly alone: Alone | undefined;
  /** The state answers again, and is being told what happened meanwhile; called when it has been told, or has not. */
  private told: (() => void) | undefined;
  private telling: Promise<void> | undefined;
  private waiting = 0;
  private ended!: (error?: Error) => void;
  private readonly end$: Promise<Error | undefined>;

  /** `startedAt`: since when nothing has been heard. */
  constructor(guard: Guard, link: Link, error: StoreError, startedAt: number) {
    this.guard = guard;
    this.link = link;
    this.startedAt = startedAt;
    this.error = error;
    const { onStoreError, expectedWorkers, commandTimeoutMs } = guard.options;
    const share = onStoreError === 'local' ? shareOf(link.policy, expectedWorkers) : undefined;
    // Routes are to be made known to it, and to the state when that is back, as if for the first time.
    link.cursors.clear();
    // What the others sent last may be as late as the answer that did not come.
    const restMs = Math.max(0, startedAt + link.windowMs + commandTimeoutMs - guard.clock.now());
    if (share !== undefined) this.alone = new Alone(link, share, expectedWorkers, restMs, guard.clock);
    this.end$ = new Promise((resolve) => {
      this.ended = resolve;
    });
  }

  get isAwaited(): boolean {
    return this.waiting > 0;
  }

  /** `unsure`: they were sent, and may have been taken. */
  take(steps: readonly Step[], unsure = false): Awaitable<readonly StepAnswer[]> {
    if (unsure && this.guard.options.onStoreError !== 'wait') {
      const permits = permitsOf(steps);
      if (permits.length > 0) this.deliverLater({ do: 'cancel', permits });
    }
    return allOf(
      steps.map((step) => this.one(step)),
      (answers) => answers,
    );
  }

  /** What the state is to be told first when it is back. */
  homecoming(): Step[] {
    this.telling = new Promise((resolve) => {
      this.told = resolve;
    });
    const { alone, link, guard } = this;
    const now = guard.clock.now();
    const steps: Step[] = [inFlight(link, now)];
    const cooled = alone?.cooled(now);
    if (cooled !== undefined) steps.push(cooled);
    // Others may be alone until they look the next time, and use their shares meanwhile.
    if (alone !== undefined && now - this.startedAt >= link.windowMs) {
      steps.push({ do: 'rest', forMs: guard.mostBetweenLooksMs });
    }
    this.sent = this.undelivered.splice(0);
    return [...steps, ...this.sent];
  }

  /** It is not back: what it was to be told is kept. */
  notYet(error: StoreError): void {
    this.error = error;
    this.telling = undefined;
    this.told?.();
    this.undelivered.unshift(...this.sent);
    this.sent = [];
  }

  end(error?: Error): void {
    this.link.cursors.clear();
    this.told?.();
    this.ended(error);
  }

  private sent: Step[] = [];

  private one(step: Step): Awaitable<StepAnswer> {
    const { alone } = this;
    switch (step.do) {
      case 'reserve':
      case 'bind':
        if (this.guard.options.onStoreError === 'fail') return Promise.reject(this.error);
        if (alone === undefined) return this.whenBack(step);
        return this.telling === undefined ? alone.take(step) : this.whenTold(this.telling, step);
      case 'inspect':
        return alone === undefined ? Promise.reject(this.error) : alone.take(step);
      case 'settle':
      case 'cancel': {
        // Alone, what it took by itself is nobody else's news until it is back.
        const news = alone === undefined || this.telling !== undefined ? step : alone.othersNews(step);
        if (news !== undefined) this.deliverLater(news);
        if (alone !== undefined) return alone.take(step);
        return step.do === 'settle' ? [] : null;
      }
      case 'drop':
        this.deliverLater(step);
        return null;
      default:
        // Places are told anew with all that is in flight; the rest is for a state that answers.
        return null;
    }
  }

  private deliverLater(step: Step): void {
    this.undelivered.push(step);
    if (this.undelivered.length > MOST_UNDELIVERED) this.undelivered.shift();
  }

  /** What is taken now would be missing from what is being told. */
  private async whenTold(telling: Promise<void>, step: Step): Promise<StepAnswer> {
    await telling;
    return andThen(this.guard.take(this.link, [step]), ([answer]) => answer);
  }

  private async whenBack(step: Step): Promise<StepAnswer> {
    this.waiting++;
    this.guard.awaited();
    const error = await this.end$;
    this.waiting--;
    if (error !== undefined) throw new StoreError(error.message, { cause: error });
    return andThen(this.guard.take(this.link, [step]), ([answer]) => answer);
  }
}
