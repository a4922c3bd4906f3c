import { SlotTable } from './slots.ts';

/** The one budget that all egresses of an account share, in the place of each one's own. */
export class AccountBudget {
  private readonly slots: SlotTable;
  private readonly entry: number;
  /** What the spacing was before the last permit. */
  private spacedBefore = -Infinity;

  constructor(limit: number, windowMs: number) {
    this.slots = new SlotTable(limit, windowMs);
    this.entry = this.slots.allocate(1);
  }

  tune(limit: number, windowMs: number): void {
    this.slots.limit = limit;
    this.slots.windowMs = windowMs;
  }

  usableAt(now: number, cost: number): number {
    return this.slots.usableAt(this.entry, now, cost);
  }

  free(now: number): number {
    return this.slots.free(this.entry, now);
  }

  /** Slots in use or cooling. */
  used(now: number): number {
    return this.slots.used(this.entry, now);
  }

  take(spacedUntil: number, cost: number): void {
    this.spacedBefore = this.slots.spacedUntil(this.entry);
    this.slots.take(this.entry, spacedUntil, cost);
  }

  /** The spacing, too, if nobody came since. */
  giveBack(spacedUntil: number, cost: number): void {
    this.slots.giveBack(this.entry, spacedUntil, this.spacedBefore, cost);
  }

  cool(at: number, cost: number): void {
    this.slots.coolAll(this.entry, at, cost);
  }
}
