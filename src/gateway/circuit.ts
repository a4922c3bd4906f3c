import type { Clock, Random } from '../clock.ts';
import type { GatewayErrorKind } from '../errors.ts';
import {
  type BreakerPolicy,
  type BreakerState,
  breakerDone,
  breakerPass,
  breakerRoom,
  breakerState,
  breakerWaitMs,
  CLOSED,
  FAILURE,
  IGNORED,
  SUCCESS,
} from '../limits/breaker-core.ts';

/** What says that the gateway itself is in trouble. An exit that may not reach a target is another matter; one that cannot, perhaps. */
const TROUBLE: ReadonlySet<GatewayErrorKind> = new Set(['auth', 'quota', 'unreachable', 'timeout', 'protocol']);

/** The circuit of one pool's gateway: while it is open nobody is sent there. It costs a comparison until something fails. */
export class GatewayCircuit {
  private readonly policy: BreakerPolicy | undefined;
  private readonly clock: Clock;
  private readonly random: Random;
  private state: BreakerState | undefined;
  /** The target served last, and the last one before that was another: with when. */
  private served: { readonly target: string; at: number } | undefined;
  private servedBefore: { readonly target: string; readonly at: number } | undefined;

  constructor(policy: BreakerPolicy | undefined, clock: Clock, random: Random) {
    this.policy = policy;
    this.clock = clock;
    this.random = random;
  }

  /** How many may go now: `Infinity` while it is closed. */
  get room(): number {
    const { state, policy } = this;
    if (state === undefined || state.phase === CLOSED || policy === undefined) return Infinity;
    return breakerRoom(state, policy, this.clock.now());
  }

  get isOpen(): boolean {
    return this.room <= 0;
  }

  /** Milliseconds until somebody may go; 0 = now. */
  get waitMs(): number {
    const { state, policy } = this;
    return state === undefined || policy === undefined ? 0 : breakerWaitMs(state, policy, this.clock.now());
  }

  /** A request goes there. Returns its ticket. */
  pass(): number {
    const { state, policy } = this;
    return state === undefined || policy === undefined ? 0 : breakerPass(state, policy, this.clock.now());
  }

  /** The gateway did its part, did not (by a fault of this kind), or was not asked. Returns whether the circuit opened or closed by it. */
  done(ticket: number, end: 'ok' | 'ignored' | GatewayErrorKind, target: string, now: number): boolean {
    const { policy } = this;
    if (policy === undefined) return false;
    if (end === 'ok') this.serves(target, now);
    const failed =
      end === 'exit-failed' ? !this.servesOthers(target, policy, now) : TROUBLE.has(end as GatewayErrorKind);
    const outcome = end === 'ok' ? SUCCESS : failed ? FAILURE : IGNORED;
    if (outcome === FAILURE) this.state ??= breakerState();
    if (this.state === undefined) return false;
    return breakerDone(this.state, policy, ticket, outcome, now, this.random);
  }

  private serves(target: string, at: number): void {
    const { served } = this;
    if (served?.target === target) served.at = at;
    else {
      if (served !== undefined) this.servedBefore = served;
      this.served = { target, at };
    }
  }

  /** Whether it has lately led to another target: then it is this one that its exits cannot reach. */
  private servesOthers(target: string, { windowMs }: BreakerPolicy, now: number): boolean {
    const other = this.served?.target === target ? this.servedBefore : this.served;
    return other !== undefined && other.target !== target && now - other.at < windowMs;
  }
}
