import type { Clock } from '../../clock.ts';
import { andThen } from '../awaitable.ts';
import type { Awaitable } from '../store.ts';
import type { Link } from './link.ts';
import type { Taker } from './shared-store.ts';
import type { Backend, Step, StepAnswer } from './steps.ts';

/** Steps go to where the state is, and what comes of that is the caller's: no deadline, no second try. */
export class Direct implements Taker {
  private readonly backend: Backend;
  private readonly clock: Clock;

  constructor(backend: Backend, clock: Clock) {
    this.backend = backend;
    this.clock = clock;
  }

  take(link: Link, steps: readonly Step[]): Awaitable<readonly StepAnswer[]> {
    return andThen(this.backend.take(link.batch(steps, this.clock)), (answer) => {
      link.heard(answer, this.clock);
      return answer.answers;
    });
  }

  close(): Awaitable<void> {
    return this.backend.close();
  }
}
