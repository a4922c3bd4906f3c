import type { PacelineEventName, ProxyManagerOptions } from 'paceline';
import { expect } from 'vitest';
import { type Crew, within } from './crew.ts';
import { Gone, type Member } from './member.ts';
import type { Role, StorePlace } from './protocol.ts';
import { World, type WorldOptions } from './world.ts';

export interface Scenario extends WorldOptions {
  readonly store: StorePlace;
  readonly onStoreError?: 'local' | 'wait' | 'fail';
  /** @default 8 */
  readonly workers?: number;
  /** Requests that each worker has under way at a time. @default 6 */
  readonly width?: number;
  /** How long new pages are asked for, in milliseconds; at least until the weather is over. */
  readonly forMs: number;
  /** Requests in flight: at the target by each name, and over the pool. */
  readonly concurrency?: number;
  readonly poolConcurrency?: number;
  /** Each worker sticks to a session of its own. */
  readonly sticky?: boolean;
  /** The rest of a worker's options. */
  readonly manager?: ProxyManagerOptions;
  /** What goes wrong meanwhile. */
  readonly weather?: (fleet: Fleet) => Promise<void>;
  /** Workers that it kills. */
  readonly kills?: number;
}

/** How a page ended for good. */
interface End {
  readonly id: number;
  readonly status: number | undefined;
  readonly code: string | undefined;
  readonly why: string | undefined;
}

interface Told {
  readonly at: number;
  readonly worker: number;
  readonly name: PacelineEventName;
  readonly event: Record<string, unknown>;
}

const RATIO = 0.2;
const FLOOR_PER_SECOND = 1;

/** Many workers fetch pages of one target through one gateway; everything that can be counted is. */
export class Fleet implements AsyncDisposable {
  readonly world: World;
  readonly members: Member[] = [];
  readonly ends: End[] = [];
  readonly told: Told[] = [];
  /** Calls of fetch; those that died with their worker are made again by another. */
  requests = 0;
  /** Workers that have taken part. */
  taken = 0;
  killed = 0;
  /** From the first request to the last answer, in milliseconds. */
  tookMs = 0;
  private readonly scenario: Scenario;
  private readonly crew: Crew;
  private readonly again: number[] = [];
  private readonly loops: Set<Promise<void>> = new Set();
  private readonly under: Set<number> = new Set();
  private nextId = 0;
  private open = true;

  private constructor(scenario: Scenario, crew: Crew, world: World) {
    this.scenario = scenario;
    this.crew = crew;
    this.world = world;
  }

  /** A fleet whose workers are all there, and have not begun. */
  static async muster(crew: Crew, scenario: Scenario): Promise<Fleet> {
    const { workers = 8, kills = 0 } = scenario;
    const world = await World.open(scenario);
    const fleet = new Fleet(scenario, crew, world);
    try {
      await crew.stock(workers + kills);
      await Promise.all(Array.from({ length: workers }, () => fleet.recruit()));
    } catch (error) {
      await world[Symbol.asyncDispose]();
      throw error;
    }
    return fleet;
  }

  /** The whole scenario, until every page has come and every worker has left. */
  static async run(crew: Crew, scenario: Scenario): Promise<Fleet> {
    const fleet = await Fleet.muster(crew, scenario);
    await using _ = fleet;
    await fleet.load(scenario.forMs);
    await fleet.leave();
    return fleet;
  }

  get sends(): number {
    return this.world.arrivals.length;
  }

  /** Of the pages that the budget allows at most, the share that was sent. */
  get used(): number {
    return this.sends / (this.tookMs / 1000) / this.mostPerSecond;
  }

  /** Pages per second that the budget allows at most. */
  get mostPerSecond(): number {
    const { limit, windowMs } = this.scenario.budget;
    return (this.world.gateway.exits.length * limit * 1000) / windowMs;
  }

  /** All workers ask for pages, as fast as they get them. */
  async load(forMs: number): Promise<void> {
    const begun = performance.now();
    const first = this.requests;
    for (const member of this.members) this.employ(member);
    await Promise.all([sleep(forMs), this.scenario.weather?.(this)]);
    this.open = false;
    const asked = this.requests - first;
    await within(this.done(), 20_000, 'pages are still being waited for').catch((error: Error) => {
      const pending = [...this.under];
      throw new Error(`${error.message}: ${pending.length} of ${asked}, ${pending.slice(0, 20)}`);
    });
    this.tookMs = performance.now() - begun;
  }

  /** One page by one worker. */
  async fetch(member: Member, url: string, session?: string): Promise<End> {
    const id = this.nextId++;
    this.requests++;
    const { status, code, why } = await member.ask({ do: 'fetch', id, url, session }, 'answer');
    return { id, status, code, why };
  }

  /** SIGKILL to a worker that has requests under way, if there is one; another takes its place. */
  async killOne(): Promise<Member> {
    const busy = this.members.filter((member) => member.isBusy);
    const victim = busy[this.killed % busy.length] ?? this.members[0];
    await this.kill(victim);
    const substitute = await this.recruit();
    if (this.open) this.employ(substitute);
    return victim;
  }

  /** SIGKILL; resolves once it is gone. */
  async kill(victim: Member): Promise<void> {
    this.dismiss(victim);
    this.killed++;
    await victim.kill();
  }

  /** All workers close what they have. */
  async leave(): Promise<void> {
    await Promise.all(this.members.splice(0).map((member) => this.crew.leave(member)));
  }

  /** How the pages ended: how many of each status, or code of an error. */
  endings(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { status, code } of this.ends) counts[status ?? code!] = (counts[status ?? code!] ?? 0) + 1;
    return counts;
  }

  events(name: PacelineEventName): Told[] {
    return this.told.filter((one) => one.name === name);
  }

  /** Workers that have not left by then are killed: something went wrong, and they must not disturb the next scenario. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.open = false;
    await Promise.all(this.members.splice(0).map((member) => member.kill()));
    await this.world[Symbol.asyncDispose]();
  }

  private async recruit(): Promise<Member> {
    const { store, onStoreError } = this.scenario;
    const member = await this.crew.join({ store, onStoreError, manager: this.options() } satisfies Role);
    const worker = this.taken++;
    member.onEvent = ({ name, event }) => {
      this.told.push({ at: performance.now(), worker, name, event: event as Record<string, unknown> });
    };
    this.members.push(member);
    return member;
  }

  private dismiss(member: Member): void {
    if (this.members.includes(member)) this.members.splice(this.members.indexOf(member), 1);
  }

  private options(): ProxyManagerOptions {
    const { budget, concurrency, poolConcurrency, manager } = this.scenario;
    return {
      pools: {
        p: { gateway: this.world.gateway.url, ...(poolConcurrency !== undefined && { concurrency: poolConcurrency }) },
      },
      targets: [
        {
          match: 'a.test',
          budget: { ...budget, spacing: 'burst' },
          ...(concurrency !== undefined && { concurrency }),
        },
        {
          match: 'b.test',
          budget: { ...budget, spacing: 'burst' },
          ...(concurrency !== undefined && { concurrency }),
        },
      ],
      ...manager,
      retry: { baseMs: 1, capMs: 50, ratio: RATIO, floorPerSecond: FLOOR_PER_SECOND, ...manager?.retry },
      timeouts: { connectMs: 5000, headersMs: 5000, bodyMs: 5000, ...manager?.timeouts },
    };
  }

  /** Some requests at a time, one after another, as long as there is something to do and the worker lives. */
  private employ(member: Member): void {
    const { width = 6, sticky, concurrency } = this.scenario;
    const session = sticky ? `worker${this.taken}x${this.members.indexOf(member)}` : undefined;
    for (let i = 0; i < width; i++) {
      const host = concurrency !== undefined && i % 3 === 2 ? 'b.test' : 'a.test';
      const loop = this.work(member, host, session).finally(() => this.loops.delete(loop));
      this.loops.add(loop);
    }
  }

  private async work(member: Member, host: string, session: string | undefined): Promise<void> {
    for (;;) {
      const id = this.again.shift() ?? (this.open ? this.nextId++ : undefined);
      if (id === undefined || !this.members.includes(member)) {
        if (id !== undefined) this.again.push(id);
        return;
      }
      this.requests++;
      this.under.add(id);
      try {
        const order = { do: 'fetch', id, url: `http://${host}/${id}`, session } as const;
        const { status, code, why } = await member.ask(order, 'answer');
        this.ends.push({ id, status, code, why });
        // As a program would, that is told that it cannot go on now.
        if (status === undefined) await sleep(50);
      } catch (error) {
        // Its pages are for the others.
        this.again.push(id);
        if (!(error instanceof Gone)) throw error;
        this.dismiss(member);
        return;
      } finally {
        this.under.delete(id);
      }
    }
  }

  private async done(): Promise<void> {
    while (this.loops.size > 0) await Promise.all(this.loops);
    if (this.again.length === 0) return;
    if (this.members.length === 0) throw new Error(`no worker is left for ${this.again.length} pages`);
    for (const member of this.members) this.employ(member);
    await this.done();
  }
}

/** What holds in every scenario; `explained`: what pages may end with besides 200. */
export function expectPromises(fleet: Fleet, scenario: Scenario, explained: readonly string[] = []): void {
  const { world, requests, sends, taken, tookMs } = fleet;
  const { concurrency = Infinity, poolConcurrency = Infinity, budget } = scenario;
  // P1
  expect(world.worst, 'most in one window').toBeLessThanOrEqual(budget.limit);
  expect(world.overBudget, 'over budget').toBe(0);
  // P3
  const floor = FLOOR_PER_SECOND * 10 * Math.ceil(tookMs / 10_000);
  expect(sends, 'sends').toBeLessThanOrEqual(requests * (1 + RATIO) + taken * floor);
  // P4
  for (const host of ['a.test', 'b.test']) {
    expect(world.mostAtOnce(host), `at once at ${host}`).toBeLessThanOrEqual(concurrency);
  }
  expect(world.mostAtOnce(), 'at once in the pool').toBeLessThanOrEqual(poolConcurrency);
  // The work is done.
  const others = Object.keys(fleet.endings()).filter((end) => end !== '200' && !explained.includes(end));
  expect(others, `ends: ${JSON.stringify(fleet.endings())} ${fleet.ends.find(({ why }) => why)?.why}`).toEqual([]);
  expect(fleet.ends.length).toBeGreaterThan(0);
}

/** Every so often, `times` times. */
export async function every(ms: number, times: number, what: () => unknown): Promise<void> {
  for (let i = 0; i < times; i++) {
    await sleep(ms);
    await what();
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
