/**
 * What a decision costs as the routes to choose among grow from 10 to 1,000,000: an indexed heap over slabs, beside a look at
 * every route, beside a limiter that is told the key and chooses nothing, and beside the floor.
 */
import { RateLimiterMemory } from 'rate-limiter-flexible';
import type { Demand } from '../src/index.ts';
import { address, answered, demand, EIGHT, fastStore, introduce, shuffled, staticRoutes } from './support/egresses.ts';
import { figure, table, times, verdicts } from './support/report.ts';
import { type Contender, contend, race, type Timing } from './support/rounds.ts';

const ROUNDS = 5;
const SIZES = [10, 1_000, 100_000, 1_000_000];
const GOAL = 3;

const CONTENDERS: Record<string, (routes: number) => Contender> = {
  'paceline: routes in the order they were made': (count) => choosing(count, true),
  'paceline: routes in random order': (count) => choosing(count, false),
  'looking at every route': scanning,
  'rate-limiter-flexible: consume, key given': flexible,
  'floor: Map.get at random': mapGet,
};

/**
 * Choose, reserve, settle. Routes are used in the order they were made at first, and for ever where slots are spent in
 * bursts; the jitter of even spacing shuffles them bit by bit, until no cache can guess which comes next.
 */
function choosing(count: number, ordered: boolean): Contender {
  const store = fastStore();
  const routes = staticRoutes(count);
  introduce(store, 'shop', EIGHT, routes);
  const use = (how: Demand): void => void store.settle('shop', [answered(store.reserve('shop', how).grants[0])]);
  const one = demand(EIGHT);
  for (const route of routes) use(ordered ? demand(EIGHT, route) : one);
  return {
    run(ops) {
      for (let i = 0; i < ops; i++) use(one);
      return ops;
    },
  };
}

/** The usual rotation by hand: the route that has been idle longest, found in a typed array. */
function scanning(count: number): Contender {
  const lastUse = new Float64Array(count);
  return {
    run(ops) {
      for (let i = 0; i < ops; i++) {
        let best = 0;
        for (let k = 1; k < count; k++) if (lastUse[k] < lastUse[best]) best = k;
        lastUse[best] = performance.now();
      }
      return ops;
    },
  };
}

function flexible(count: number): Contender {
  const limiter = new RateLimiterMemory({ points: 1e9, duration: 3_600 });
  const keys = Array.from({ length: count }, (_, i) => address(i));
  const order = shuffled(count, 500_000);
  let at = 0;
  return {
    async run(ops) {
      for (let i = 0; i < ops; i++) {
        at = at + 1 < order.length ? at + 1 : 0;
        await limiter.consume(keys[order[at]]);
      }
      return ops;
    },
  };
}

function mapGet(count: number): Contender {
  const keys = Array.from({ length: count }, (_, i) => address(i));
  const map = new Map(keys.map((key, i) => [key, i]));
  const order = shuffled(count, 500_000);
  let at = 0;
  return {
    run(ops) {
      let sum = 0;
      for (let i = 0; i < ops; i++) {
        at = at + 1 < order.length ? at + 1 : 0;
        sum += map.get(keys[order[at]])!;
      }
      return sum < 0 ? 0 : ops;
    },
  };
}

const [size, name] = process.argv.slice(2);
if (name !== undefined) contend(CONTENDERS[name](Number(size)));
else {
  const results: [string, Timing[]][] = [];
  for (const contender of Object.keys(CONTENDERS)) {
    results.push([contender, await race(new URL(import.meta.url), SIZES.map(String), contender, ROUNDS)]);
  }
  table(
    `Nanoseconds a decision, by number of routes (median of ${ROUNDS} interleaved rounds, a process each)`,
    ['', ...SIZES.map(figure), `${figure(SIZES[0])} → ${figure(SIZES[SIZES.length - 1])}`],
    results.map(([contender, timings]) => [
      contender,
      ...timings.map(({ ns }) => figure(ns)),
      times(timings[timings.length - 1].ratio),
    ]),
  );
  console.log();
  verdicts(
    results.slice(0, 2).map(([contender, timings]) => {
      const growth = timings[timings.length - 1].ratio;
      return { what: `${contender}, 10 → 1,000,000: ${times(growth)} (goal ≤ ${GOAL} ×)`, met: growth <= GOAL };
    }),
  );
}
