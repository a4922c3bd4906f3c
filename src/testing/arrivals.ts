import { countOver, worstWindow } from './window.ts';

/** One request as the target saw it. */
export interface Arrival {
  /** `performance.now()` of this process when the request's headers had been read, in milliseconds. */
  readonly at: number;
  /** The peer's address: the egress IP. */
  readonly ip: string;
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  /** The Host header (`:authority` on HTTP/2). */
  readonly host: string;
  /** What was answered; 0 while nothing has been. */
  status: number;
}

/** The instants of the arrivals of each IP, oldest first. */
function timesByIp(arrivals: readonly Arrival[]): Map<string, number[]> {
  const byIp = new Map<string, number[]>();
  for (const { ip, at } of arrivals) {
    const times = byIp.get(ip);
    if (times === undefined) byIp.set(ip, [at]);
    else times.push(at);
  }
  return byIp;
}

/** The most arrivals of any one IP within any half-open window. */
export function worstOf(arrivals: readonly Arrival[], windowMs: number): number {
  let worst = 0;
  for (const times of timesByIp(arrivals).values()) worst = Math.max(worst, worstWindow(times, windowMs));
  return worst;
}

/** How many arrivals find `limit` earlier ones of their IP in their window. */
export function overOf(arrivals: readonly Arrival[], limit: number, windowMs: number): number {
  let over = 0;
  for (const times of timesByIp(arrivals).values()) over += countOver(times, limit, windowMs);
  return over;
}

/** How many times each value of `key` occurs. */
export function tally(arrivals: readonly Arrival[], key: 'ip' | 'status'): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const arrival of arrivals) counts[arrival[key]] = (counts[arrival[key]] ?? 0) + 1;
  return counts;
}
