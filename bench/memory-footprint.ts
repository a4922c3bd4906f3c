/**
 * Bytes of state for each (target, egress) tracked, a million of them, eight slots each. What the caller holds anyway is
 * counted apart: route objects for paceline, key strings for the others. Each contender has a process to itself.
 */
import Bottleneck from 'bottleneck';
import pThrottle from 'p-throttle';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { MemoryStore, seededRandom, systemClock } from '../src/index.ts';
import { answer, child, memoryUsed } from './support/child.ts';
import { address, answered, demand, EIGHT, introduce, staticRoutes } from './support/egresses.ts';
import { figure, table, verdicts } from './support/report.ts';

const GOAL = 150;
const HOUR = { ...EIGHT, windowMs: 3_600_000 };

interface Footprint {
  /** Bytes a key of the limiter's own. */
  readonly own: number;
  /** Bytes a key of what the caller hands in. */
  readonly given: number;
}

/** Builds the caller's part, then the limiter's, and weighs each. `build` returns what must stay alive. */
async function weigh<T>(count: number, given: () => T, build: (given: T) => Promise<unknown>): Promise<Footprint> {
  const empty = memoryUsed();
  const held = given();
  const before = memoryUsed();
  const kept = await build(held);
  const after = memoryUsed();
  if (kept === undefined || held === undefined) throw new Error('nothing built');
  return { own: (after - before) / count, given: (before - empty) / count };
}

/** Every egress has been used, once or until all its eight slots cool. */
function paceline(targets: number, egresses: number, uses: number): Promise<Footprint> {
  return weigh(
    targets * egresses,
    () => staticRoutes(egresses),
    async (routes) => {
      const store = new MemoryStore(systemClock, seededRandom(1));
      for (let t = 0; t < targets; t++) {
        const target = `shop-${t}.example`;
        introduce(store, target, HOUR, routes, 1);
        for (const route of routes) {
          const { grants } = store.reserve(target, { ...demand(HOUR, route), count: uses - 1 });
          if (grants.length < uses - 1) throw new Error('a slot was missing');
          store.settle(target, grants.map(answered));
        }
        store.reserve(target, demand(HOUR, routes[0]));
      }
      return store;
    },
  );
}

function keys(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `shop.example|${address(i)}`);
}

const CONTENDERS: Record<string, () => Promise<Footprint>> = {
  'paceline: 1 target × 1,000,000 egresses': () => paceline(1, 1_000_000, 1),
  'paceline: 1 × 1,000,000, all slots cooling': () => paceline(1, 1_000_000, 8),
  'paceline: 100 targets × 10,000 egresses': () => paceline(100, 10_000, 1),
  'rate-limiter-flexible: 1,000,000 keys': () =>
    weigh(
      1_000_000,
      () => keys(1_000_000),
      async (all) => {
        const limiter = new RateLimiterMemory({ points: 8, duration: 3_600 });
        for (const key of all) await limiter.consume(key);
        return limiter;
      },
    ),
  'p-throttle: 200,000 keys': () =>
    weigh(
      200_000,
      () => keys(200_000),
      async (all) => {
        const byKey = new Map<string, unknown>();
        for (const key of all) {
          const throttled = pThrottle({ limit: 8, interval: 3_600_000, strict: true })(() => {});
          await throttled();
          byKey.set(key, throttled);
        }
        return byKey;
      },
    ),
  'bottleneck: 5,000 keys': () =>
    weigh(
      5_000,
      () => keys(5_000),
      async (all) => {
        const byKey = new Map<string, Bottleneck>();
        await Promise.all(
          all.map((key) => {
            const limiter = new Bottleneck({ reservoir: 8 });
            byKey.set(key, limiter);
            return limiter.schedule(async () => {});
          }),
        );
        return byKey;
      },
    ),
};

const [name] = process.argv.slice(2);
if (name !== undefined) answer(() => CONTENDERS[name]());
else {
  const rows: [string, Footprint][] = [];
  for (const contender of Object.keys(CONTENDERS)) {
    await using own = child(new URL(import.meta.url), [contender], ['--expose-gc']);
    rows.push([contender, await own.ask<Footprint>('weigh')]);
  }
  table(
    'Bytes a tracked (target, egress); the smaller peers are a sample, extrapolated to a million',
    ['', 'limiter’s own', 'caller’s routes or keys', 'a million of them, MB'],
    rows.map(([contender, { own, given }]) => [contender, figure(own), figure(given), figure(own)]),
  );
  console.log();
  verdicts(
    rows.slice(0, 3).map(([contender, { own }]) => ({
      what: `${contender}: ${figure(own)} bytes (goal ≤ ${GOAL})`,
      met: own <= GOAL,
    })),
  );
}
