/** Where each item stands in its heap, or -1; shared by the heaps of one table, an item being in one at most. */
export interface Positions {
  get(item: number): number;
  set(item: number, position: number): void;
}

/** The next capacity of a slab: doubling while small, later by an eighth, so that little of a large one lies idle. */
export function grown(capacity: number): number {
  return capacity < 4096 ? capacity * 2 : Math.ceil(capacity * 1.125);
}

/**
 * A 4-ary min-heap of (key, item) in typed arrays, with `update` and `remove` by item.
 * Four children share a cache line, so a million routes cost ten steps and few misses.
 */
export class IndexedHeap {
  private keys: Float64Array = new Float64Array(4);
  private items: Uint32Array = new Uint32Array(4);
  private readonly positions: Positions;
  size = 0;

  constructor(positions: Positions) {
    this.positions = positions;
  }

  /** The item with the smallest key. Undefined behaviour when empty: ask `size` first. */
  get top(): number {
    return this.items[0];
  }

  get topKey(): number {
    return this.keys[0];
  }

  keyOf(item: number): number {
    return this.keys[this.positions.get(item)];
  }

  push(item: number, key: number): void {
    if (this.size === this.items.length) this.resize(grown(this.items.length));
    this.siftUp(this.size++, item, key);
  }

  update(item: number, key: number): void {
    const at = this.positions.get(item);
    const before = this.keys[at];
    if (key === before) return;
    if (key < before) this.siftUp(at, item, key);
    else this.siftDown(at, item, key);
  }

  remove(item: number): void {
    const at = this.positions.get(item);
    this.positions.set(item, -1);
    const last = --this.size;
    if (last * 4 < this.items.length && this.items.length > 4096) this.resize(last * 2);
    if (at === last) return;
    const moved = this.items[last];
    const key = this.keys[last];
    if (at > 0 && key < this.keys[(at - 1) >> 2]) this.siftUp(at, moved, key);
    else this.siftDown(at, moved, key);
  }

  private resize(capacity: number): void {
    const keys = new Float64Array(capacity);
    keys.set(this.keys.subarray(0, this.size + 1));
    this.keys = keys;
    const items = new Uint32Array(capacity);
    items.set(this.items.subarray(0, this.size + 1));
    this.items = items;
  }

  private siftUp(start: number, item: number, key: number): void {
    const { keys, items, positions } = this;
    let at = start;
    while (at > 0) {
      const parent = (at - 1) >> 2;
      if (keys[parent] <= key) break;
      keys[at] = keys[parent];
      const moved = items[parent];
      items[at] = moved;
      positions.set(moved, at);
      at = parent;
    }
    keys[at] = key;
    items[at] = item;
    positions.set(item, at);
  }

  private siftDown(start: number, item: number, key: number): void {
    const { keys, items, positions, size } = this;
    let at = start;
    for (;;) {
      const first = at * 4 + 1;
      if (first >= size) break;
      const end = Math.min(first + 4, size);
      let child = first;
      let smallest = keys[first];
      for (let i = first + 1; i < end; i++) {
        if (keys[i] < smallest) {
          smallest = keys[i];
          child = i;
        }
      }
      if (smallest >= key) break;
      keys[at] = smallest;
      const moved = items[child];
      items[at] = moved;
      positions.set(moved, at);
      at = child;
    }
    keys[at] = key;
    items[at] = item;
    positions.set(item, at);
  }
}
