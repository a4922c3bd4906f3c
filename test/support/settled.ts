/** Lets everything that is waiting on promises run. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 10; i++) await Promise.resolve();
}

/** The most times that fall into one half-open window of `windowMs`. */
export function mostInWindow(timesMs: readonly number[], windowMs: number): number {
  const sorted = [...timesMs].sort((a, b) => a - b);
  let most = 0;
  let first = 0;
  sorted.forEach((time, last) => {
    while (sorted[first] <= time - windowMs) first++;
    most = Math.max(most, last - first + 1);
  });
  return most;
}
