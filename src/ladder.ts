import type { Clock, Random } from './clock.ts';
import type { Pool } from './gateway/pool.ts';
import {
  choosePool,
  type EscalationPolicy,
  type EscalationState,
  escalationPolicy,
  escalationState,
  notePool,
} from './limits/escalation.ts';
import type { Outcome } from './store/store.ts';

/** A step from one pool to another. */
export interface Step {
  readonly from: Pool;
  readonly to: Pool;
}

/** The pools of one target, cheapest first, and which of them to use: the cheapest that works. */
export class Ladder {
  private readonly pools: readonly Pool[];
  private readonly clock: Clock;
  private readonly random: Random;
  private readonly policy: EscalationPolicy;
  private readonly state: EscalationState<string> = escalationState();

  constructor(pools: readonly Pool[], clock: Clock, random: Random) {
    this.pools = pools;
    this.clock = clock;
    this.random = random;
    this.policy = escalationPolicy({ pools: pools.map(({ name }) => name) });
  }

  /** The pool in use. */
  get current(): Pool {
    return this.pools[this.state.pool];
  }

  /** The pool for one request; above `refused` when that one has refused it before. One whose gateway is down is passed over. */
  choose(refused: Pool | undefined): Pool {
    const { pools } = this;
    // Who is to go above takes no probe below with it.
    if (refused === undefined) return this.near(choosePool(this.state, this.policy, this.clock.now()));
    const above = Math.min(pools.indexOf(refused) + 1, pools.length - 1);
    return this.near(Math.max(this.state.pool, above));
  }

  /** The pool for those who wait for one whose gateway is down: itself where no other is up. */
  inPlaceOf(pool: Pool): Pool {
    const rank = this.pools.indexOf(pool);
    return rank < 0 ? pool : this.near(rank);
  }

  /** The pool of that rank, else the next dearer one whose gateway is up, else the next cheaper one. */
  private near(rank: number): Pool {
    const { pools } = this;
    for (let up = rank; up < pools.length; up++) if (!pools[up].circuit.isOpen) return pools[up];
    for (let down = rank - 1; down >= 0; down--) if (!pools[down].circuit.isOpen) return pools[down];
    return pools[rank];
  }

  /** Whether a request that this pool refused may try a dearer one. */
  hasAbove(pool: Pool): boolean {
    const rank = this.pools.indexOf(pool);
    return rank >= 0 && rank + 1 < this.pools.length;
  }

  /** Counts how a request ended. Returns the step that the target's requests take by it, if they do. */
  note(pool: Pool, egress: string, outcome: Outcome): Step | undefined {
    const rank = this.pools.indexOf(pool);
    if (rank < 0) return undefined;
    const from = this.current;
    const moved = notePool(this.state, this.policy, rank, egress, outcome, this.clock.now(), this.random);
    return moved === 0 ? undefined : { from, to: this.current };
  }
}
