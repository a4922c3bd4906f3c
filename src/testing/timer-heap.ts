/** A timer that waits; `index` is its place in the heap, −1 once it has left. */
export interface HeapTimer {
  readonly due: number;
  readonly order: number;
  readonly callback: () => void;
  index: number;
}

/** Earlier first; among equals, in the order they were set. */
const before = (a: HeapTimer, b: HeapTimer): boolean => a.due < b.due || (a.due === b.due && a.order < b.order);

/** A binary heap whose members know their places, so that cancelling costs O(log n) and leaves nothing behind. */
export class TimerHeap {
  private readonly heap: HeapTimer[] = [];
  private nextOrder = 0;

  get size(): number {
    return this.heap.length;
  }

  peek(): HeapTimer | undefined {
    return this.heap[0];
  }

  add(due: number, callback: () => void): HeapTimer {
    const timer: HeapTimer = { due, order: this.nextOrder++, callback, index: this.heap.length };
    this.heap.push(timer);
    this.up(timer);
    return timer;
  }

  /** A timer that has left already is ignored. */
  remove(timer: HeapTimer): void {
    const hole = timer.index;
    if (hole < 0) return;
    timer.index = -1;
    const last = this.heap.pop()!;
    if (last === timer) return;
    this.put(last, hole);
    this.up(last);
    this.down(last);
  }

  private put(timer: HeapTimer, index: number): void {
    this.heap[index] = timer;
    timer.index = index;
  }

  private up(timer: HeapTimer): void {
    let index = timer.index;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!before(timer, this.heap[parent])) break;
      this.put(this.heap[parent], index);
      index = parent;
    }
    this.put(timer, index);
  }

  private down(timer: HeapTimer): void {
    let index = timer.index;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= this.heap.length) break;
      if (child + 1 < this.heap.length && before(this.heap[child + 1], this.heap[child])) child++;
      if (!before(this.heap[child], timer)) break;
      this.put(this.heap[child], index);
      index = child;
    }
    this.put(timer, index);
  }
}
