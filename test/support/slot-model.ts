import type { EgressSnapshot } from '../../src/store/store.ts';

/** What is allowed on one egress. */
export interface SlotRule {
  readonly limit: number;
  readonly windowMs: number;
}

/** The slot rule for one egress by the letter: a list of releases, looked through from end to end. */
export class SlotModel {
  readonly key: string;
  readonly weight: number;
  busy = 0;
  releases: number[] = [];
  spacedUntil = -Infinity;
  cooldownUntil = -Infinity;

  constructor(key: string, weight: number) {
    this.key = key;
    this.weight = weight;
  }

  cooling({ windowMs }: SlotRule, now: number): number[] {
    return this.releases.filter((at) => at + windowMs > now).sort((a, b) => a - b);
  }

  free(rule: SlotRule, now: number): number {
    if (this.weight === Infinity) return Infinity;
    return Math.max(0, rule.limit * this.weight - this.busy - this.cooling(rule, now).length);
  }

  usableAt(rule: SlotRule, now: number, cost = 1): number {
    const at = Math.max(this.spacedUntil, this.cooldownUntil);
    const cooling = this.cooling(rule, now);
    const missing = this.busy + cooling.length + cost - rule.limit * this.weight;
    if (missing <= 0) return at;
    return missing > cooling.length ? Infinity : Math.max(at, cooling[missing - 1] + rule.windowMs);
  }

  idle(rule: SlotRule, now: number): boolean {
    return this.busy + this.cooling(rule, now).length === 0 && Math.max(this.spacedUntil, this.cooldownUntil) <= now;
  }

  take(spacedUntil: number, cost = 1): void {
    this.busy += cost;
    this.spacedUntil = spacedUntil;
  }

  giveBack(spacedUntil: number, spacedBefore: number, cost = 1): void {
    this.busy -= cost;
    if (this.spacedUntil === spacedUntil) this.spacedUntil = spacedBefore;
  }

  cool({ limit }: SlotRule, at: number): void {
    this.busy--;
    if (limit * this.weight !== Infinity) this.releases.push(at);
  }

  cooldown(until: number): void {
    this.cooldownUntil = Math.max(this.cooldownUntil, until);
  }

  inspect(rule: SlotRule, now: number): EgressSnapshot {
    const usableInMs = Math.max(0, this.usableAt(rule, now) - now);
    return {
      egress: this.key,
      busy: this.busy,
      cooling: this.cooling(rule, now).length,
      remaining: usableInMs > 0 ? 0 : this.free(rule, now),
      usableInMs,
      cooldownMs: Math.max(0, this.cooldownUntil - now),
      ejectedMs: 0,
    };
  }
}
