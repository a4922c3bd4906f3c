/** A gateway and what lies behind it, in a process of their own: the client's CPU time is then the client's alone. */
import {
  type Arrival,
  countOver,
  type MockGatewayOptions,
  type MockTargetOptions,
  mockGateway,
  mockTarget,
  worstWindow,
} from '../../src/testing/index.ts';
import { answer, type Child, child } from './child.ts';

export interface ServerOptions {
  readonly target: MockTargetOptions;
  readonly gateway: MockGatewayOptions;
}

/** What the target saw between two instants. */
export interface Seen {
  readonly arrivals: number;
  readonly byStatus: Readonly<Record<string, number>>;
  /** Arrivals that found `limit` others of their IP in their window. */
  readonly over: number;
  readonly worst: number;
  readonly ips: number;
}

export interface Servers extends AsyncDisposable {
  /** Template with `{session}`. */
  readonly gatewayUrl: string;
  /** CPU time of both, in milliseconds, so far. */
  cpuMs(): Promise<number>;
  /** Of the last `lastMs`, but not the last `ignoreMs`. */
  seen(question: { lastMs: number; limit: number; windowMs: number }): Promise<Seen>;
}

type Question =
  | { start: ServerOptions }
  | { seen: { lastMs: number; limit: number; windowMs: number } }
  | { cpu: true };

export async function servers(options: ServerOptions): Promise<Servers> {
  const process_: Child = child(new URL(import.meta.url), ['serve']);
  const gatewayUrl = await process_.ask<string>({ start: options } satisfies Question);
  return {
    gatewayUrl,
    cpuMs: () => process_.ask<number>({ cpu: true } satisfies Question),
    seen: (question) => process_.ask<Seen>({ seen: question } satisfies Question),
    [Symbol.asyncDispose]: () => process_[Symbol.asyncDispose](),
  };
}

function digest(arrivals: readonly Arrival[], limit: number, windowMs: number): Seen {
  const byStatus: Record<string, number> = {};
  const byIp = new Map<string, number[]>();
  for (const { ip, at, status } of arrivals) {
    byStatus[status] = (byStatus[status] ?? 0) + 1;
    const times = byIp.get(ip);
    if (times === undefined) byIp.set(ip, [at]);
    else times.push(at);
  }
  let over = 0;
  let worst = 0;
  for (const times of byIp.values()) {
    over += countOver(times, limit, windowMs);
    worst = Math.max(worst, worstWindow(times, windowMs));
  }
  return { arrivals: arrivals.length, byStatus, over, worst, ips: byIp.size };
}

if (process.argv[2] === 'serve') {
  let arrivals: readonly Arrival[] = [];
  answer(async (question: Question) => {
    if ('start' in question) {
      const target = await mockTarget(question.start.target);
      const gateway = await mockGateway({ ...question.start.gateway, hosts: { 'shop.test': target.url } });
      arrivals = target.arrivals;
      return gateway.url;
    }
    if ('cpu' in question) {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1_000;
    }
    const { lastMs, limit, windowMs } = question.seen;
    const since = performance.now() - lastMs;
    return digest(
      arrivals.filter(({ at }) => at >= since),
      limit,
      windowMs,
    );
  });
}
