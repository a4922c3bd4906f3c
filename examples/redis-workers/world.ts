import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mockGateway, mockTarget } from 'paceline/testing';

/** What is crawled, and from where. The windows of a real site are minutes; here they are seconds, so that the example is short. */
export const PAGES = 384;
export const EXITS = 12;
export const LIMIT = 8;
export const WINDOW_MS = 2000;

/** What a worker is to do. */
export interface Order {
  readonly gateway: string;
  readonly urls: readonly string[];
  /** Where the budget is shared; without it each has its own, in memory. */
  readonly redis?: string;
  readonly prefix: string;
  readonly workers: number;
}

/** What it tells. */
export type News =
  | { readonly is: 'ready' }
  | { readonly is: 'page'; readonly ok: boolean }
  | { readonly is: 'done'; readonly calls: number; readonly latenciesMs: readonly number[] };

/** What a run came to, as the target and the gateway count. */
export interface Result {
  readonly pages: number;
  readonly sends: number;
  readonly overBudget: number;
  /** The most of any IP in any window. */
  readonly worst: number;
  readonly limited: number;
  readonly ms: number;
  /** Mean time from the send to the headers. */
  readonly latencyMs: number;
  readonly sessions: number;
  readonly tunnels: number;
  readonly calls: number;
}

export async function startWorkers(count: number): Promise<ChildProcess[]> {
  const workers = Array.from({ length: count }, () => fork(new URL('./worker.ts', import.meta.url)));
  await Promise.all(workers.map((worker) => once(worker, 'message')));
  return workers;
}

/** One target behind one gateway, and all the workers at it at once. */
export async function run(
  workers: readonly ChildProcess[],
  redis: string | undefined,
  progress: (pages: number) => void,
): Promise<Result> {
  await using target = await mockTarget({ budget: { limit: LIMIT, windowMs: WINDOW_MS }, latencyMs: [5, 60] });
  await using gateway = await mockGateway({ exits: EXITS, connectDelayMs: [5, 40], seed: 7 });
  const prefix = `paceline-example-${Date.now()}:`;
  const urls = Array.from({ length: PAGES }, (_, page) => `${target.url}/page/${page}`);
  const started = performance.now();
  let asked = 0;
  let pages = 0;
  let calls = 0;
  const latenciesMs: number[] = [];

  await Promise.all(
    workers.map(
      (worker, i) =>
        new Promise<void>((resolve, reject) => {
          worker.removeAllListeners();
          worker.once('exit', (code) => reject(new Error(`worker ${i} has ended with ${code}`)));
          worker.on('message', (news: News) => {
            if (news.is === 'page') {
              if (news.ok) pages++;
              progress(++asked);
            } else if (news.is === 'done') {
              calls += news.calls;
              latenciesMs.push(...news.latenciesMs);
              resolve();
            }
          });
          const own = urls.filter((_, page) => page % workers.length === i);
          const order: Order = { gateway: gateway.url, urls: own, redis, prefix, workers: workers.length };
          worker.send(order);
        }),
    ),
  );
  const ms = performance.now() - started;
  const { connects, sessions } = gateway.stats();
  return {
    pages,
    sends: target.arrivals.length,
    overBudget: target.overBudget(),
    worst: target.worst(),
    limited: target.byStatus()[429] ?? 0,
    ms,
    latencyMs: latenciesMs.reduce((sum, latencyMs) => sum + latencyMs, 0) / latenciesMs.length,
    sessions: Object.keys(sessions).length,
    tunnels: connects,
    calls,
  };
}
