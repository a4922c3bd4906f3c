import type { Redis } from 'ioredis';
import { median } from '../support/report.ts';
import type { Contender } from './contender.ts';

/** One contender's turn, or the medians of several. */
export interface Turn {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** CPU of this process for one admission. */
  readonly nodeUs: number;
  /** CPU of the server for one admission, with reading and writing. */
  readonly serverUs: number;
  /** Of that, in scripts. */
  readonly scriptUs: number;
  /** Commands from outside for one admission. */
  readonly calls: number;
}

/** So many requests wait all the time: whoever is admitted asks again at once. */
export async function turn(contender: Contender, waiting: number, ms: number, control: Redis): Promise<Turn> {
  const before = await work(control);
  const latencies: number[] = [];
  const cpuBefore = process.cpuUsage();
  const start = performance.now();
  const end = start + ms;
  await new Promise<void>((resolve) => {
    let left = waiting;
    const ask = (askedAt: number): void => {
      contender.admit(() => {
        const now = performance.now();
        latencies.push(now - askedAt);
        if (now < end) ask(now);
        else if (--left === 0) resolve();
      });
    };
    for (let i = 0; i < waiting; i++) ask(performance.now());
  });
  await contender.done?.();
  const tookMs = performance.now() - start;
  const cpu = process.cpuUsage(cpuBefore);
  const after = await work(control);
  await contender.tidy?.();
  const count = latencies.length;
  const sorted = Float64Array.from(latencies).sort();
  return {
    perSecond: (1000 * count) / tookMs,
    p50Ms: sorted[Math.floor(count * 0.5)],
    p99Ms: sorted[Math.floor(count * 0.99)],
    nodeUs: (cpu.user + cpu.system) / count,
    serverUs: (after.cpuUs - before.cpuUs) / count,
    scriptUs: (after.scriptUs - before.scriptUs) / count,
    calls: (after.calls - before.calls) / count,
  };
}

export function medians(turns: readonly Turn[]): Turn {
  const keys = Object.keys(turns[0]) as (keyof Turn)[];
  return Object.fromEntries(keys.map((key) => [key, median(turns.map((one) => one[key]))])) as unknown as Turn;
}

interface Work {
  readonly cpuUs: number;
  readonly scriptUs: number;
  readonly calls: number;
}

/** What the server has done so far. The calls of a script's own are part of its time, and not counted. */
async function work(control: Redis): Promise<Work> {
  const [cpu, stats] = await Promise.all([control.info('cpu'), control.info('commandstats')]);
  const seconds = (name: string): number => Number(new RegExp(`${name}:([\\d.]+)`).exec(cpu)?.[1] ?? 0);
  const of = (command: string, what: string): number =>
    Number(new RegExp(`cmdstat_${command}:(?:.*,)?${what}=(\\d+)`).exec(stats)?.[1] ?? 0);
  return {
    cpuUs: 1e6 * (seconds('used_cpu_user') + seconds('used_cpu_sys')),
    scriptUs: of('evalsha', 'usec') + of('eval', 'usec'),
    calls: of('evalsha', 'calls') + of('eval', 'calls') + of('ping', 'calls'),
  };
}
