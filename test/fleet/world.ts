import { seededRandom } from 'paceline';
import {
  type Arrival,
  countOver,
  type MockGateway,
  type MockTarget,
  mockGateway,
  mockTarget,
  type TargetReply,
  worstWindow,
} from 'paceline/testing';
import { mostAtOnce } from '../support/stage.ts';

export interface WorldOptions {
  readonly seed?: number;
  readonly exits?: number;
  readonly assign?: 'random' | 'round-robin';
  readonly budget: { readonly limit: number; readonly windowMs: number };
  /** From a request's arrival to its answer, in milliseconds. @default [5, 60] */
  readonly latencyMs?: readonly [min: number, max: number];
  /** The share of requests that are answered 503, and again of those whose connection breaks before the answer. @default 0 */
  readonly flaky?: number;
  /** What the target says to an IP, if not the usual. */
  readonly answer?: (ip: string) => TargetReply | undefined;
}

/** The one target of a fleet, under the names a.test and b.test, the one gateway before it, and what they saw. */
export class World implements AsyncDisposable {
  readonly target: MockTarget;
  readonly gateway: MockGateway;
  private readonly budget: WorldOptions['budget'];
  private readonly spans: { readonly host: string; readonly from: number; to: number }[];

  private constructor(budget: WorldOptions['budget'], target: MockTarget, gateway: MockGateway, spans: World['spans']) {
    this.budget = budget;
    this.target = target;
    this.gateway = gateway;
    this.spans = spans;
  }

  static async open(options: WorldOptions): Promise<World> {
    const { seed = 1, exits = 8, assign = 'random', budget, latencyMs: [min, max] = [5, 60] } = options;
    const { flaky = 0, answer } = options;
    const random = seededRandom(seed);
    const spans: World['spans'] = [];
    const target = await mockTarget({
      handler: async ({ host, ip }) => {
        const span = { host, from: performance.now(), to: Infinity };
        spans.push(span);
        await new Promise((resolve) => setTimeout(resolve, min + (max - min) * random()));
        span.to = performance.now();
        if (answer !== undefined) return answer(ip);
        const dice = random();
        if (dice < flaky) return { status: 503 };
        return dice < 2 * flaky ? { reset: true } : undefined;
      },
    });
    const hosts = { 'a.test': target.url, 'b.test': target.url };
    const gateway = await mockGateway({ exits, assign, seed, hosts });
    return new World(budget, target, gateway, spans);
  }

  get arrivals(): readonly Arrival[] {
    return this.target.arrivals;
  }

  /** How many arrivals were beyond the budget of their name and IP. */
  get overBudget(): number {
    const { limit, windowMs } = this.budget;
    return this.times().reduce((sum, times) => sum + countOver(times, limit, windowMs), 0);
  }

  /** The most arrivals of one name and IP in any half-open window. */
  get worst(): number {
    return Math.max(0, ...this.times().map((times) => worstWindow(times, this.budget.windowMs)));
  }

  /** The most requests that the target was at work on at once, of one name or of all. */
  mostAtOnce(host?: string): number {
    const seen = this.spans.filter((span) => host === undefined || span.host === host);
    return mostAtOnce(seen.map(({ from, to }) => [from, to]));
  }

  /** How many sessions the gateway has been asked for. */
  get sessions(): number {
    return Object.keys(this.gateway.stats().sessions).length;
  }

  private times(): number[][] {
    const byBudget = Map.groupBy(this.arrivals, ({ host, ip }) => `${host} ${ip}`);
    return [...byBudget.values()].map((arrivals) => arrivals.map(({ at }) => at));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.gateway.close();
    await this.target.close();
  }
}
