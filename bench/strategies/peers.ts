import { fullJitter, healthRegistry, parseRetryAfter, tokenBucket } from '../../src/index.ts';
import type { SimulatedWorld } from '../../src/testing/simulation/world.ts';
import { LIMIT, probe, request, type Strategy, sleep, WINDOW_MS } from './world.ts';

const RETRIED = new Set([0, 429, 502, 503, 504]);

/** A session of its own for every request, up to three more tries at once. */
export function naiveRotation(world: SimulatedWorld): Strategy {
  let session = 0;
  return async () => {
    for (let attempt = 0; attempt < 4; attempt++) {
      const answer = await request(world, `n${session++}`).catch(() => undefined);
      if (answer?.status === 200) return true;
    }
    return false;
  };
}

/** As above, but five seconds between the tries, five of them. */
export function fixedInterval(world: SimulatedWorld): Strategy {
  let session = 0;
  return async () => {
    for (let attempt = 0; attempt < 5; attempt++) {
      if (attempt > 0) await sleep(world, 5000);
      const answer = await request(world, `f${session++}`).catch(() => undefined);
      if (answer?.status === 200) return true;
    }
    return false;
  };
}

/** One token bucket for the domain in front of blind rotation: what a general rate limiter gives. */
export function domainBucket(world: SimulatedWorld): Strategy {
  const bucket = tokenBucket({ limit: 240, windowMs: 60_000, burst: 20, clock: world.clock });
  const backoff = fullJitter({ random: world.random });
  let session = 0;
  return async () => {
    for (let attempt = 0; attempt < 5; attempt++) {
      await bucket.take();
      const answer = await request(world, `b${session++}`).catch(() => undefined);
      if (answer?.status === 200) return true;
      if (answer !== undefined && !RETRIED.has(answer.status) && answer.status !== 403) return false;
      await sleep(world, backoff(attempt));
    }
    return false;
  };
}

/**
 * The manager of the article this run is taken from, rebuilt from its description, and in its favour where that leaves room: a pool of sticky
 * sessions, each asked for its IP once, when it is new; one of the IPs with budget and health left at random; a per-IP window, counted before
 * sending; full jitter (base 1 s, cap 60 s, five attempts) on 429, 502, 503, 504, faults of transport and when no IP has budget; a 429
 * drains the IP's budget; IPs under 40 % of their last 20 retired (for ten minutes; 5xx not counted). A 403 is a block: counted against
 * the IP, its session exchanged, the page not tried again.
 */
export function articleManager(world: SimulatedWorld): Strategy {
  const SESSIONS = 100;
  const RETIRED_MS = 600_000;
  /** Session → the exit it was last seen at. */
  const pool = new Map<string, string>();
  const counted = new Map<string, number[]>();
  const health = healthRegistry();
  const backoff = fullJitter({ random: world.random });
  let made = 0;

  const counts = (exit: string): number[] => {
    let times = counted.get(exit);
    if (times === undefined) counted.set(exit, (times = []));
    const since = world.clock.now() - WINDOW_MS;
    while (times.length > 0 && times[0] <= since) times.shift();
    return times;
  };
  const isGood = (exit: string): boolean => counts(exit).length < LIMIT && !health.isRetired(exit);
  const pick = async (): Promise<[string, string] | undefined> => {
    const good = new Map<string, string>();
    for (const [session, exit] of pool) if (isGood(exit)) good.set(exit, session);
    if (pool.size >= SESSIONS) {
      const exits = [...good.keys()];
      const exit = exits[Math.floor(world.random() * exits.length)];
      return exit === undefined ? undefined : [good.get(exit) as string, exit];
    }
    const session = `a${made++}`;
    const exit = await probe(world, session).catch(() => undefined);
    if (exit === undefined) return undefined;
    pool.set(session, exit);
    return isGood(exit) ? [session, exit] : pick();
  };
  const judge = (session: string, exit: string, status: number): void => {
    pool.set(session, exit);
    const times = counts(exit);
    if (status === 429) while (times.length < LIMIT) times.push(world.clock.now());
    if (status < 500) health.record(exit, status === 200);
    const retired = health.isRetired(exit);
    if (retired) world.clock.setTimeout(() => health.delete(exit), RETIRED_MS);
    if (retired || status === 403) pool.delete(session);
  };
  return async () => {
    for (let attempt = 0; attempt < 5; attempt++) {
      const picked = await pick();
      if (picked !== undefined) {
        counts(picked[1]).push(world.clock.now());
        const answer = await request(world, picked[0]).catch(() => undefined);
        if (answer !== undefined) {
          judge(picked[0], answer.exit, answer.status);
          if (answer.status === 200) return true;
          if (!RETRIED.has(answer.status)) return false;
        }
      }
      if (attempt < 4) await sleep(world, backoff(attempt));
    }
    return false;
  };
}

/**
 * Crawlee 3's session pool, defaults: a session ends after 50 uses (counted when they end), 50 minutes or an error score of 3 (+1 on an
 * error, −0.5 on a success), and at once on 401, 403, 429 and on a proxy's fault; new ones until there are 1,000, then one at random, and
 * when that one has ended all that have are cleared away. Three retries for errors, ten rotations for blocks, none of them after a wait.
 */
export function crawleeSessions(world: SimulatedWorld): Strategy {
  interface CrawleeSession {
    readonly id: string;
    readonly bornAt: number;
    uses: number;
    score: number;
  }
  const MOST = 1000;
  let pool: CrawleeSession[] = [];
  let made = 0;
  const usable = (session: CrawleeSession): boolean =>
    session.uses < 50 && session.score < 3 && world.clock.now() - session.bornAt < 3_000_000;
  const pick = (): CrawleeSession => {
    if (pool.length >= MOST) {
      const picked = pool[Math.floor(world.random() * pool.length)];
      if (usable(picked)) return picked;
      pool = pool.filter(usable);
    }
    const session = { id: `c${made++}`, bornAt: world.clock.now(), uses: 0, score: 0 };
    pool.push(session);
    return session;
  };
  return async () => {
    let retries = 0;
    let rotations = 0;
    for (;;) {
      const session = pick();
      const status = (await request(world, session.id).catch(() => undefined))?.status ?? 0;
      session.uses++;
      if (status === 200) {
        session.score = Math.max(0, session.score - 0.5);
        return true;
      }
      if (status === 0 || status === 401 || status === 403 || status === 429) {
        session.score += 3;
        if (++rotations > 10) return false;
      } else {
        session.score += 1;
        if (++retries > 3) return false;
      }
    }
  };
}

/** Waits as the site says, where it says. For completeness of the comparison: blind rotation with good manners. */
export function politeRotation(world: SimulatedWorld): Strategy {
  let session = 0;
  const backoff = fullJitter({ random: world.random });
  return async () => {
    for (let attempt = 0; attempt < 5; attempt++) {
      const answer = await request(world, `p${session++}`).catch(() => undefined);
      if (answer?.status === 200) return true;
      const waitMs = parseRetryAfter(answer?.headers['retry-after'], world.clock.wallNow());
      await sleep(world, waitMs ?? backoff(attempt));
    }
    return false;
  };
}
