import type { Random } from '../clock.ts';
import { AccountBudget } from './account.ts';
import { EgressTable } from './egress-table.ts';
import type { MemoryGrant } from './permits.ts';
import type { EgressSnapshot, Policy } from './store.ts';

/** `even` spacing is stretched by up to this share, so that many egresses do not fall into step. */
export const SPACING_JITTER = 0.04;

/** What the permits of one target take of its slots, and give back: each egress's own, or those of the account in their place. */
export class Ledger {
  readonly table: EgressTable;
  private readonly account: AccountBudget | undefined;
  /** From then on nothing cools any more, if nothing else happens. */
  quietAt: number = -Infinity;

  constructor({ limit, windowMs, scope }: Policy) {
    this.account = scope === 'account' ? new AccountBudget(limit, windowMs) : undefined;
    this.table = new EgressTable(scope === 'account' ? Infinity : limit, windowMs);
  }

  /** Something goes on until `at`: not to be forgotten before. */
  quietFrom(at: number): void {
    if (at > this.quietAt) this.quietAt = at;
  }

  /** Another limit or window than before: what cools may cool for longer, and every egress is usable at another time. */
  tune(limit: number, windowMs: number, now: number): void {
    const { account, table } = this;
    const { slots, book } = table;
    const own = account === undefined ? limit : Infinity;
    if (account !== undefined) account.tune(limit, windowMs);
    if (slots.limit === own && slots.windowMs === windowMs) return;
    this.quietAt += Math.max(0, windowMs - slots.windowMs);
    slots.limit = own;
    slots.windowMs = windowMs;
    book.rekeyAll(now);
  }

  /** When the account has `cost` slots, whatever the egress; `now` or before where there is none. */
  accountAt(cost: number, now: number): number {
    return this.account === undefined ? -Infinity : this.account.usableAt(now, cost);
  }

  /** The least time from a request that leaves at `start` to the next over the entry, when the limit has come down to `limit`. */
  spacing(policy: Policy, limit: number, entry: number, cost: number, start: number, random: Random): number {
    const own = this.table.quotas.spacingMs(entry, cost, start);
    if (policy.spacingMs === 0) return own;
    // A budget that has come down is spread as evenly as it was before.
    const stretch = policy.limit === limit ? 1 : policy.limit / limit;
    return Math.max(own, policy.spacingMs * stretch * (1 + SPACING_JITTER * random()) * cost);
  }

  /** Slots of the permit's entry and of the account. */
  take(grant: MemoryGrant): void {
    this.move(grant, grant.entry, grant.start);
    if (this.account !== undefined) this.account.take(grant.start + grant.spacingMs, grant.cost);
  }

  /** The slots of another entry, from `start` on; the account's are kept. */
  move(grant: MemoryGrant, entry: number, start: number): void {
    const { slots } = this.table;
    grant.entry = entry;
    grant.start = start;
    grant.spacedBefore = slots.spacedUntil(entry);
    slots.take(entry, start + grant.spacingMs, grant.cost);
    this.quietFrom(start + grant.spacingMs);
  }

  /** As if the entry's slots had never been taken. */
  giveBack(grant: MemoryGrant): void {
    this.table.slots.giveBack(grant.entry, grant.start + grant.spacingMs, grant.spacedBefore, grant.cost);
  }

  /** The account's, too. */
  cancel(grant: MemoryGrant): void {
    if (this.account !== undefined) this.account.giveBack(grant.start + grant.spacingMs, grant.cost);
    this.giveBack(grant);
  }

  cool(grant: MemoryGrant, at: number): void {
    const { slots } = this.table;
    slots.coolAll(grant.entry, at, grant.cost);
    if (this.account !== undefined) this.account.cool(at, grant.cost);
    this.quietFrom(at + slots.windowMs);
  }

  /** Slots of the permit's budget that are in use or cool. */
  used({ entry }: MemoryGrant, now: number): number {
    return this.account?.used(now) ?? this.table.slots.used(entry, now);
  }

  inspect(now: number): EgressSnapshot[] {
    const egresses = this.table.inspect(now);
    const { account } = this;
    if (account === undefined) return egresses;
    const accountInMs = Math.max(0, account.usableAt(now, 1) - now);
    const free = accountInMs > 0 ? 0 : account.free(now);
    return egresses.map((egress) => ({
      ...egress,
      remaining: Math.min(egress.remaining, free),
      usableInMs: Math.max(egress.usableInMs, accountInMs),
    }));
  }
}
