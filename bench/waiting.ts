/**
 * 10,000 requests wait for a limit of 1,000 a second: what the waiting costs in CPU and memory, and how late the last one is.
 * Each contender has a process of its own; all of them wait at the same time.
 */
import Bottleneck from 'bottleneck';
import pThrottle from 'p-throttle';
import { Admission, type Waiter } from '../src/admission.ts';
import { Pool } from '../src/gateway/pool.ts';
import { resolvePools } from '../src/gateway/pool-options.ts';
import { type Grant, memoryStore, systemClock, tokenBucket } from '../src/index.ts';
import { answer, child, memoryUsed } from './support/child.ts';
import { answered } from './support/egresses.ts';
import { figure, median, table, verdicts } from './support/report.ts';

const WAITERS = 10_000;
const A_SECOND = 1_000;
const ROUNDS = 3;
/** Later than this nobody is waited for. */
const PATIENCE_MS = 14_000;
/** What may leave at once: enough to make up for timers that come late. */
const BURST = 20;

/** Makes one request wait; it calls `go` when it may leave. */
type Wait = (go: () => void) => void;

interface Waited {
  readonly cpuMs: number;
  /** How long after its time the last one left; `undefined` when the bench gave up before. */
  readonly lateMs: number | undefined;
  readonly left: number;
  readonly bytes: number;
}

const CONTENDERS: Record<string, () => Wait> = {
  'paceline: admission queue over the store': admission,
  'paceline: tokenBucket': () => {
    const bucket = tokenBucket({ limit: A_SECOND, windowMs: 1_000, burst: BURST });
    return (go) => void bucket.take().then(go);
  },
  'p-throttle': () => {
    const throttled = pThrottle({ limit: 1, interval: 1_000 / A_SECOND })((go: () => void) => go());
    return (go) => void throttled(go);
  },
  bottleneck: () => {
    const limiter = new Bottleneck({ minTime: 1_000 / A_SECOND });
    return (go) => void limiter.schedule(async () => go());
  },
};

/** One direct route without a budget that binds; the target allows 1,000 a second in all. */
function admission(): Wait {
  const [options] = resolvePools({ pools: { direct: { direct: true, concurrency: 10 * WAITERS } } });
  const pool = new Pool(options, systemClock, Math.random);
  const fail = (error: unknown): never => {
    throw error;
  };
  const waiting = new Admission(memoryStore(), systemClock, 60_000, { verdicts() {}, storeFailed: fail });
  const rate = { limit: A_SECOND, windowMs: 1_000, burst: BURST };
  const policy = { limit: 100_000, windowMs: 1_000, spacingMs: 0, rates: [rate], concurrency: undefined };
  const queue = waiting.queue('shop', () => ({ policy, pool }));
  return (go) => {
    const granted = (grant: Grant): void => {
      waiting.settle(queue, answered(grant));
      waiting.finished(queue, pool);
      go();
    };
    const waiter: Waiter = {
      priority: 0,
      cost: 1,
      applies: undefined,
      free: true,
      before: undefined,
      after: undefined,
      level: undefined,
      lane: undefined,
      queuedAt: 0,
      giveUpAt: Infinity,
      maxWaitMs: Infinity,
      giveUpTimer: undefined,
      granted,
      refused: fail,
    };
    waiting.take(waiter, queue, pool, undefined, false);
  };
}

async function measure(make: () => Wait): Promise<Waited> {
  const wait = make();
  await new Promise<void>((resolve) => wait(resolve));
  const empty = memoryUsed();
  const before = process.cpuUsage();
  const start = performance.now();
  let left = 0;
  let last = start;
  const { promise: all, resolve } = Promise.withResolvers<void>();
  for (let i = 0; i < WAITERS; i++) {
    wait(() => {
      last = performance.now();
      if (++left === WAITERS) resolve();
    });
  }
  const queued = process.cpuUsage(before);
  const bytes = (memoryUsed() - empty) / WAITERS;
  const weighed = process.cpuUsage();
  const timer = setTimeout(resolve, PATIENCE_MS);
  await all;
  clearTimeout(timer);
  const drained = process.cpuUsage(weighed);
  const cpuMs = (queued.user + queued.system + drained.user + drained.system) / 1_000;
  const lateMs = left === WAITERS ? last - start - (WAITERS / A_SECOND) * 1_000 : undefined;
  return { cpuMs, lateMs, left, bytes };
}

const [name] = process.argv.slice(2);
if (name !== undefined) answer(() => measure(CONTENDERS[name]));
else {
  const names = Object.keys(CONTENDERS);
  const rounds: Waited[][] = [];
  for (let round = 0; round < ROUNDS; round++) {
    await using all = new AsyncDisposableStack();
    const waiting = names.map((contender) => all.use(child(new URL(import.meta.url), [contender], ['--expose-gc'])));
    rounds.push(await Promise.all(waiting.map((own) => own.ask<Waited>('wait'))));
  }
  const results = names.map((_, i) => {
    const own = rounds.map((round) => round[i]);
    const late = own.map(({ lateMs }) => lateMs).filter((ms) => ms !== undefined);
    return {
      cpuMs: median(own.map(({ cpuMs }) => cpuMs)),
      bytes: median(own.map(({ bytes }) => bytes)),
      lateMs: late.length === ROUNDS ? median(late) : undefined,
      left: median(own.map(({ left }) => left)),
    };
  });
  table(
    `${figure(WAITERS)} waiting at ${figure(A_SECOND)} a second (median of ${ROUNDS} rounds, all at the same time, a process each)`,
    ['', 'CPU, ms', 'last one late, ms', 'bytes a waiter'],
    results.map(({ cpuMs, bytes, lateMs, left }, i) => [
      names[i],
      figure(cpuMs),
      lateMs === undefined ? `only ${figure(left)} left after ${PATIENCE_MS / 1_000} s` : figure(lateMs),
      figure(bytes),
    ]),
  );
  const [ours, , throttle, slow] = results;
  console.log();
  verdicts([
    {
      what: `CPU: ${figure(ours.cpuMs)} ms, no more than p-throttle (${figure(throttle.cpuMs)}) and bottleneck (${figure(slow.cpuMs)})`,
      met: ours.cpuMs <= Math.min(throttle.cpuMs, slow.cpuMs),
    },
    {
      what: `bytes a waiter: ${figure(ours.bytes)}, no more than p-throttle (${figure(throttle.bytes)})`,
      met: ours.bytes <= throttle.bytes,
    },
  ]);
}
