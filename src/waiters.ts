/** Something that waits in a {@link WaiterList}: the links are its own, so joining and leaving allocate nothing. */
export interface ListedWaiter {
  /** Higher goes first; equals go first come, first served. */
  readonly priority: number;
  before: ListedWaiter | undefined;
  after: ListedWaiter | undefined;
  /** The level it waits in; undefined while it does not. */
  level: Level | undefined;
}

/** Those who wait at one priority. */
export interface Level {
  readonly priority: number;
  head: ListedWaiter | undefined;
  tail: ListedWaiter | undefined;
}

/** A queue by priority, first come first served within one; leaving from the middle costs O(1). */
export class WaiterList<W extends ListedWaiter> {
  /** By falling priority; empty is at most one, when it is the only one. */
  private readonly levels: Level[] = [];
  size = 0;

  get head(): W | undefined {
    return this.levels[0]?.head as W | undefined;
  }

  push(waiter: W): void {
    const level = this.levelOf(waiter.priority);
    waiter.level = level;
    waiter.before = level.tail;
    waiter.after = undefined;
    if (level.tail === undefined) level.head = waiter;
    else level.tail.after = waiter;
    level.tail = waiter;
    this.size++;
  }

  /** Back to the front of its priority: it had its turn and lost it through no fault of its own. */
  unshift(waiter: W): void {
    const level = this.levelOf(waiter.priority);
    waiter.level = level;
    waiter.before = undefined;
    waiter.after = level.head;
    if (level.head === undefined) level.tail = waiter;
    else level.head.before = waiter;
    level.head = waiter;
    this.size++;
  }

  /** Who comes after. */
  next(waiter: W): W | undefined {
    const { levels } = this;
    return (waiter.after ?? levels[levels.indexOf(waiter.level!) + 1]?.head) as W | undefined;
  }

  shift(): W | undefined {
    const first = this.head;
    if (first !== undefined) this.remove(first);
    return first;
  }

  remove(waiter: W): void {
    const { level, before, after } = waiter;
    if (level === undefined) return;
    if (before === undefined) level.head = after;
    else before.after = after;
    if (after === undefined) level.tail = before;
    else after.before = before;
    waiter.before = waiter.after = waiter.level = undefined;
    this.size--;
    // The last level stays: it is nearly always the one that the next waiter is for.
    if (level.head === undefined && this.levels.length > 1) this.levels.splice(this.levels.indexOf(level), 1);
  }

  private levelOf(priority: number): Level {
    const { levels } = this;
    let at = 0;
    if (this.size === 0 && levels.length === 1 && levels[0].priority !== priority) levels.length = 0;
    while (at < levels.length && levels[at].priority > priority) at++;
    if (levels[at]?.priority !== priority) levels.splice(at, 0, { priority, head: undefined, tail: undefined });
    return levels[at];
  }
}
