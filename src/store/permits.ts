import type { RateMarks } from './rates.ts';
import type { Grant, Route } from './store.ts';

// A permit's life: its slot busy · cooling while the exchange goes on · over.
export const HELD = 0;
export const COOLED = 1;
export const OVER = 2;

/** A permit of the memory store; its bookkeeping travels with it, so settling looks nothing up. */
export class MemoryGrant implements Grant {
  /** What granted it: it means nothing to any other. */
  readonly issuer: object;
  readonly target: string;
  readonly route: Route;
  egress: string;
  readonly startInMs: number;
  entry: number;
  readonly deadline: number;
  /** The spacing it was granted with, and what that changed: given back with the slot. */
  readonly spacingMs: number;
  spacedBefore = 0;
  rateMarks: RateMarks | undefined = undefined;
  /** Slots it holds; when it may leave; its ticket of the target's circuit. */
  readonly cost: number;
  start: number;
  ticket = 0;
  phase: number = HELD;

  constructor(
    issuer: object,
    target: string,
    route: Route,
    egress: string,
    cost: number,
    start: number,
    startInMs: number,
    entry: number,
    deadline: number,
    spacingMs: number,
  ) {
    this.issuer = issuer;
    this.target = target;
    this.route = route;
    this.egress = egress;
    this.cost = cost;
    this.start = start;
    this.startInMs = startInMs;
    this.entry = entry;
    this.deadline = deadline;
    this.spacingMs = spacingMs;
  }
}

/** Whether it was granted by this one, and is still held. */
export function isHeld(grant: MemoryGrant, issuer: object): boolean {
  return grant.phase === HELD && grant.issuer === issuer;
}

/** The permits of one target by the end of their time, to find those whose holder was lost. */
export class Outstanding {
  private readonly permits: (MemoryGrant | undefined)[] = [];
  private oldest = 0;

  /** Costs nothing when the deadlines come in order, as they do unless some are booked ahead. */
  add(permit: MemoryGrant): void {
    const { permits } = this;
    let at = permits.length;
    permits.push(permit);
    while (at > this.oldest && permits[at - 1]!.deadline > permit.deadline) {
      permits[at] = permits[at - 1];
      at--;
    }
    permits[at] = permit;
  }

  /** Takes out the next permit that is still held at its deadline; undefined when there is none. */
  overdue(now: number): MemoryGrant | undefined {
    const { permits } = this;
    while (this.oldest < permits.length) {
      const permit = permits[this.oldest]!;
      if (permit.phase === HELD) {
        if (permit.deadline > now) break;
        this.forgetOldest();
        return permit;
      }
      this.forgetOldest();
    }
    if (this.oldest > 1024 && this.oldest * 2 > permits.length) {
      permits.splice(0, this.oldest);
      this.oldest = 0;
    }
    return undefined;
  }

  /** Its place goes later, with many others; what it held must not wait for that, or the collector carries it along. */
  private forgetOldest(): void {
    this.permits[this.oldest++] = undefined;
  }
}
