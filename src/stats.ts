import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import { type HealthRegistry, healthRegistry } from './health/registry.ts';
import { type SubnetWatch, subnetWatch } from './health/subnets.ts';
import type { Outcome } from './store/store.ts';

/** Percentiles of a time, in milliseconds. */
export interface LatencyStats {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

/** What happened at one target, or through one pool. */
export interface TrafficStats {
  /** Requests that ended, redirect hops and attempts counted each. */
  readonly requests: number;
  readonly outcomes: Readonly<Record<Outcome, number>>;
  /** Time in the queue, all requests together and the longest one, in milliseconds. */
  readonly waitedMs: number;
  readonly longestWaitMs: number;
  /** From the send to the headers. */
  readonly latency: LatencyStats;
  /** On the wire, tunnels and TLS included. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

/** Targets kept apart in the statistics; those after share one entry, so that a broad crawl does not fill the memory. */
const MOST_TARGETS = 200;
export const OTHER_TARGETS = '(other)';
/** Longer times are counted as this. */
const LONGEST_MS = 3_600_000;
/** The state of the egresses is told whenever so many requests have ended. */
const TELL_EVERY = 500;
/** Requests that have ended are counted so many at a time: one by one, the counting would have left the processor's caches each time. */
const COUNTED_TOGETHER = 32;
/** Egresses of which it is remembered whether their last answer was a refusal; beyond that all are seen afresh. */
const MOST_EGRESSES = 100_000;

/** The egress IPs as a whole. */
export interface EgressStats {
  /** Those seen, those in bad health (under 40 % good of their last 20 outcomes over all targets), and the others. */
  readonly total: number;
  readonly blocked: number;
  readonly active: number;
  /** Neighbourhoods (`192.0.2.0/24`, `2001:db8:1::/48`) of which half or more of at least four egresses were refused last. */
  readonly suspectSubnets: readonly string[];
}

/** Counts what happens at one target, or through one pool. */
export class Traffic {
  requests = 0;
  readonly outcomes: Record<Outcome, number> = {
    ok: 0,
    'rate-limited': 0,
    blocked: 0,
    challenged: 0,
    'target-error': 0,
    'gateway-error': 0,
    'network-error': 0,
    ignored: 0,
  };
  waitedMs = 0;
  longestWaitMs = 0;
  bytesSent = 0;
  bytesReceived = 0;
  /** Microseconds would cost memory nobody asks for; tenths of a millisecond show loopback too. */
  private readonly latency: RecordableHistogram = createHistogram({ lowest: 1, highest: LONGEST_MS * 10, figures: 2 });

  settled(outcome: Outcome, latencyMs: number, waitedMs: number): void {
    this.requests++;
    this.outcomes[outcome]++;
    this.waitedMs += waitedMs;
    if (waitedMs > this.longestWaitMs) this.longestWaitMs = waitedMs;
    if (latencyMs > 0) this.latency.record(Math.min(LONGEST_MS * 10, Math.max(1, Math.round(latencyMs * 10))));
  }

  transferred(sent: number, received: number): void {
    this.bytesSent += sent;
    this.bytesReceived += received;
  }

  toStats(): TrafficStats {
    const { latency } = this;
    const at = (percentile: number): number => (latency.count === 0 ? 0 : latency.percentile(percentile) / 10);
    return {
      requests: this.requests,
      outcomes: { ...this.outcomes },
      waitedMs: this.waitedMs,
      longestWaitMs: this.longestWaitMs,
      latency: { p50: at(50), p90: at(90), p99: at(99), max: latency.count === 0 ? 0 : latency.max / 10 },
      bytesSent: this.bytesSent,
      bytesReceived: this.bytesReceived,
    };
  }
}

/** What counts against an egress's health: its own refusals, not the target's troubles and not a full budget. */
const healthOf = (outcome: Outcome): boolean | undefined => {
  if (outcome === 'ok') return true;
  return outcome === 'blocked' || outcome === 'challenged' || outcome === 'network-error' ? false : undefined;
};

/** A request that ended, until it is counted; used again and again. */
interface Ended {
  target: Traffic;
  pool: Traffic;
  egress: string;
  outcome: Outcome;
  latencyMs: number;
  waitedMs: number;
}

/** Counts what happens; cheap enough for every request. */
export class Stats {
  private readonly targets = new Map<string, Traffic>();
  private readonly pools = new Map<string, Traffic>();
  private readonly health: HealthRegistry = healthRegistry();
  private readonly subnets: SubnetWatch = subnetWatch();
  /** Whether the last answer to an egress was a refusal. */
  private readonly refused = new Map<string, boolean>();
  private ended = 0;
  private readonly uncounted: Ended[] = [];
  private waiting = 0;

  /** Notes how a request ended. Returns whether it is time to tell how the egresses are. */
  settled(
    target: Traffic,
    pool: Traffic,
    egress: string,
    outcome: Outcome,
    latencyMs: number,
    waitedMs: number,
  ): boolean {
    const { uncounted } = this;
    if (this.waiting === uncounted.length) {
      uncounted.push({ target, pool, egress, outcome, latencyMs, waitedMs });
    } else {
      const one = uncounted[this.waiting];
      one.target = target;
      one.pool = pool;
      one.egress = egress;
      one.outcome = outcome;
      one.latencyMs = latencyMs;
      one.waitedMs = waitedMs;
    }
    if (++this.waiting === COUNTED_TOGETHER) this.count();
    return ++this.ended % TELL_EVERY === 0;
  }

  /** Before anybody looks. */
  private count(): void {
    for (let i = 0; i < this.waiting; i++) {
      const { target, pool, egress, outcome, latencyMs, waitedMs } = this.uncounted[i];
      target.settled(outcome, latencyMs, waitedMs);
      pool.settled(outcome, latencyMs, waitedMs);
      const healthy = healthOf(outcome);
      if (healthy === undefined) continue;
      this.health.record(egress, healthy);
      if (outcome !== 'network-error') this.watch(egress, !healthy);
    }
    this.waiting = 0;
  }

  /** The subnets are looked at only when something is new. */
  private watch(egress: string, refused: boolean): void {
    if (this.refused.get(egress) === refused) return;
    if (this.refused.size >= MOST_EGRESSES) this.refused.clear();
    this.refused.set(egress, refused);
    this.subnets.record(egress, refused);
  }

  egresses(): EgressStats {
    this.count();
    return { ...this.health.stats(), suspectSubnets: this.subnets.suspects() };
  }

  poolStats(name: string): TrafficStats {
    this.count();
    return this.pool(name).toStats();
  }

  targetStats(): [string, TrafficStats][] {
    this.count();
    return [...this.targets].map(([name, traffic]) => [name, traffic.toStats()]);
  }

  /** To be kept by whoever counts often. */
  target(name: string): Traffic {
    let traffic = this.targets.get(name);
    if (traffic === undefined) {
      const key = this.targets.size < MOST_TARGETS ? name : OTHER_TARGETS;
      traffic = this.targets.get(key);
      if (traffic === undefined) {
        traffic = new Traffic();
        this.targets.set(key, traffic);
      }
    }
    return traffic;
  }

  pool(name: string): Traffic {
    let traffic = this.pools.get(name);
    if (traffic === undefined) {
      traffic = new Traffic();
      this.pools.set(name, traffic);
    }
    return traffic;
  }
}
