import { createHook } from 'node:async_hooks';
import { expect } from 'vitest';

/** The sockets, look-ups and handles that keep this process alive, counted by kind. */
function handles(): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const kind of process.getActiveResourcesInfo()) {
    if (/TCP(Socket|Connect)|TLS|GetAddrInfo|DNS|FSReq/i.test(kind)) counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

/** The timers that library code sets from now on and that keep the process alive; the test runner has timers of its own. */
function watchTimers(): { alive(): string[]; stop(): void } {
  const timers = new Map<number, { timer: NodeJS.Timeout; setBy: string }>();
  const hook = createHook({
    init(id, type, _trigger, timer) {
      if (type !== 'Timeout') return;
      const setBy = (new Error().stack ?? '').split('\n').find((line) => /\/(src|undici)\//.test(line));
      if (setBy !== undefined) timers.set(id, { timer: timer as NodeJS.Timeout, setBy: setBy.trim() });
    },
    destroy: (id) => void timers.delete(id),
  }).enable();
  return {
    alive: () => [...timers.values()].filter(({ timer }) => timer.hasRef()).map(({ setBy }) => setBy),
    stop: () => void hook.disable(),
  };
}

/** Remembers what the process holds now; the returned check waits until there is nothing on top of that. One at a time. */
export function resourceBaseline(): () => Promise<void> {
  const before = handles();
  const timers = watchTimers();
  const more = (): (string | [string, number])[] => {
    const now = Object.entries(handles()).map(([kind, count]): [string, number] => [kind, count - (before[kind] ?? 0)]);
    return [...now.filter(([, count]) => count > 0), ...timers.alive()];
  };
  return async () => {
    for (const end = performance.now() + 3000; more().length > 0 && performance.now() < end; ) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    timers.stop();
    expect(more(), 'still held').toEqual([]);
  };
}

/** Waits for a condition, looking often: `await eventually(() => target.connections).toBe(0)`. In concurrent tests, too. */
export function eventually<T>(
  value: () => T | Promise<T>,
  timeoutMs: number = 3000,
): Record<'toBe' | 'toEqual' | 'toBeGreaterThan', (expected: T) => Promise<void>> {
  const until = async (check: (now: T) => void): Promise<void> => {
    for (const end = performance.now() + timeoutMs; ; ) {
      try {
        return check(await value());
      } catch (error) {
        if (performance.now() > end) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 4));
    }
  };
  return {
    toBe: (expected) => until((now) => expect(now).toBe(expected)),
    toEqual: (expected) => until((now) => expect(now).toEqual(expected)),
    toBeGreaterThan: (expected) => until((now) => expect(now).toBeGreaterThan(expected as number)),
  };
}
