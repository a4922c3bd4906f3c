import { expect } from 'vitest';

/** What keeps this process alive, counted by kind; only what a library could leave behind. */
function held(): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const kind of process.getActiveResourcesInfo()) {
    if (/TCP(Socket|Connect)|TLS|Timeout|GetAddrInfo|DNS|Pipe|FSReq/i.test(kind))
      counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

/** Remembers what the process holds now; the returned check waits until there is nothing on top of that. */
export function resourceBaseline(): () => Promise<void> {
  const before = held();
  const more = (): Record<string, number> => {
    const now = Object.entries(held()).map(([kind, count]) => [kind, count - (before[kind] ?? 0)] as const);
    return Object.fromEntries(now.filter(([, count]) => count > 0));
  };
  return async () => {
    const end = performance.now() + 3000;
    // Without a timer of its own, which would count.
    while (Object.keys(more()).length > 0 && performance.now() < end) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(more(), 'still held').toEqual({});
  };
}

/** Waits for a condition, looking often: `await eventually(() => target.connections).toBe(0)`. */
export function eventually<T>(value: () => T, timeout = 3000): ReturnType<typeof expect.poll<T>> {
  return expect.poll(value, { timeout, interval: 4 });
}
