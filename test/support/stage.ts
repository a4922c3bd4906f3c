import fc from 'fast-check';
import {
  type PacelineEventName,
  type PacelineEvents,
  ProxyManager,
  type ProxyManagerOptions,
  type Random,
  seededRandom,
} from 'paceline';
import { type VirtualClock, virtualClock } from 'paceline/testing';
import { type Passage, SimulatedWorld, type WorldOptions } from './simulated-world.ts';

export type Answer = ReturnType<NonNullable<WorldOptions['answer']>>;

/** What was told, and when. */
export interface Told<N extends PacelineEventName = PacelineEventName> {
  readonly at: number;
  readonly name: N;
  readonly event: PacelineEvents[N];
}

export interface StageOptions {
  readonly seed?: number;
  readonly world?: Partial<Omit<WorldOptions, 'clock' | 'answer'>>;
  readonly answer?: (passage: Passage, random: Random) => Answer;
  readonly manager: ProxyManagerOptions;
}

const LISTENED = [
  ...(['admit', 'settle', 'retry', 'cooldown', 'eject', 'return', 'circuit', 'adapt', 'escalate', 'egress'] as const),
  ...(['refuse', 'session'] as const),
];

/** A manager in a simulated world, in virtual time, and what it told of itself. */
export class Stage {
  readonly clock: VirtualClock = virtualClock();
  readonly world: SimulatedWorld;
  readonly proxies: ProxyManager;
  readonly told: Told[] = [];
  /** For the test's own dice. */
  readonly random: Random;

  constructor({ seed = 1, world = {}, answer, manager }: StageOptions) {
    const { clock } = this;
    const random = seededRandom(seed);
    this.random = seededRandom(seed + 1);
    this.world = new SimulatedWorld({
      clock,
      random,
      exits: 6,
      dialMs: [1, 50],
      latencyMs: [1, 100],
      churn: 0,
      ...world,
      ...(answer && { answer: (passage: Passage) => answer(passage, random) }),
    });
    const gateway = manager.pools === undefined ? { gateway: 'http://u-{session}:p@gw.test:1' } : undefined;
    this.proxies = new ProxyManager({
      ...gateway,
      clock,
      random: seededRandom(seed + 2),
      transport: this.world.transport,
      ...manager,
    });
    for (const name of LISTENED) {
      this.proxies.on(name, (event) => this.told.push({ at: clock.now(), name, event }));
    }
  }

  get passages(): Passage[] {
    return this.world.passages;
  }

  tales<N extends PacelineEventName>(name: N): Told<N>[] {
    return this.told.filter((one) => one.name === name) as Told<N>[];
  }

  /** Fetches and reads; the status. */
  async get(url: string, init?: Parameters<ProxyManager['fetch']>[1]): Promise<number> {
    const response = await this.proxies.fetch(url, init);
    await response.text();
    return response.status;
  }

  /** Moves time on until all of these are settled. */
  settle<T>(promises: readonly Promise<T>[]): Promise<PromiseSettledResult<T>[]> {
    return this.clock.runUntil(Promise.allSettled(promises), { maxMs: 30 * 86_400_000 });
  }

  /** Keeps `workers` requests going for `forMs`; `one` sends the n-th. Returns how they ended, by status or error code. */
  async load(workers: number, forMs: number, one: (n: number) => Promise<number>): Promise<Map<unknown, number>> {
    const { clock } = this;
    const ends = new Map<unknown, number>();
    const until = clock.now() + forMs;
    let n = 0;
    const worker = async (): Promise<void> => {
      while (clock.now() < until) {
        const end = await one(n++).catch((error: { code?: unknown }) => error.code ?? String(error));
        ends.set(end, (ends.get(end) ?? 0) + 1);
      }
    };
    const all = Promise.all(Array.from({ length: workers }, worker));
    await clock.advance(forMs);
    await clock.runUntil(all, { maxMs: 30 * 86_400_000 });
    return ends;
  }

  /** To be called last: nothing is under way any more. */
  async close(): Promise<void> {
    await this.clock.runUntil(this.proxies.close(), { maxMs: 86_400_000 });
    await this.clock.runUntilIdle(1e9);
  }
}

/** The most of these spans that were open at once; one that ends when another begins is not open with it. */
export function mostAtOnce(spans: readonly (readonly [from: number, to: number])[]): number {
  const steps = spans.flatMap(([from, to]) => [[from, 1] as const, [to, -1] as const]);
  steps.sort(([a, up], [b, down]) => a - b || up - down);
  let open = 0;
  let most = 0;
  for (const [, step] of steps) most = Math.max(most, (open += step));
  return most;
}

/** How target and gateway treat what comes: shares of each, drawn anew every time. */
export interface Badness {
  readonly limited: number;
  readonly blocked: number;
  readonly broken: number;
  readonly resets: number;
  readonly redirects: number;
  readonly faults: number;
}

const share: fc.Arbitrary<number> = fc.constantFrom(0, 0, 0.1, 0.3, 1);
export const badness: fc.Arbitrary<Badness> = fc.record({
  limited: share,
  blocked: share,
  broken: share,
  resets: share,
  redirects: fc.constantFrom(0, 0, 0.3),
  faults: fc.constantFrom(0, 0, 0.1, 0.5, 1),
});
