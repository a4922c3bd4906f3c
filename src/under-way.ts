/** What knows its place in an {@link UnderWay}. */
export interface Placed {
  /** -1 while it is in none. */
  place: number;
}

/** What is under way, in no order. Joining and leaving cost a write or two each: no hashing, as a Set would do for every request. */
export class UnderWay<T extends Placed> {
  private readonly all: T[] = [];

  get size(): number {
    return this.all.length;
  }

  add(one: T): void {
    one.place = this.all.length;
    this.all.push(one);
  }

  /** Takes it out, if it is in. */
  delete(one: T): void {
    const { place } = one;
    if (place < 0) return;
    one.place = -1;
    const last = this.all.pop()!;
    if (last === one) return;
    this.all[place] = last;
    last.place = place;
  }

  [Symbol.iterator](): IterableIterator<T> {
    return this.all[Symbol.iterator]();
  }
}
