import { NEVER, type SlotsRow } from './rows.ts';

// The slot rule over one record; see SlotTable, which is the same for a whole table. A limit of Infinity: no budget.

export function slotsRow(weight: number): SlotsRow {
  return { busy: 0, cooling: [], weight, spaced: NEVER, cooldown: NEVER };
}

/** Frees the slots whose window is over. */
export function thaw(row: SlotsRow, windowMs: number, now: number): void {
  const { cooling } = row;
  let over = 0;
  while (over < cooling.length && cooling[over] + windowMs <= now) over++;
  if (over > 0) cooling.splice(0, over);
}

/** The earliest time it has `cost` slots: their releases, spacing and cooldown; `Infinity` when only a settle can tell. */
export function slotsUsableAt(row: SlotsRow, limit: number, windowMs: number, cost: number, now: number): number {
  const at = Math.max(row.spaced, row.cooldown);
  if (limit === Infinity || row.weight === 0) return at;
  thaw(row, windowMs, now);
  const { cooling } = row;
  const over = row.busy + cooling.length - limit * row.weight + cost - 1;
  if (over < 0) return at;
  if (over >= cooling.length) return Infinity;
  return Math.max(at, cooling[over] + windowMs);
}

/** Slots that are free at `now`. */
export function slotsFree(row: SlotsRow, limit: number, windowMs: number, now: number): number {
  thaw(row, windowMs, now);
  if (row.weight === 0) return Infinity;
  return Math.max(0, limit * row.weight - row.busy - row.cooling.length);
}

/** Slots in use or cooling. */
export function slotsUsed(row: SlotsRow, windowMs: number, now: number): number {
  thaw(row, windowMs, now);
  return row.busy + row.cooling.length;
}

/** Nothing of it is in use or cooling: forgetting it changes no decision. */
export function slotsIdle(row: SlotsRow, windowMs: number, now: number): boolean {
  thaw(row, windowMs, now);
  return row.busy === 0 && row.cooling.length === 0 && row.spaced <= now && row.cooldown <= now;
}

/** Takes slots; the next one is to be had from `spacedUntil` on. */
export function slotsTake(row: SlotsRow, spacedUntil: number, cost: number): void {
  row.busy += cost;
  row.spaced = spacedUntil;
}

/** Returns slots as if they had never been taken; the spacing too, unless a later grant has set its own. */
export function slotsGiveBack(row: SlotsRow, spacedUntil: number, spacedBefore: number, cost: number): void {
  row.busy -= cost;
  if (row.spaced === spacedUntil) row.spaced = spacedBefore;
}

/** Busy slots begin to cool at `at`. */
export function slotsCool(row: SlotsRow, limit: number, at: number, cost: number): void {
  row.busy -= cost;
  slotsStamp(row, limit, at, cost);
}

/** So many slots cool from `at` on, be it that more of them do than there are. */
export function slotsStamp(row: SlotsRow, limit: number, at: number, cost: number): void {
  if (limit === Infinity || row.weight === 0) return;
  const { cooling } = row;
  let place = cooling.length;
  while (place > 0 && cooling[place - 1] > at) place--;
  for (let n = 0; n < cost; n++) cooling.splice(place, 0, at);
}

/** No grant before `until`. */
export function slotsCooldown(row: SlotsRow, until: number): void {
  if (until > row.cooldown) row.cooldown = until;
}
