import type { Clock } from '../../clock.ts';
import type { Grant, Policy, Route } from '../store.ts';
import { plainPolicy } from './plain.ts';
import type { Batch, BatchAnswer, Step, StepPolicy } from './steps.ts';

/** A permit of a shared store: here is what its holder knows, there what is decided by. */
export class SharedGrant implements Grant {
  readonly target: string;
  readonly route: Route;
  egress: string;
  readonly startInMs: number;
  readonly id: string;
  readonly cost: number;
  /** Key that its pool is shared by. */
  readonly pool: string;
  /** By when it is settled or counts as lost, on this process's clock. */
  readonly lostAt: number;
  /** Its headers have come, and its slot cools from then on; the body is being read. On this process's clock. */
  cooledAt: number | undefined = undefined;
  /** Its place among those that use the pool, in all processes. */
  place: SharedGrant | undefined = undefined;

  constructor(
    target: string,
    route: Route,
    egress: string,
    startInMs: number,
    id: string,
    cost: number,
    pool: string,
    lostAt: number,
  ) {
    this.target = target;
    this.route = route;
    this.egress = egress;
    this.startInMs = startInMs;
    this.id = id;
    this.cost = cost;
    this.pool = pool;
    this.lostAt = lostAt;
  }
}

/** What this process knows of one target whose state it shares. */
export class Link {
  readonly target: string;
  policy!: StepPolicy;
  windowMs = 0;
  /** By pool: the rank of the last route that was offered and taken up. */
  readonly cursors: Map<string, number> = new Map();
  /** This process's permits that are not over. */
  readonly permits: Map<string, SharedGrant> = new Map();
  /** The state as it was seen last, and when. */
  born = 0;
  private steps = 0;
  seenAt = 0;

  constructor(target: string) {
    this.target = target;
  }

  follow(policy: Policy): void {
    this.policy = plainPolicy(policy);
    this.windowMs = policy.windowMs;
  }

  batch(steps: readonly Step[], clock: Clock): Batch {
    const agoMs = Math.max(0, clock.now() - this.seenAt);
    return { target: this.target, policy: this.policy, seen: { born: this.born, steps: this.steps, agoMs }, steps };
  }

  /** Takes note of the state that an answer comes from. Returns whether it is another one than before, or an older one of the same. */
  heard({ born, steps, setBack }: BatchAnswer, clock: Clock): boolean {
    // An older one is the state from now on: to insist on what it was would make it rest again and again.
    // This answer is counted among its steps: one that was set back by a single batch is as far as before by now.
    const other = born !== this.born || (setBack && steps <= this.steps);
    this.steps = other ? steps : Math.max(this.steps, steps);
    this.born = born;
    this.seenAt = clock.now();
    // Routes that were made known to a state that is gone have to be made known again.
    if (other) this.cursors.clear();
    return other;
  }
}
