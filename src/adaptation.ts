import { ConfigError } from './errors.ts';
import type { EjectionPolicy } from './health/ejection.ts';
import { ejectionPolicy, type OutlierEjectorOptions } from './health/outlier-ejector.ts';
import type { BreakerPolicy } from './limits/breaker-core.ts';
import { breakerPolicy, type CircuitBreakerOptions } from './limits/circuit-breaker.ts';
import { count, invalid, knownOnly, positive } from './validate.ts';

/** How limits follow what a target tolerates: AIMD. The configured budget is the ceiling; evidence brings it down, quiet windows bring it back. */
export interface AdaptiveOptions {
  /** The budget of a window never falls below this; an integer ≥ 1. @default 1 */
  readonly floor?: number;
  /** A refusal multiplies the budget by this, at most once a window; in (0, 1). @default 0.7 */
  readonly decrease?: number;
  /** A window without one adds this, > 0. @default 1 */
  readonly increase?: number;
  /**
   * Whether the requests in flight at a target adapt, too: from the pool type's starting point up while the target stays quiet, down when it
   * objects as a whole. @default true
   */
  readonly concurrency?: boolean;
}

/** When an egress is left out at a target for its health: as {@link outlierEjector} has it. */
export type HealthOptions = Omit<OutlierEjectorOptions, 'clock'>;

/** When a target, or a pool's gateway, is left alone because it is down: as {@link circuitBreaker} has it. */
export type BreakerOptions = Omit<CircuitBreakerOptions, 'name' | 'clock' | 'random'>;

/** The three, checked and filled in; `undefined` where one is switched off. */
export interface Adaptation {
  readonly budget: { readonly floor: number; readonly decrease: number; readonly increase: number } | undefined;
  readonly concurrency: boolean;
  readonly health: EjectionPolicy | undefined;
  readonly breaker: BreakerPolicy | undefined;
}

interface AdaptationOptions {
  readonly adaptive?: boolean | AdaptiveOptions;
  readonly health?: boolean | HealthOptions;
  readonly breaker?: boolean | BreakerOptions;
}

const KNOWN_ADAPTIVE = ['floor', 'decrease', 'increase', 'concurrency'];
const KNOWN_HEALTH = ['baseMs', 'maxMs', 'healthyMs', 'probeTimeoutMs', 'maxEjectedShare', 'minSamples', 'threshold'];
const KNOWN_BREAKER = [
  ...['failureRatio', 'minCalls', 'windowMs', 'openMs', 'maxOpenMs', 'halfOpenCalls', 'probeTimeoutMs'],
];

/** @throws {ConfigError} on a bad value. */
export function resolveAdaptation(options: AdaptationOptions): Adaptation {
  const adaptive = switched<AdaptiveOptions>('adaptive', options.adaptive, KNOWN_ADAPTIVE);
  const health = switched<HealthOptions>('health', options.health, KNOWN_HEALTH);
  const breaker = switched<BreakerOptions>('breaker', options.breaker, KNOWN_BREAKER);
  return {
    budget: adaptive && under('adaptive', () => budgetOf(adaptive)),
    concurrency: adaptive !== undefined && (adaptive.concurrency ?? true),
    health: health && under('health', () => ejectionPolicy(health)),
    breaker: breaker && under('breaker', () => breakerPolicy(breaker)),
  };
}

function budgetOf({ floor, decrease = 0.7, increase, concurrency }: AdaptiveOptions): Adaptation['budget'] {
  if (!(decrease > 0 && decrease < 1)) throw invalid('decrease', 'a number between 0 and 1', decrease);
  if (concurrency !== undefined && typeof concurrency !== 'boolean') {
    throw invalid('concurrency', 'true or false', concurrency);
  }
  return { floor: count('floor', floor ?? 1), decrease, increase: positive('increase', increase ?? 1) };
}

function switched<T extends object>(option: string, value: unknown, known: readonly string[]): T | undefined {
  if (value === false) return undefined;
  if (value === undefined || value === true) return {} as T;
  knownOnly(option, value, known);
  return value as T;
}

/** The messages of a primitive name its own options: here they stand under one of the manager's. */
function under<T>(option: string, resolve: () => T): T {
  try {
    return resolve();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError(`${option}.${error.message}`, { option: `${option}.${error.option}` });
  }
}
