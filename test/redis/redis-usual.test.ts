import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { RedisBackend } from '../../src/store/redis/redis-backend.ts';
import { localBackend } from '../../src/store/shared/local.ts';
import type {
  Backend,
  ReserveAnswer,
  ReserveStep,
  SnapshotAnswer,
  Step,
  StepAnswer,
  StepPolicy,
  StepReport,
  StepRoute,
} from '../../src/store/shared/steps.ts';
import { virtualClock } from '../../src/testing/virtual-clock.ts';
import { BREAKER, HEALTH } from '../support/adapting.ts';
import { reserveStep, stepReport, stepRoute } from '../support/plain-steps.ts';
import { type RedisServer, startRedis } from '../support/redis-server.ts';

// The script decides usual batches first and in another way: what makes a batch unusual must be noticed, and a batch that turns
// out to be unusual halfway must be as if nobody had begun with it.

let server: RedisServer;
let client: Redis;
let backends: Backend[];
let now: number;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  client = server.client();
});
afterAll(() => server[Symbol.asyncDispose]());
beforeEach(async () => {
  await client.flushall();
  now = 1000;
  const clock = { ...virtualClock(), now: () => now };
  backends = [new RedisBackend(client, { now: () => now }), localBackend({ clock })];
});

const PLAIN: StepPolicy = { limit: 3, windowMs: 1000, spacingMs: 0, rates: [] };
const offers = Array.from({ length: 6 }, (_, n) => stepRoute(`pool/${n}`, `10.0.0.${n}`));
const settle = (permits: string[], more: Partial<StepReport> = {}): Step => ({
  do: 'settle',
  reports: permits.map((permit) => stepReport(permit, more)),
});

/** The order of egresses is free. */
function ordered(answer: StepAnswer): unknown {
  const { egresses } = (answer ?? {}) as Partial<SnapshotAnswer>;
  return egresses === undefined
    ? answer
    : { ...answer, egresses: egresses.toSorted((a, b) => (a.egress < b.egress ? -1 : 1)) };
}

/** What the script answers, which is what the same decisions in TypeScript answer. */
async function take(policy: StepPolicy, ...steps: Step[]): Promise<readonly StepAnswer[]> {
  const seen = { born: 0, steps: 0, agoMs: 0 };
  const [redis, local] = await Promise.all(
    backends.map((backend) => backend.take({ target: 'shop.test', policy, seen, steps })),
  );
  expect(redis.answers.map(ordered)).toEqual(local.answers.map(ordered));
  return redis.answers;
}

async function grants(policy: StepPolicy, id: string, count: number, more?: Partial<ReserveStep>): Promise<number> {
  const [answer] = await take(policy, reserveStep(id, { count, ...more }));
  return (answer as ReserveAnswer).grants.length;
}

/** Six egresses that are known and have been usable for a while. */
async function acquaint(policy: StepPolicy, routes: readonly StepRoute[] = offers): Promise<void> {
  await take({ ...policy, limit: 1, adaptBudget: undefined }, reserveStep('first', { count: 6, offers: routes }));
  await take(
    { ...policy, limit: 1, adaptBudget: undefined },
    settle(Array.from({ length: 6 }, (_, i) => `first.${i}`)),
  );
  await take(policy, reserveStep('second'));
  await take(policy, settle(['second.0']));
  now += 5000;
}

/** So many fail one after another, but for each `well`-th. Returns whether the circuit opens by the last one. */
async function failMostly(
  policy: StepPolicy,
  call: string,
  from: number,
  count: number,
  well: number,
): Promise<boolean> {
  let last: StepAnswer = [];
  for (let k = 1; k <= count; k++) {
    expect(last).toEqual([]);
    const outcome = k % well === 0 ? 'ok' : 'target-error';
    [last] = await take(policy, settle([`${call}.${from + k - 1}`], { outcome }));
  }
  return JSON.stringify(last).includes('"open":true');
}

async function inFlight(policy: StepPolicy): Promise<number> {
  const [answer] = await take(policy, { do: 'inspect' });
  return (answer as SnapshotAnswer).active;
}

describe('a call that is asked again', () => {
  it.each([1, 3])('is answered as before, for %i permits', async (count) => {
    await acquaint(PLAIN);
    const call = reserveStep('a', { count });
    const [once] = await take(PLAIN, call);
    const [twice] = await take(PLAIN, call);
    expect(twice).toEqual(once);
    expect(await inFlight(PLAIN)).toBe(count);
  });

  it('in one batch, too', async () => {
    await acquaint(PLAIN);
    const call = reserveStep('a', { count: 2 });
    const [once, twice] = await take(PLAIN, call, call);
    expect((twice as ReserveAnswer).grants).toEqual((once as ReserveAnswer).grants);
    expect(await inFlight(PLAIN)).toBe(2);
  });
});

it('a call for nothing is given nothing', async () => {
  await acquaint(PLAIN);
  expect(await grants(PLAIN, 'a', 0)).toBe(0);
});

describe('a policy that has changed', () => {
  it('of another window counts by it', async () => {
    await acquaint(PLAIN);
    expect(await grants(PLAIN, 'a', 18)).toBe(18);
    await take(PLAIN, settle(Array.from({ length: 18 }, (_, i) => `a.${i}`)));
    now += 600;
    expect(await grants(PLAIN, 'b', 1)).toBe(0);
    expect(await grants({ ...PLAIN, windowMs: 500 }, 'c', 6)).toBe(6);
  });

  it('of a longer window counts what has cooled by the shorter one', async () => {
    const short = { ...PLAIN, windowMs: 500 };
    await acquaint(short);
    expect(await grants(short, 'a', 18)).toBe(18);
    await take(short, settle(Array.from({ length: 18 }, (_, i) => `a.${i}`)));
    now += 600;
    expect(await grants(PLAIN, 'b', 6)).toBe(0);
  });

  it('of another limit counts by it', async () => {
    await acquaint(PLAIN);
    expect(await grants(PLAIN, 'a', 12)).toBe(12);
    expect(await grants({ ...PLAIN, limit: 2 }, 'b', 6)).toBe(3);
  });

  it('of another health lets out what is out by that', async () => {
    const policy = { ...PLAIN, limit: 100, health: { ...HEALTH, minSamples: 2, baseMs: 30_000, maxEjectedShare: 0.5 } };
    await acquaint(policy);
    await grants(policy, 'a', 60);
    const all = Array.from({ length: 60 }, (_, i) => `a.${i}`);
    const [verdicts] = await take(policy, settle(all, { outcome: 'blocked' }));
    expect(verdicts).toContainEqual(expect.objectContaining({ kind: 'ejected' }));
    now += 5000;
    const shorter = { ...policy, health: { ...policy.health, baseMs: 1000 } };
    await take(shorter, reserveStep('b', { count: 3 }));
    await take(shorter, { do: 'inspect' });
    // Once it is back it is remembered to have been out: the next time it is out for longer, unless it has been well for a while.
    for (const id of ['c', 'd', 'e']) {
      now += 40_000;
      await take(shorter, reserveStep(id, { count: 12 }));
      await take(shorter, settle(Array.from({ length: 12 }, (_, i) => `${id}.${i}`)));
    }
    await take(shorter, reserveStep('f', { count: 60 }));
    await take(
      shorter,
      settle(
        Array.from({ length: 60 }, (_, i) => `f.${i}`),
        { outcome: 'blocked' },
      ),
    );
    await take(shorter, { do: 'inspect' });
  });

  it('to even spacing spaces', async () => {
    await acquaint(PLAIN);
    const evenly = { ...PLAIN, spacingMs: 300 };
    expect(await grants(evenly, 'a', 12)).toBe(6);
  });

  it('to a budget of the account counts all egresses together', async () => {
    await acquaint(PLAIN);
    expect(await grants({ ...PLAIN, account: true }, 'a', 12)).toBe(3);
  });
});

it('permits of one call keep what their own route is', async () => {
  const policy = { ...PLAIN, limit: 100, health: { ...HEALTH, minSamples: 20 } };
  const mixed = offers.map((offer, n) => ({
    ...offer,
    session: n % 2 === 0 ? `s${n}` : undefined,
    weight: n > 3 ? 3 : 1,
  }));
  await acquaint(policy, mixed);
  await take(policy, reserveStep('a', { count: 6 }));
  // A session that was refused rests for longer than anything else.
  for (let i = 0; i < 6; i++) await take(policy, settle([`a.${i}`], { outcome: 'blocked' }), { do: 'inspect' });
});

describe('a circuit', () => {
  const policy: StepPolicy = {
    ...PLAIN,
    limit: undefined,
    health: undefined,
    breaker: { ...BREAKER, failureRatio: 0.5, minCalls: 4, openMs: 500, maxOpenMs: 1000, halfOpenCalls: 2 },
  };

  it('that is open lets nothing pass', async () => {
    await acquaint(policy);
    await grants(policy, 'a', 8);
    const [verdicts] = await take(
      policy,
      settle(
        Array.from({ length: 8 }, (_, i) => `a.${i}`),
        { outcome: 'target-error' },
      ),
    );
    expect(verdicts).toMatchObject([{ kind: 'circuit', open: true }]);
    expect(await grants(policy, 'b', 4)).toBe(0);
    now += 600;
    expect(await grants(policy, 'c', 4)).toBe(2);
    // Its probes: well as they end, they are not usual.
    const [closed] = await take(policy, settle(['c.0', 'c.1']));
    expect(closed).toMatchObject([{ kind: 'circuit', open: false }]);
    expect(await grants(policy, 'd', 4)).toBe(4);
  });

  it('counts those that went well, and none of before it opened', async () => {
    await acquaint(policy);
    await grants(policy, 'a', 30);
    await take(policy, settle(['a.0', 'a.1', 'a.2', 'a.3'], { outcome: 'target-error' }));
    now += 600;
    await grants(policy, 'b', 2);
    await take(policy, settle(['b.0', 'b.1']));
    await take(policy, settle(['a.4', 'a.5', 'a.6', 'a.7', 'a.8', 'a.9']));
    await grants(policy, 'c', 20);
    await take(policy, settle(['c.0', 'c.1', 'c.2', 'c.3', 'c.4', 'c.5']));
    expect(await failMostly(policy, 'c', 6, 10, 4)).toBe(true);
  });

  it('counts no request twice when others of the batch are of another kind', async () => {
    await acquaint(policy);
    await grants(policy, 'a', 18);
    // All of these went well, but one is told of a second time: that is not usual, and all are decided again.
    await take(policy, settle(['a.0', 'a.1', 'a.2', 'a.3', 'a.4', 'a.0']));
    expect(await failMostly(policy, 'a', 5, 11, 3)).toBe(true);
  });
});

describe('a batch that turns out to be unusual', () => {
  it('has not spent anything of the rates', async () => {
    const policy: StepPolicy = { ...PLAIN, limit: 100, rates: [[10, 1000, 10]] };
    await acquaint(policy);
    // The pool of the second one has nothing: both are decided again.
    await take(policy, reserveStep('a', { count: 6 }), reserveStep('b', { pool: 'empty' }));
    expect(await grants(policy, 'c', 6)).toBe(2);
  });

  it('has not taken anything of the concurrency', async () => {
    const policy: StepPolicy = { ...PLAIN, limit: 100, concurrency: 5 };
    await acquaint(policy);
    await take(policy, reserveStep('a', { count: 3 }), reserveStep('b', { pool: 'empty' }));
    expect(await inFlight(policy)).toBe(3);
    expect(await grants(policy, 'c', 3)).toBe(2);
  });

  it('finds the places as they were before its first reserve', async () => {
    await acquaint(PLAIN);
    await take(
      PLAIN,
      reserveStep('a', { count: 4 }),
      reserveStep('b', { count: 3 }),
      reserveStep('c', { pool: 'empty' }),
    );
    await take(PLAIN, reserveStep('d', { count: 9 }));
  });

  it('leads on to reserves behind settles that have freed a slot', async () => {
    await acquaint(PLAIN);
    await grants(PLAIN, 'a', 18);
    now += 10;
    await take(PLAIN, settle(['a.0', 'a.1', 'a.2']), reserveStep('b', { count: 2 }), settle(['a.3', 'a.4']));
    now += 1000;
    await take(PLAIN, settle(['a.5']), reserveStep('c', { count: 3 }), reserveStep('d', { count: 9 }));
  });
});
