import { type Random, seededRandom } from '../../clock.ts';
import type { Outcome, Policy, QuotaReport, Report, Route } from '../../store/store.ts';
import { AIMD, aRoute, BREAKER, HEALTH } from './scenery.ts';

/** What happens next, in numbers that are taken modulo what there is. */
export type Step =
  | {
      readonly do: 'reserve';
      readonly target: number;
      readonly pool: string;
      readonly count: number;
      readonly cost: number;
      readonly applies: readonly boolean[] | undefined;
      /** Number of a route, or -1. */
      readonly pin: number;
      readonly patienceMs: number;
      readonly horizonMs: number;
      readonly deadlineMs: number;
    }
  | { readonly do: 'settle'; readonly permit: number; readonly report: Omit<Report, 'grant'> }
  | { readonly do: 'bind'; readonly permit: number; readonly exit: number }
  | { readonly do: 'cancel'; readonly permit: number }
  | { readonly do: 'limit'; readonly limit: number }
  | { readonly do: 'close'; readonly route: number };

/** Random work for a store, of which each answer is determined. */
export interface Trace {
  readonly policy: Policy;
  readonly routes: readonly Route[];
  /** What `random()` is: always the same, for stores differ in how often they ask. */
  readonly luck: number;
  /** Each with how much time passes before it. */
  readonly steps: readonly (readonly [waitMs: number, step: Step])[];
}

/** Words to draw with. */
class Draw {
  readonly random: Random;

  constructor(seed: number) {
    this.random = seededRandom(seed);
  }

  below(n: number): number {
    return Math.floor(this.random() * n);
  }

  chance(share: number): boolean {
    return this.random() < share;
  }

  of<T>(...values: readonly T[]): T {
    return values[this.below(values.length)];
  }
}

const OUTCOMES: readonly Outcome[] = ['ok', 'ok', 'ok', 'rate-limited', 'blocked', 'network-error', 'target-error'];

/** One out at a time, since two might come back at the same moment: then either may be first. */
const health = { ...HEALTH, baseMs: 320, maxMs: 1600, healthyMs: 320, probeTimeoutMs: 200, maxEjectedShare: 0.01 };

function drawPolicy(draw: Draw, bulk: boolean): Policy {
  const account = !bulk && draw.chance(0.2);
  const limit = bulk ? 1 : draw.of(2, 3, 4, 9, 20);
  const rates = [
    { limit: 6, windowMs: 60, burst: 1 },
    { limit: 5, windowMs: 100, burst: 3 },
  ];
  return {
    limit,
    windowMs: 100,
    spacingMs: draw.chance(0.25) ? draw.of(5, 30) : 0,
    scope: account ? 'account' : 'ip',
    rates: draw.chance(0.3) ? rates.slice(draw.below(2)) : [],
    concurrency: draw.chance(0.3) ? 3 + draw.below(5) : undefined,
    adaptBudget: limit > 1 && draw.chance(0.3) ? { ...AIMD, ceiling: limit } : undefined,
    adaptConcurrency: draw.chance(0.3) ? { ...AIMD, floor: 2, start: 4 } : undefined,
    health: draw.chance(0.4) ? { ...health, minSamples: draw.of(3, 5) } : undefined,
    breaker: draw.chance(0.3)
      ? { ...BREAKER, windowMs: 400, openMs: 50, maxOpenMs: 400, probeTimeoutMs: 150 }
      : undefined,
  };
}

function drawReport(draw: Draw): Omit<Report, 'grant'> {
  const quota: QuotaReport | undefined = draw.chance(0.1)
    ? {
        spacingMs: draw.below(40),
        forMs: draw.below(150),
        exhausted: draw.chance(0.3),
        account: draw.chance(0.4),
      }
    : undefined;
  return {
    outcome: draw.chance(0.05) ? draw.of(undefined, 'ignored', 'challenged', 'gateway-error') : draw.of(...OUTCOMES),
    retryAfterMs: draw.chance(0.1) ? draw.below(250) : undefined,
    quota,
    graceMs: draw.chance(0.15) ? draw.below(100) : 0,
    end: draw.chance(0.7),
  };
}

/**
 * Traces in which it is never open which of several egresses is to serve. Nothing happens twice at the same moment, nor may
 * it come to that: so either one permit is asked for at a time; or there is one slot an egress (`bulk`), and what is taken
 * is not given back.
 */
export function drawTrace(seed: number, startMs: number): Trace {
  const draw = new Draw(seed);
  const bulk = draw.chance(0.25);
  const policy = drawPolicy(draw, bulk);
  // With a cap on how many are out, it would matter when a store notices that a route has ended.
  const mayEnd = policy.health === undefined;
  const routes = Array.from({ length: 2 + draw.below(6) }, (_, i) => {
    const rotates = !bulk && draw.chance(0.2);
    return aRoute(i + 1, {
      pool: rotates ? 'rotating' : 'sessions',
      id: `route-${i + 1}`,
      session: `s${i + 1}`,
      egress: `route-${i + 1}`,
      expiresAt: mayEnd && draw.chance(0.15) ? startMs + 1500 * draw.random() : Infinity,
      weight: rotates ? draw.of(Infinity, 3) : 1,
      trial: !rotates && !bulk && draw.chance(0.2),
    });
  });
  // That a route's exit has been named, a store may hear at one target only.
  const targets = routes.some(({ trial }) => trial) ? 1 : 2;
  const steps = Array.from({ length: 80 }, (): readonly [number, Step] => [
    // Often to the edge of something.
    draw.chance(0.2) ? draw.of(99, 100, 300) : draw.below(draw.of(5, 20, 60)),
    drawStep(draw, { bulk, mayEnd, mayBook: policy.scope !== 'account', targets }),
  ]);
  return { policy, routes, luck: draw.random(), steps };
}

interface Bounds {
  readonly bulk: boolean;
  readonly mayEnd: boolean;
  /** An account's bookings may start together, on several egresses. */
  readonly mayBook: boolean;
  readonly targets: number;
}

function drawStep(draw: Draw, { bulk, mayEnd, mayBook, targets }: Bounds): Step {
  const dice = draw.random();
  const permit = draw.below(1000);
  if (dice < 0.5) {
    return {
      do: 'reserve',
      target: draw.chance(0.85) ? 0 : targets - 1,
      pool: draw.chance(0.75) ? 'sessions' : 'rotating',
      count: bulk ? 1 + draw.below(4) : 1,
      cost: draw.chance(0.2) ? 2 : 1,
      applies: draw.chance(0.2) ? [draw.chance(0.5), draw.chance(0.5)] : undefined,
      pin: draw.chance(0.1) ? draw.below(100) : -1,
      patienceMs: draw.chance(0.2) ? 10 : 0,
      horizonMs: mayBook && draw.chance(0.2) ? draw.below(200) : 0,
      deadlineMs: !bulk && draw.chance(0.15) ? 1 + draw.below(200) : 1_000_000,
    };
  }
  if (dice < 0.8 || bulk) return { do: 'settle', permit, report: drawReport(draw) };
  if (dice < 0.9) return { do: 'bind', permit, exit: draw.below(100) };
  if (dice < 0.95) return { do: 'cancel', permit };
  if (dice < 0.98 || !mayEnd) return { do: 'limit', limit: 2 + draw.below(6) };
  return { do: 'close', route: draw.below(100) };
}
