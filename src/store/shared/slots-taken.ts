import { SPACING_JITTER } from '../ledger.ts';
import { ownLimit } from './egress.ts';
import { quietFrom } from './gate.ts';
import { type AccountRow, type Decision, type EgressRow, NEVER, type PermitRow } from './rows.ts';
import { slotsCool, slotsGiveBack, slotsRow, slotsStamp, slotsTake, slotsUsableAt, slotsUsed } from './slot-row.ts';

// What permits take of the slots, and give back: each egress's own, and those of the account. Ledger, over records.

/** The account's record, where there is one. Once there it is kept up also while nobody asks for it. */
export function followAccount({ gate, policy }: Decision, limit: number): void {
  if (!policy.account) return;
  gate.account ??= { ...slotsRow(1), limit: 0, spacedBefore: NEVER };
  gate.account.limit = limit === Infinity ? 0 : limit;
}

/** When the account has `cost` slots, whatever the egress; NEVER where there is none. */
export function accountAt({ gate, policy, now }: Decision, cost: number): number {
  const { account } = gate;
  if (!policy.account || account === undefined) return NEVER;
  return slotsUsableAt(account, accountLimit(account), gate.windowMs, cost, now);
}

export function accountLimit({ limit }: AccountRow): number {
  return limit === 0 ? Infinity : limit;
}

/** The least time from a request that leaves at `start` to the next over the egress, when the limit has come down to `limit`. */
export function spacingMs(
  { policy }: Decision,
  row: EgressRow,
  limit: number,
  cost: number,
  start: number,
  jitter: number,
): number {
  const own = Math.max(0, Math.min(row.quotaSpacingMs * cost, row.quotaUntil - start));
  if (policy.spacingMs === 0) return own;
  const { limit: full = Infinity } = policy;
  // A budget that has come down is spread as evenly as it was before.
  const stretch = full === limit ? 1 : full / limit;
  return Math.max(own, policy.spacingMs * stretch * (1 + SPACING_JITTER * jitter) * cost);
}

/** The egress's slots from `start` on; the account's are another matter. */
export function takeSlots({ gate }: Decision, key: string, row: EgressRow, permit: PermitRow, start: number): void {
  permit.egress = key;
  permit.start = start;
  permit.spacedBefore = row.spaced;
  slotsTake(row, start + permit.spacingMs, permit.cost);
  // Lost, it cools from its deadline on.
  quietFrom(gate, Math.max(start + permit.spacingMs, permit.deadline + gate.windowMs));
}

export function takeAccount({ gate }: Decision, { start, spacingMs: apart, cost }: PermitRow): void {
  const { account } = gate;
  if (account === undefined) return;
  account.spacedBefore = account.spaced;
  slotsTake(account, start + apart, cost);
}

/** Slots of a request that was given elsewhere, whatever is free. */
export function forceSlots({ gate }: Decision, row: EgressRow, { deadline, cost }: PermitRow): void {
  row.busy += cost;
  if (gate.account !== undefined) gate.account.busy += cost;
  quietFrom(gate, deadline + gate.windowMs);
}

/** As if the egress's slots had never been taken. */
export function giveBackSlots(row: EgressRow, { start, spacingMs: apart, spacedBefore, cost }: PermitRow): void {
  slotsGiveBack(row, start + apart, spacedBefore, cost);
}

export function giveBackAccount({ gate }: Decision, permit: PermitRow): void {
  const { account } = gate;
  if (account === undefined || !permit.account) return;
  slotsGiveBack(account, permit.start + permit.spacingMs, account.spacedBefore, permit.cost);
}

/** The permit's slots begin to cool. */
export function coolSlots({ gate }: Decision, row: EgressRow, permit: PermitRow, since: number): void {
  slotsCool(row, ownLimit(gate), since, permit.cost);
  const { account } = gate;
  if (account !== undefined && permit.account) slotsCool(account, accountLimit(account), since, permit.cost);
  quietFrom(gate, since + gate.windowMs);
}

/** Slots of a request that this state never saw cool since then, whether there are so many or not. */
export function stampSlots({ gate }: Decision, row: EgressRow, cost: number, since: number): void {
  slotsStamp(row, ownLimit(gate), since, cost);
  const { account } = gate;
  if (account !== undefined) slotsStamp(account, accountLimit(account), since, cost);
  quietFrom(gate, since + gate.windowMs);
}

/** Slots of the egress's budget, or the account's, that are in use or cool. */
export function slotsInUse({ gate, policy, now }: Decision, row: EgressRow): number {
  return slotsUsed((policy.account ? gate.account : undefined) ?? row, gate.windowMs, now);
}
