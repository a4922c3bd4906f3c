/**
 * What a decision costs as the routes to choose among grow from 10 to 1,000,000: an indexed heap over slabs, beside a look at
 * every route, beside a limiter that is told the key and chooses nothing, and beside the floor.
 */
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { address, answered, demand, EIGHT, fastStore, introduce, shuffled, staticRoutes } from './support/egresses.ts';
import { figure, table, times, verdicts } from './support/report.ts';
import { type Contender, contend, race, type Timing } from './support/rounds.ts';

const ROUNDS = 7;
const SIZES = [10, 1_000, 100_000, 1_000_000];
const GOAL = 3;

const CONTENDERS: Record<string, (routes: number) => Contender> = {
  'paceline: choose, reserve, settle': choosing,
  'looking at every route': scanning,
  'rate-limiter-flexible: consume, key given': flexible,
  'floor: Map.get at random': mapGet,
};

function choosing(count: number): Contender {
  const store = fastStore();
  introduce(store, 'shop', EIGHT, staticRoutes(count));
  const one = demand(EIGHT);
  return {
    run(ops) {
      for (let i = 0; i < ops; i++) store.settle('shop', [answered(store.reserve('shop', one).grants[0])]);
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
  const growth = results[0][1][SIZES.length - 1].ratio;
  console.log();
  verdicts([
    { what: `cost of a decision, 10 → 1,000,000 routes: ${times(growth)} (goal ≤ ${GOAL} ×)`, met: growth <= GOAL },
  ]);
}
