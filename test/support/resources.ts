import { expect } from 'vitest';

/** What keeps this process alive, counted by kind; only what a library could leave behind. */
function held(): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const kind of process.getActiveResourcesInfo()) {
    if (/TCP(Socket|Connect)|TLS|Timeout|GetAddrInfo|DNS|Pipe|FSReq/i.test(kind)) counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

/** Remembers what the process holds now; the returned check waits until there is nothing on top of that. */
export function resourceBaseline(): () => Promise<void> {
  const before = held();
  return () =>
    expect
      .poll(
        () => {
          const now = held();
          return Object.fromEntries(
            Object.entries(now)
              .map(([kind, count]) => [kind, count - (before[kind] ?? 0)] as const)
              .filter(([, more]) => more > 0),
          );
        },
        { timeout: 3000, interval: 10 },
      )
      .toEqual({});
}
