import type { SimulatedAnswer } from '../../src/testing/simulation/world.ts';
import { SimulatedWorld } from '../../src/testing/simulation/world.ts';

export const URLS = 100_000;
export const HOURS = 8;
export const HOST = 'shop.test';
export const WINDOW_MS = 60_000;
/** The protected tier: what the site lets one IP do while it is at ease. */
export const LIMIT = 8;
const EXITS = 65;

const HOUR_MS = 3_600_000;

/**
 * A protected site with a temper: 8 a minute and IP, a quarter less for all while it must refuse every fifth and in a busy hour; an IP refused
 * ten times in ten minutes is banned for ten (fail2ban's times); two in a hundred of those at their limit get a challenge. Two short outages,
 * a gateway with a fault in a hundred, exits that change under a session.
 *
 * The number of exits and the temper are such that the article's manager comes to the success its article tells of; see bench/README.md.
 */
export function openWorld(seed: number): SimulatedWorld {
  return new SimulatedWorld({
    seed,
    pool: { exits: EXITS, sessionTtlMs: 1_800_000, churn: 0.005, faults: 0.01, resets: 0.005 },
    sites: {
      [HOST]: {
        budget: { limit: LIMIT, windowMs: WINDOW_MS },
        tightens: { refusedShare: 0.2, factor: 0.75 },
        busy: [{ fromMs: 3 * HOUR_MS, toMs: 4 * HOUR_MS, factor: 0.75 }],
        bans: { after: 10, withinMs: 600_000, forMs: 600_000 },
        challenges: 0.02,
        outages: [
          { fromMs: 2 * HOUR_MS, toMs: 2 * HOUR_MS + 90_000 },
          { fromMs: 5 * HOUR_MS, toMs: 5 * HOUR_MS + 30_000, status: 502 },
        ],
        errors: 0.002,
      },
    },
  });
}

/** How one page ended. */
export interface Ending {
  readonly ok: boolean;
  /** When it was asked for, and when it ended. */
  readonly startedAt: number;
  readonly endedAt: number;
}

/** Gets one page; `true` when it is there. */
export type Strategy = (page: number) => Promise<boolean>;

/** Opens a tunnel, sends one request, closes it: what a client does that rotates. Rejects when the gateway refuses. */
export function request(
  world: SimulatedWorld,
  session: string | undefined,
): Promise<SimulatedAnswer & { exit: string }> {
  return new Promise((resolve, reject) => {
    world.dial(session, HOST, (error, tunnel) => {
      if (tunnel === undefined) reject(error);
      else world.send(tunnel, (answer) => resolve({ ...answer, exit: tunnel.exit }));
    });
  });
}

/** Which exit a session comes up on: a tunnel to a page that says so. */
export function probe(world: SimulatedWorld, session: string): Promise<string> {
  return new Promise((resolve, reject) => {
    world.dial(session, HOST, (error, tunnel) => {
      if (tunnel === undefined) reject(error);
      else resolve(tunnel.exit);
    });
  });
}

export const sleep = (world: SimulatedWorld, ms: number): Promise<void> =>
  new Promise((resolve) => world.clock.setTimeout(resolve, ms));

/** Asks for all pages, evenly over the hours, whatever became of those before. */
export async function run(world: SimulatedWorld, strategy: Strategy, urls: number): Promise<Ending[]> {
  const gapMs = (HOURS * HOUR_MS) / URLS;
  const endings: Ending[] = [];
  const all: Promise<void>[] = [];
  await world.clock.runUntil(
    (async () => {
      for (let page = 0; page < urls; page++) {
        const startedAt = world.clock.now();
        all.push(
          strategy(page).then(
            (ok) => void endings.push({ ok, startedAt, endedAt: world.clock.now() }),
            () => void endings.push({ ok: false, startedAt, endedAt: world.clock.now() }),
          ),
        );
        await sleep(world, gapMs);
      }
      await Promise.all(all);
    })(),
    { maxMs: 30 * 24 * HOUR_MS },
  );
  return endings;
}
