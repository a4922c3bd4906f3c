/**
 * The largest number of instants within any half-open window (t − windowMs, t]. Two that lie exactly one window apart
 * never share one. The order of `times` does not matter. O(n log n), O(n) when sorted already.
 *
 * @example
 * worstWindow([0, 10, 1_000], 1_000); // 2: 0 and 1000 do not share a window
 */
export function worstWindow(times: ArrayLike<number>, windowMs: number): number {
  const sorted = ascending(times);
  let worst = 0;
  let first = 0;
  for (let i = 0; i < sorted.length; i++) {
    while (first < i && sorted[first] <= sorted[i] - windowMs) first++;
    worst = Math.max(worst, i - first + 1);
  }
  return worst;
}

/**
 * How many instants t find `limit` earlier ones in (t − windowMs, t]; 0 exactly when {@link worstWindow} ≤ `limit`.
 *
 * @example
 * countOver([0, 10, 20], 1, 1_000); // 2
 */
export function countOver(times: ArrayLike<number>, limit: number, windowMs: number): number {
  const sorted = ascending(times);
  let over = 0;
  for (let i = limit; i < sorted.length; i++) {
    if (sorted[i - limit] > sorted[i] - windowMs) over++;
  }
  return over;
}

function ascending(times: ArrayLike<number>): ArrayLike<number> {
  for (let i = 1; i < times.length; i++) {
    if (times[i] < times[i - 1]) return Float64Array.from(times).sort();
  }
  return times;
}
