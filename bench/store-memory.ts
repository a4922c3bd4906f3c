/**
 * What one decision costs in memory: reserve and settle, on one egress and over 100,000 of them, beside the limiters people
 * use, and beside the floor: reading a Map.
 */
import Bottleneck from 'bottleneck';
import pThrottle from 'p-throttle';
import { RateLimiterMemory, RateLimiterUnion } from 'rate-limiter-flexible';
import { Admission, type Waiter } from '../src/admission.ts';
import { Pool } from '../src/gateway/pool.ts';
import { resolvePools } from '../src/gateway/pool-options.ts';
import { type Grant, type MemoryStore, type Policy, type Route, systemClock } from '../src/index.ts';
import { address, answered, demand, EIGHT, fastStore, introduce, shuffled, staticRoutes } from './support/egresses.ts';
import { figure, table, times, verdicts } from './support/report.ts';
import { type Contender, contend, race } from './support/rounds.ts';

const ROUNDS = 9;
const MANY = 100_000;
/** Permits a call when that many wait: what an Admission asks for. */
const BATCH = 64;
/** Peers never refuse: what is timed is the bookkeeping of a grant. */
const PLENTY = 1e9;
const HOUR_MS = 3_600_000;
/** Four limits that are kept account of and never reached but for the first: slots, requests in flight, two rates. */
const FOUR: Policy = {
  ...EIGHT,
  concurrency: PLENTY,
  rates: [
    { limit: PLENTY, windowMs: 1_000, burst: PLENTY / 2 },
    { limit: PLENTY, windowMs: HOUR_MS, burst: PLENTY },
  ],
};
const BATCHED = `paceline: the same, ${BATCH} permits a call`;
const nothing = async (): Promise<void> => {};

const CONTENDERS: Record<string, (egresses: number) => Contender> = {
  'paceline: choose, reserve, settle': (egresses) => selecting(egresses, EIGHT),
  'paceline: the same, four limits each': (egresses) => selecting(egresses, FOUR),
  [BATCHED]: batching,
  'paceline: pinned, at random': pinning,
  'paceline: through the queue': admitting,
  'rate-limiter-flexible, memory': flexible,
  'rate-limiter-flexible, union of 4': flexibleUnion,
  'p-throttle': throttling,
  [`bottleneck, ${BATCH} at a time`]: bottleneck,
  'floor: Map.get': mapGet,
};
const NAMES = Object.keys(CONTENDERS);

/** The store chooses among all egresses: what every request does. */
function selecting(egresses: number, policy: Policy): Contender {
  const { store } = known(egresses);
  const one = demand(policy);
  return {
    run(ops) {
      for (let i = 0; i < ops; i++) store.settle('shop', [answered(store.reserve('shop', one).grants[0])]);
      return ops;
    },
  };
}

/** The same for many waiters at once, in one call each way. */
function batching(egresses: number): Contender {
  const { store } = known(egresses);
  const many = { ...demand(EIGHT), count: BATCH };
  return {
    run(ops) {
      let done = 0;
      while (done < ops) {
        const { grants } = store.reserve('shop', many);
        store.settle('shop', grants.map(answered));
        done += grants.length;
      }
      return done;
    },
  };
}

/** The egress is given, as in a session or after a redirect. */
function pinning(egresses: number): Contender {
  const { store, routes } = known(egresses);
  const pinned = { ...demand(EIGHT) };
  const next = cycle(routes);
  return {
    run(ops) {
      for (let i = 0; i < ops; i++) {
        pinned.pin = next();
        store.settle('shop', [answered(store.reserve('shop', pinned).grants[0])]);
      }
      return ops;
    },
  };
}

/** All that lies between a request and its permit when nobody has to wait: queue, pool and store. */
function admitting(egresses: number): Contender {
  const proxies = Array.from({ length: egresses }, (_, i) => `http://${address(i)}:8080`);
  const [options] = resolvePools({ pools: { static: { proxies, concurrency: 10_000 } } });
  const pool = new Pool(options, systemClock, Math.random);
  const listener = { verdicts() {}, storeFailed: fail };
  const admission = new Admission(fastStore(), systemClock, 60_000, listener);
  const queue = admission.queue('shop', () => ({ policy: EIGHT, pool }));
  const granted = (grant: Grant): void => {
    admission.settle(queue, answered(grant));
    admission.finished(queue, pool);
  };
  return {
    run(ops) {
      for (let i = 0; i < ops; i++) admission.take(waiter(granted), queue, pool, undefined, false);
      return ops;
    },
  };
}

function flexible(egresses: number): Contender {
  const limiter = new RateLimiterMemory({ points: PLENTY, duration: HOUR_MS / 1000 });
  const next = cycle(keys(egresses));
  return {
    async run(ops) {
      for (let i = 0; i < ops; i++) await limiter.consume(next());
      return ops;
    },
  };
}

/** Four of its limiters, as whoever has four limits has to. */
function flexibleUnion(egresses: number): Contender {
  const limiters = [1, 2, 3, 4].map(
    (n) => new RateLimiterMemory({ keyPrefix: `limit${n}`, points: PLENTY, duration: HOUR_MS / 1000 }),
  );
  const union = new RateLimiterUnion(...limiters);
  const next = cycle(keys(egresses));
  return {
    async run(ops) {
      for (let i = 0; i < ops; i++) await union.consume(next());
      return ops;
    },
  };
}

function throttling(egresses: number): Contender {
  const throttle = pThrottle({ limit: PLENTY, interval: HOUR_MS });
  const byKey = new Map(keys(egresses).map((key) => [key, throttle(() => {})]));
  const next = cycle(keys(egresses));
  return {
    async run(ops) {
      for (let i = 0; i < ops; i++) await byKey.get(next())!();
      return ops;
    },
  };
}

/** One at a time it waits milliseconds for its own timers; at 5 KB a key, it gets a tenth of the keys. */
function bottleneck(egresses: number): Contender {
  const few = keys(Math.max(1, egresses / 10));
  const byKey = new Map(few.map((key) => [key, new Bottleneck({ reservoir: PLENTY })]));
  const next = cycle(few);
  return {
    async run(ops) {
      for (let i = 0; i < ops; i += BATCH) {
        await Promise.all(Array.from({ length: BATCH }, () => byKey.get(next())!.schedule(nothing)));
      }
      return Math.ceil(ops / BATCH) * BATCH;
    },
  };
}

/** What no limiter with a key can go below. */
function mapGet(egresses: number): Contender {
  const map = new Map(keys(egresses).map((key, i) => [key, i]));
  const next = cycle(keys(egresses));
  return {
    run(ops) {
      let sum = 0;
      for (let i = 0; i < ops; i++) sum += map.get(next())!;
      return sum < 0 ? 0 : ops;
    },
  };
}

function known(egresses: number): { store: MemoryStore; routes: Route[] } {
  const store = fastStore();
  const routes = staticRoutes(egresses);
  introduce(store, 'shop', EIGHT, routes);
  return { store, routes };
}

function keys(count: number): string[] {
  return Array.from({ length: count }, (_, i) => address(i));
}

/** Items in no order that a cache could guess. */
function cycle<T>(items: readonly T[]): () => T {
  const order = shuffled(items.length, items.length === 1 ? 1 : 500_000);
  let at = 0;
  return () => {
    at = at + 1 < order.length ? at + 1 : 0;
    return items[order[at]];
  };
}

function waiter(granted: (grant: Grant) => void): Waiter {
  const nowhere = { before: undefined, after: undefined, level: undefined, lane: undefined };
  return {
    ...nowhere,
    priority: 0,
    cost: 1,
    applies: undefined,
    free: true,
    queuedAt: 0,
    giveUpAt: Infinity,
    maxWaitMs: Infinity,
    giveUpTimer: undefined,
    granted,
    refused: fail,
  };
}

function fail(error: unknown): never {
  throw error;
}

async function compare(egresses: number): Promise<Record<string, number>> {
  const timings = await race(new URL(import.meta.url), NAMES, egresses, ROUNDS);
  const of = (name: string): (typeof timings)[number] => timings[NAMES.indexOf(name)];
  const ours = of('paceline: choose, reserve, settle');
  const peer = of('rate-limiter-flexible, memory');
  const union = of('rate-limiter-flexible, union of 4').ratio / of('paceline: the same, four limits each').ratio;
  const where = egresses === 1 ? 'one hot egress' : `over ${figure(egresses)} egresses`;
  table(
    `One admission, ${where} (median of ${ROUNDS} interleaved rounds, a process each)`,
    ['', 'ns', 'a second', 'time, ours = 1'],
    timings.map(({ name, ns, ratio }) => [name, figure(ns), figure(1e9 / ns), times(ratio)]),
  );
  return { ns: ours.ns, faster: peer.ratio, union, batchFaster: peer.ratio / of(BATCHED).ratio };
}

const [name, egresses] = process.argv.slice(2);
if (name !== undefined) contend(CONTENDERS[name](Number(egresses)));
else {
  const hot = await compare(1);
  const many = await compare(MANY);
  const peer = 'rate-limiter-flexible';
  console.log();
  verdicts([
    { what: `reserve + settle, hot: ${figure(hot.ns)} ns (goal ≤ 1,000)`, met: hot.ns <= 1_000 },
    { what: `over ${figure(MANY)} egresses: ${figure(many.ns)} ns (goal ≤ 3,000)`, met: many.ns <= 3_000 },
    { what: `hot, faster than ${peer}: ${times(hot.faster)} (goal ≥ 5 ×)`, met: hot.faster >= 5 },
    { what: `over ${figure(MANY)}, faster than ${peer}: ${times(many.faster)} (goal ≥ 5 ×)`, met: many.faster >= 5 },
  ]);
  const batches = `${times(hot.batchFaster)} hot, ${times(many.batchFaster)} over ${figure(MANY)}`;
  const unions = `${times(hot.union)} hot, ${times(many.union)} over ${figure(MANY)}`;
  console.log(`        four limits each, faster than ${peer}’s union of 4: ${unions}`);
  console.log(`        with ${BATCH} permits a call, as when many wait: ${batches}`);
}
