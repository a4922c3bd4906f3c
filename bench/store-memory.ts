/**
 * What one decision costs in memory: reserve and settle, on one egress and over 100,000 of them, beside the limiters people
 * use, and beside the floor: reading a Map.
 */
import Bottleneck from 'bottleneck';
import pThrottle from 'p-throttle';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { Admission, type Waiter } from '../src/admission.ts';
import { Pool } from '../src/gateway/pool.ts';
import { resolvePools } from '../src/gateway/pool-options.ts';
import { type Grant, type MemoryStore, type Route, systemClock } from '../src/index.ts';
import { address, answered, demand, EIGHT, fastStore, introduce, shuffled, staticRoutes } from './support/egresses.ts';
import { figure, table, times, verdicts } from './support/report.ts';
import { type Contender, race } from './support/rounds.ts';

const ROUNDS = 7;
const MANY = 100_000;
/** As many as an Admission with as many waiters asks for in one call. */
const BATCH = 64;
/** Peers never refuse: what is timed is the bookkeeping of a grant. */
const PLENTY = 1e9;
const HOUR_MS = 3_600_000;

function knownStore(routes: readonly Route[]): MemoryStore {
  const store = fastStore();
  introduce(store, 'shop', EIGHT, routes);
  return store;
}

/** The store chooses among all egresses: what every request does. */
function selecting(routes: readonly Route[]): Contender {
  const store = knownStore(routes);
  const one = demand(EIGHT);
  return {
    name: 'paceline: choose, reserve, settle',
    ops: 200_000,
    run(ops) {
      for (let i = 0; i < ops; i++) store.settle('shop', [answered(store.reserve('shop', one).grants[0])]);
      return ops;
    },
  };
}

/** The same for many waiters at once, in one call each way. */
function batching(routes: readonly Route[]): Contender {
  const store = knownStore(routes);
  const many = { ...demand(EIGHT), count: BATCH };
  return {
    name: `paceline: the same, ${BATCH} permits a call`,
    ops: 200_000,
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

/** The caller has chosen, as a session or a redirect does. */
function pinning(routes: readonly Route[]): Contender {
  const store = knownStore(routes);
  const order = shuffled(routes.length, 50_000);
  const pinned = { ...demand(EIGHT) };
  return {
    name: 'paceline: pinned to a random egress',
    ops: 100_000,
    run(ops) {
      for (let i = 0; i < ops; i++) {
        pinned.pin = routes[order[i % order.length]];
        store.settle('shop', [answered(store.reserve('shop', pinned).grants[0])]);
      }
      return ops;
    },
  };
}

function flexible(keys: readonly string[]): Contender {
  const limiter = new RateLimiterMemory({ points: PLENTY, duration: HOUR_MS / 1000 });
  const order = shuffled(keys.length, 50_000);
  return {
    name: 'rate-limiter-flexible, memory',
    ops: 100_000,
    async run(ops) {
      for (let i = 0; i < ops; i++) await limiter.consume(keys[order[i % order.length]]);
      return ops;
    },
  };
}

function throttling(keys: readonly string[]): Contender {
  const throttle = pThrottle({ limit: PLENTY, interval: HOUR_MS });
  const byKey = new Map(keys.map((key) => [key, throttle(() => {})]));
  const order = shuffled(keys.length, 50_000);
  return {
    name: 'p-throttle',
    ops: 50_000,
    async run(ops) {
      for (let i = 0; i < ops; i++) await byKey.get(keys[order[i % order.length]])!();
      return ops;
    },
  };
}

function bottleneck(keys: readonly string[]): Contender {
  const byKey = new Map(keys.map((key) => [key, new Bottleneck({ reservoir: PLENTY })]));
  const order = shuffled(keys.length, 50_000);
  return {
    name: keys.length === 1 ? 'bottleneck' : `bottleneck (${figure(keys.length)} keys only)`,
    ops: 4_000,
    async run(ops) {
      const nothing = async (): Promise<void> => {};
      for (let i = 0; i < ops; i++) await byKey.get(keys[order[i % order.length]])!.schedule(nothing);
      return ops;
    },
  };
}

/** What no limiter with a key can go below. */
function mapGet(keys: readonly string[]): Contender {
  const map = new Map(keys.map((key, i) => [key, i]));
  const order = shuffled(keys.length, 50_000);
  return {
    name: 'floor: Map.get',
    ops: 500_000,
    run(ops) {
      let sum = 0;
      for (let i = 0; i < ops; i++) sum += map.get(keys[order[i % order.length]])!;
      return sum < 0 ? 0 : ops;
    },
  };
}

async function compare(egresses: number): Promise<{ ours: number; batch: number; flexible: number; faster: number }> {
  const routes = staticRoutes(egresses);
  const keys = routes.map((_, i) => address(i));
  const contenders = [
    selecting(routes),
    batching(routes),
    pinning(routes),
    flexible(keys),
    throttling(keys),
    bottleneck(keys.slice(0, 5_000)),
    mapGet(keys),
  ];
  const timings = await race(contenders, ROUNDS);
  table(
    `One admission, ${egresses === 1 ? 'one hot egress' : `over ${figure(egresses)} egresses`} (median of ${ROUNDS} interleaved rounds)`,
    ['', 'ns', '× the first row'],
    contenders.map(({ name }, i) => [name, figure(timings[i].ns), times(timings[i].ratio)]),
  );
  return {
    ours: timings[0].ns,
    batch: timings[3].ratio / timings[1].ratio,
    flexible: timings[3].ns,
    faster: timings[3].ratio,
  };
}

/** A waiter that is done as soon as it has its permit. */
function waiter(granted: (grant: Grant) => void): Waiter {
  return {
    priority: 0,
    before: undefined,
    after: undefined,
    level: undefined,
    lane: undefined,
    queuedAt: 0,
    giveUpAt: Infinity,
    giveUpTimer: undefined,
    granted,
    refused(error) {
      throw error;
    },
  };
}

/** Through the queue, store and pool included, when nobody has to wait. */
function admitting(egresses: number): Contender {
  const proxies = Array.from({ length: egresses }, (_, i) => `http://${address(i)}:8080`);
  const [options] = resolvePools({ pools: { static: { proxies, concurrency: 10_000 } } });
  const pool = new Pool(options, systemClock, Math.random);
  const admission = new Admission(fastStore(), systemClock, 60_000, {
    verdicts() {},
    storeFailed(error) {
      throw error;
    },
  });
  const queue = admission.queue('shop', () => EIGHT);
  const granted = (grant: Grant): void => {
    admission.settle(queue, answered(grant));
    admission.finished(queue, pool);
  };
  return {
    name: 'paceline: queue, store and pool',
    ops: 100_000,
    run(ops) {
      for (let i = 0; i < ops; i++) admission.take(waiter(granted), queue, pool, undefined, false);
      return ops;
    },
  };
}

const hot = await compare(1);
const many = await compare(MANY);

const queues = [admitting(1_000), throttling(['one']), bottleneck(['one'])];
const admitted = await race(queues, ROUNDS);
table(
  'Admissions through the queue, nobody has to wait (ours over 1,000 egresses, the others without any)',
  ['', 'admissions a second', '× the first row’s time'],
  queues.map(({ name }, i) => [name, figure(1e9 / admitted[i].ns), times(admitted[i].ratio)]),
);

console.log();
verdicts([
  { what: `reserve + settle, hot: ${figure(hot.ours)} ns (goal ≤ 1,000)`, met: hot.ours <= 1_000 },
  { what: `over ${figure(MANY)} egresses: ${figure(many.ours)} ns (goal ≤ 3,000)`, met: many.ours <= 3_000 },
  { what: `hot, against rate-limiter-flexible: ${times(hot.faster)} (goal ≥ 5 ×)`, met: hot.faster >= 5 },
  { what: `over ${figure(MANY)}, against rate-limiter-flexible: ${times(many.faster)} (goal ≥ 5 ×)`, met: many.faster >= 5 },
]);
console.log(
  `        with ${BATCH} permits a call: ${times(hot.batch)} hot, ${times(many.batch)} over ${figure(MANY)}; no goal of its own`,
);
process.exit();
