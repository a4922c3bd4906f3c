export type { ExchangeInfo, PaceOptions } from './call.ts';
export type { Clock, Random, TimerHandle } from './clock.ts';
export { seededRandom, systemClock } from './clock.ts';
export { egressKey } from './egress-key.ts';
export * from './errors.ts';
export type { PacelineEventName, PacelineEvents } from './events.ts';
export type { EgressOptions, PoolOptions } from './gateway/pool-options.ts';
export type { GatewayFunction, GatewayParams } from './gateway/template.ts';
export { parseRetryAfter } from './headers/retry-after.ts';
export * from './health/registry.ts';
export * from './limits/backoff.ts';
export * from './limits/concurrency.ts';
export * from './limits/leaky-bucket.ts';
export type { Limiter, TakeOptions } from './limits/limiter.ts';
export * from './limits/retry-budget.ts';
export * from './limits/sliding-window.ts';
export * from './limits/sliding-window-counter.ts';
export * from './limits/token-bucket.ts';
export {
  type FetchInit,
  type FetchInput,
  type ManagerStats,
  type PoolStats,
  ProxyManager,
  type TargetStats,
} from './manager.ts';
export type { ProxyManagerOptions, RetryOptions, TimeoutOptions } from './options.ts';
export { type Classify, classifyOutcome, type ResponseFacts } from './outcome.ts';
export type { Session, SessionOptions } from './session.ts';
export type { LatencyStats, TrafficStats } from './stats.ts';
export { MemoryStore, type MemoryStoreOptions, memoryStore } from './store/memory.ts';
export type * from './store/store.ts';
export * from './target/classifier.ts';
export { builtinTiers } from './target/tiers.ts';
export type * from './target/types.ts';
