import { fullJitter, healthRegistry, parseRetryAfter, tokenBucket } from '../../src/index.ts';
import type { SimulatedWorld } from '../../src/testing/simulation/world.ts';
import { LIMIT, request, type Strategy, sleep, WINDOW_MS } from './world.ts';

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
 * The manager of the article this run is taken from: a per-IP window counted when the answer is there, random rotation, full jitter
 * (base 1 s, cap 60 s, five attempts) on 429/502/503/504, a 429 drains the IP's budget, IPs under 40 % of their last 20 retired.
 */
export function articleManager(world: SimulatedWorld): Strategy {
  const counted = new Map<string, number[]>();
  const health = healthRegistry();
  const backoff = fullJitter({ random: world.random });
  const remaining = (exit: string): number => {
    const now = world.clock.now();
    const times = (counted.get(exit) ?? []).filter((at) => at > now - WINDOW_MS);
    counted.set(exit, times);
    return LIMIT - times.length;
  };
  const exits = new Map<string, string>();
  let sessions = 0;
  return async () => {
    for (let attempt = 0; attempt < 5; attempt++) {
      // A session whose last known exit has budget and health left, else a new one.
      let session: string | undefined;
      for (const [candidate, exit] of exits) {
        if (remaining(exit) > 0 && !health.isRetired(exit) && world.random() < 0.3) {
          session = candidate;
          break;
        }
      }
      session ??= `a${sessions++}`;
      const answer = await request(world, session).catch(() => undefined);
      if (answer !== undefined) {
        const { exit, status } = answer;
        if (exits.size >= 60 && !exits.has(session)) exits.delete(exits.keys().next().value as string);
        exits.set(session, exit);
        const now = world.clock.now();
        const times = counted.get(exit) ?? [];
        times.push(now);
        if (status === 429) while (times.length < LIMIT) times.push(now);
        counted.set(exit, times);
        health.record(exit, status === 200);
        if (status === 200) return true;
        if (!RETRIED.has(status)) return false;
      }
      await sleep(world, backoff(attempt));
    }
    return false;
  };
}

/**
 * Crawlee's session pool (defaults of 3.x): a session ends after 50 uses, 50 minutes or an error score of 3 (+1 on an error, −0.5 on a
 * success) and at once on 401, 403 and 429; sessions are picked at random; three retries, and ten rotations on a block.
 */
export function crawleeSessions(world: SimulatedWorld): Strategy {
  interface CrawleeSession {
    readonly id: string;
    readonly bornAt: number;
    uses: number;
    score: number;
  }
  const MOST = 1000;
  const pool: CrawleeSession[] = [];
  let made = 0;
  const usable = (session: CrawleeSession): boolean =>
    session.uses < 50 && session.score < 3 && world.clock.now() - session.bornAt < 3_000_000;
  const pick = (): CrawleeSession => {
    if (pool.length < MOST) {
      const session = { id: `c${made++}`, bornAt: world.clock.now(), uses: 0, score: 0 };
      pool.push(session);
      return session;
    }
    const at = Math.floor(world.random() * pool.length);
    if (!usable(pool[at])) pool[at] = { id: `c${made++}`, bornAt: world.clock.now(), uses: 0, score: 0 };
    return pool[at];
  };
  return async () => {
    let retries = 0;
    let rotations = 0;
    for (;;) {
      const session = pick();
      session.uses++;
      const answer = await request(world, session.id).catch(() => undefined);
      if (answer?.status === 200) {
        session.score = Math.max(0, session.score - 0.5);
        return true;
      }
      if (answer !== undefined && [401, 403, 429].includes(answer.status)) {
        session.score = 3;
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
