export type { AdaptiveOptions, BreakerOptions, HealthOptions } from './adaptation.ts';
export { type Batcher, type BatcherOptions, batcher } from './batcher.ts';
export type { CacheStats } from './cache/layer.ts';
export type { CacheMethod, CacheOptions, CacheStore, DedupeOptions } from './cache/options.ts';
export type { ExchangeInfo, PaceOptions } from './call.ts';
export type { Clock, Random, TimerHandle } from './clock.ts';
export { seededRandom, systemClock } from './clock.ts';
export type { SavedCookie, SessionCookies } from './cookies.ts';
export { egressKey } from './egress-key.ts';
export * from './errors.ts';
export type { PacelineEventName, PacelineEvents } from './events.ts';
export type { Carrier } from './gateway/agents.ts';
export type { Dial } from './gateway/dial.ts';
export type { PoolRoute } from './gateway/pool.ts';
export type { EgressOptions, PoolOptions } from './gateway/pool-options.ts';
export type { GatewayFunction, GatewayParams } from './gateway/template.ts';
export type { Gate, TunnelClient } from './gateway/tunnels.ts';
export { type QuotaSpacing, type QuotaSpacingOptions, quotaSpacing } from './headers/quota-spacing.ts';
export { parseRateLimit } from './headers/rate-limit.ts';
export type { RateLimitInfo } from './headers/rate-limit-info.ts';
export type { HeaderSource } from './headers/read.ts';
export { parseRetryAfter } from './headers/retry-after.ts';
export { retryAfterOf } from './headers/retry-after-of.ts';
export {
  type EjectorPass,
  type OutlierEjector,
  type OutlierEjectorOptions,
  outlierEjector,
} from './health/outlier-ejector.ts';
export * from './health/registry.ts';
export { type SubnetWatch, type SubnetWatchOptions, subnetWatch } from './health/subnets.ts';
export type { Lease, LeaseProxy } from './lease.ts';
export type { LeaseOptions, LeaseResponse, SettleDetails } from './lease-options.ts';
export * from './limits/adaptive.ts';
export * from './limits/backoff.ts';
export {
  type CircuitBreaker,
  type CircuitBreakerOptions,
  type CircuitPass,
  type CircuitState,
  circuitBreaker,
} from './limits/circuit-breaker.ts';
export * from './limits/concurrency.ts';
export { type Cooldowns, type CooldownsOptions, cooldowns } from './limits/cooldown.ts';
export { type Escalation, type EscalationOptions, escalation } from './limits/escalation.ts';
export * from './limits/leaky-bucket.ts';
export type { Limiter, TakeOptions } from './limits/limiter.ts';
export * from './limits/retry-budget.ts';
export * from './limits/sliding-window.ts';
export * from './limits/sliding-window-counter.ts';
export * from './limits/token-bucket.ts';
export {
  type FetchInit,
  type FetchInput,
  type FetchResponse,
  type ManagerStats,
  type PoolStats,
  ProxyManager,
  type TargetStats,
} from './manager.ts';
export type { ProxyManagerOptions, Transport } from './options.ts';
export { type Classify, classifyOutcome, needsBody, type ResponseFacts } from './outcome.ts';
export type { RetryOptions, TimeoutOptions } from './request-options.ts';
export type { RotateOptions, Session, SessionOptions } from './session.ts';
export type { EgressStats, LatencyStats, TrafficStats } from './stats.ts';
export { MemoryStore, type MemoryStoreOptions, memoryStore } from './store/memory.ts';
export type * from './store/store.ts';
export * from './target/classifier.ts';
export { builtinTiers } from './target/tiers.ts';
export type * from './target/types.ts';
