import { grown, IndexedHeap, type Positions } from './heap.ts';

/** Places in the row are numbered from here, so that none is taken for a place in the heap. */
const ROW = 2 ** 30;
const GAP = 2 ** 32 - 1;
const FIRST_ROOM = 8;

/**
 * A priority queue with the face of {@link IndexedHeap}, for keys that mostly come in rising order, as the times of use do.
 * Those stand in a row, where joining and leaving is one step however long it is and memory is read in order; the others are
 * in a heap. At a million routes that is what a decision costs.
 */
export class Line {
  private readonly places: Positions;
  private readonly heap: IndexedHeap;
  // The row: items and their keys, rising, in a ring. Who leaves from the middle leaves a gap; there is none at either end.
  private items: Uint32Array = new Uint32Array(FIRST_ROOM);
  private keys: Float64Array = new Float64Array(FIRST_ROOM);
  private head = 0;
  /** From head to tail, gaps included. */
  private length = 0;
  private gaps = 0;

  constructor(places: Positions) {
    this.places = places;
    this.heap = new IndexedHeap(places);
  }

  get size(): number {
    return this.heap.size + this.length - this.gaps;
  }

  /** The item with the smallest key. Undefined behaviour when empty: ask `size` first. */
  get top(): number {
    return this.rowFirst ? this.items[this.head] : this.heap.top;
  }

  get topKey(): number {
    return this.rowFirst ? this.keys[this.head] : this.heap.topKey;
  }

  push(item: number, key: number): void {
    if (this.length > 0 && key < this.tailKey) {
      // The last one may be far ahead of all others, in a cooldown: it must not keep the row from growing.
      const tail = this.slot(this.length - 1);
      const moved = this.items[tail];
      const movedKey = this.keys[tail];
      this.leave(tail);
      this.heap.push(moved, movedKey);
      if (this.length > 0 && key < this.tailKey) {
        this.heap.push(item, key);
        return;
      }
    }
    this.append(item, key);
  }

  update(item: number, key: number): void {
    const place = this.places.get(item);
    if (place >= ROW) {
      if (this.keys[place - ROW] === key) return;
      this.leave(place - ROW);
      this.push(item, key);
    } else if (this.heap.keyOf(item) === key) return;
    else if (this.length > 0 && key < this.tailKey) this.heap.update(item, key);
    else {
      this.heap.remove(item);
      this.append(item, key);
    }
  }

  remove(item: number): void {
    const place = this.places.get(item);
    if (place < ROW) this.heap.remove(item);
    else {
      this.leave(place - ROW);
      this.places.set(item, -1);
    }
  }

  private get rowFirst(): boolean {
    return this.length > 0 && (this.heap.size === 0 || this.keys[this.head] <= this.heap.topKey);
  }

  private get tailKey(): number {
    return this.keys[this.slot(this.length - 1)];
  }

  /** Where the `i`th of the row stands. */
  private slot(i: number): number {
    const slot = this.head + i;
    return slot < this.items.length ? slot : slot - this.items.length;
  }

  private append(item: number, key: number): void {
    if (this.length === this.items.length) this.makeRoom();
    const slot = this.slot(this.length++);
    this.items[slot] = item;
    this.keys[slot] = key;
    this.places.set(item, ROW + slot);
  }

  private leave(slot: number): void {
    const { items } = this;
    items[slot] = GAP;
    this.gaps++;
    for (; this.length > 0 && items[this.head] === GAP; this.length--, this.gaps--) this.head = this.slot(1);
    for (; this.length > 0 && items[this.slot(this.length - 1)] === GAP; this.length--) this.gaps--;
    if (this.length === 0 && items.length > 4096) this.makeRoom();
  }

  /** Closes the gaps when they are many, else takes more room. */
  private makeRoom(): void {
    const { items, keys, length } = this;
    const live = length - this.gaps;
    const room = Math.max(FIRST_ROOM, live * 8 > length * 7 ? grown(length) : Math.min(length, live * 2));
    this.items = new Uint32Array(room);
    this.keys = new Float64Array(room);
    let to = 0;
    for (let i = 0; i < length; i++) {
      const slot = this.head + i < length ? this.head + i : this.head + i - length;
      if (items[slot] === GAP) continue;
      this.items[to] = items[slot];
      this.keys[to] = keys[slot];
      this.places.set(items[slot], ROW + to++);
    }
    this.head = 0;
    this.length = live;
    this.gaps = 0;
  }
}
