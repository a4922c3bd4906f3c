/** A bounded map of strings. */
export interface TwoGenerations<V> {
  get(key: string): V | undefined;
  /** Returns the value. */
  set(key: string, value: V): V;
  /** Entries held, at most the capacity. */
  readonly size: number;
}

/**
 * A cache of at most `capacity` (≥ 2) entries that forgets roughly the least recently used ones. When the young generation
 * is half the capacity it becomes the old one, and the old one is dropped; a hit in the old one makes an entry young again.
 * Every call is O(1), and a hit in the young one, the usual case, writes nothing; deleting the first key of one big Map
 * would walk over the holes that earlier deletions left.
 */
export function twoGenerations<V>(capacity: number): TwoGenerations<V> {
  const half = Math.floor(capacity / 2);
  let young = new Map<string, V>();
  let old = new Map<string, V>();

  function set(key: string, value: V): V {
    if (young.size >= half) {
      old = young;
      young = new Map();
    }
    young.set(key, value);
    return value;
  }

  return {
    get(key) {
      const value = young.get(key);
      if (value !== undefined) return value;
      const aged = old.get(key);
      return aged === undefined ? undefined : set(key, aged);
    },
    set,
    get size() {
      return young.size + old.size;
    },
  };
}
