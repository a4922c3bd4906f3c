import {
  type EjectionPolicy,
  ejectedForMs,
  ejectionAfter,
  ejectionOver,
  isEjected,
  releaseProbe,
  startProbe,
} from '../health/ejection.ts';
import { isUnhealthy, recordOutcome } from '../health/window.ts';
import { grown } from './heap.ts';

const NOTHING: Int32Array = new Int32Array(0);

/** A permit, as far as it matters here: when it may leave. */
interface Probe {
  readonly start: number;
}

/** Says whether one more egress may go out; asked only when one is about to. */
export interface EjectionRoom {
  mayLose(entry: number, policy: EjectionPolicy, now: number): boolean;
}

/** Which egresses of one target are out for bad health. Two words an egress, and none before they are needed. Time is passed in. */
export class EgressHealth {
  /** The last outcomes of each entry, and its ejections. */
  private outcomes: Int32Array = NOTHING;
  private ejections: Int32Array = NOTHING;
  /** Entries that are out, each with the permit that is its probe, if one is under way: what a lost one says later counts no more. */
  private readonly probes = new Map<number, Probe | undefined>();

  /** How many are out, be it that their probe is due or under way. */
  get outs(): number {
    return this.probes.size;
  }

  get out(): Iterable<number> {
    return this.probes.keys();
  }

  isOut(entry: number): boolean {
    return this.probes.size > 0 && this.probes.has(entry);
  }

  isProbe(entry: number, permit: Probe): boolean {
    return this.probes.size > 0 && this.probes.get(entry) === permit;
  }

  /** From when on a request may go over it, as far as its health goes: `now` or before when it may. */
  usableFrom(entry: number, policy: EjectionPolicy | undefined, now: number): number {
    if (policy === undefined || !this.isOut(entry)) return -Infinity;
    return now + ejectedForMs(this.ejections[entry], policy, now);
  }

  /** The permit is about to be used over it: when the egress is out, that is its one probe. */
  pass(entry: number, permit: Probe, policy: EjectionPolicy | undefined, now: number): void {
    if (policy === undefined || !this.isOut(entry)) return;
    this.ejections[entry] = startProbe(this.ejections[entry], policy, now);
    this.probes.set(entry, permit);
  }

  /** The permit says nothing of the egress. When it was its probe, another may go. */
  release(entry: number, permit: Probe, policy: EjectionPolicy | undefined, now: number): void {
    if (policy === undefined || !this.isProbe(entry, permit)) return;
    this.ejections[entry] = releaseProbe(this.ejections[entry], policy, now, permit.start);
    this.probes.set(entry, undefined);
  }

  /** How a request over it ended. Returns 1 when it is out from now on, also once more after its probe; -1 when it is back; else 0. */
  record(
    entry: number,
    ok: boolean,
    permit: Probe,
    policy: EjectionPolicy,
    room: EjectionRoom,
    now: number,
  ): -1 | 0 | 1 {
    if (entry >= this.outcomes.length) this.outcomes = enlarged(this.outcomes, entry);
    const health = recordOutcome(this.outcomes[entry], ok);
    this.outcomes[entry] = health;
    const before = entry < this.ejections.length ? this.ejections[entry] : 0;
    const bad = !ok && isUnhealthy(health, policy.minSamples, policy.threshold);
    if (before === 0 && !bad) return 0;
    const mayGo = bad && !isEjected(before) && room.mayLose(entry, policy, now);
    const after = ejectionAfter(before, health, ok, this.isProbe(entry, permit), mayGo, policy, now);
    if (after === before) return 0;
    if (entry >= this.ejections.length) this.ejections = enlarged(this.ejections, entry);
    this.ejections[entry] = after;
    if (isEjected(after)) {
      this.probes.set(entry, undefined);
      return 1;
    }
    if (!this.probes.delete(entry)) return 0;
    // What led to the ejection must not lead to the next one.
    this.outcomes[entry] = 0;
    return -1;
  }

  /** Whether forgetting the entry changes nothing. */
  idle(entry: number, policy: EjectionPolicy | undefined, now: number): boolean {
    const word = entry < this.ejections.length ? this.ejections[entry] : 0;
    return word === 0 || policy === undefined || ejectionOver(word, policy, now);
  }

  forget(entry: number): void {
    if (entry < this.outcomes.length) this.outcomes[entry] = 0;
    if (entry < this.ejections.length) this.ejections[entry] = 0;
    this.probes.delete(entry);
  }
}

function enlarged(words: Int32Array, entry: number): Int32Array {
  const larger = new Int32Array(Math.max(grown(words.length), entry + 1));
  larger.set(words);
  return larger;
}
