import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { RedisBackend } from '../../src/store/redis/redis-backend.ts';
import type { ReserveAnswer, ReserveStep, Step, StepAnswer, StepPolicy } from '../../src/store/shared/steps.ts';
import { reserveStep, stepReport, stepRoute } from '../support/plain-steps.ts';
import { type RedisServer, startRedis } from '../support/redis-server.ts';

let server: RedisServer;
let client: Redis;
let backend: RedisBackend;
let now: number;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  client = server.client();
});
afterAll(() => server[Symbol.asyncDispose]());
beforeEach(async () => {
  await client.flushall();
  now = 1000;
  backend = new RedisBackend(client, { now: () => now });
});

const DEADLINE_MS = 500;
const POLICY: StepPolicy = { limit: 3, windowMs: 1000, spacingMs: 0, rates: [] };

const offers = [1, 2, 3].map((n) => stepRoute(`p/${n}`, `10.0.0.${n}`, { pool: 'p' }));
const reserve = (id: string, count: number, more: Partial<ReserveStep> = {}): ReserveStep =>
  reserveStep(id, { count, pool: 'p', offers, deadlineMs: DEADLINE_MS, ...more });

const settle = (permits: string[], end = true): Step => ({
  do: 'settle',
  reports: permits.map((permit) => stepReport(permit, { end, keepMs: 5000 })),
});

async function take(...steps: Step[]): Promise<readonly StepAnswer[]> {
  const seen = { born: 0, steps: 0, agoMs: 0 };
  return (await backend.take({ target: 'shop.test', policy: POLICY, seen, steps })).answers;
}
const take1 = async (step: ReserveStep): Promise<ReserveAnswer> => (await take(step))[0] as ReserveAnswer;
const until = (): Promise<string[]> => client.zrange('paceline:{shop.test}:until', '0', '-1');
const inFlight = async (): Promise<number> => client.hlen('paceline:{shop.test}:permits');

/** All three egresses are known, and have waited a while: that is the usual way, in which a call stands for its permits. */
async function acquaint(): Promise<void> {
  await take(reserve('first', 9));
  await take(settle(Array.from({ length: 9 }, (_, i) => `first.${i}`)));
  now += 1050;
}

describe.each([
  ['new', false, ['a+3', 'a.0', 'a.1', 'a.2']],
  ['known', true, ['a+3']],
])('when permits end by themselves, of egresses that are %s,', (_, known, names) => {
  beforeEach(async () => {
    if (known) await acquaint();
  });

  it('goes by the call, or by permits, too', async () => {
    await take(reserve('a', 3));
    expect(await until()).toEqual(names);
  });

  it('is forgotten of one as soon as it is settled', async () => {
    await take(reserve('a', 1));
    await take(reserve('b', 1));
    expect(await until()).toEqual(['a.0', 'b.0']);
    await take(settle(['a.0']));
    expect(await until()).toEqual(['b.0']);
    await take(reserve('c', 1), settle(['c.0']));
    expect(await until()).toEqual(['b.0']);
    await take(settle(['b.0']));
    expect([await until(), await inFlight()]).toEqual([[], 0]);
  });

  it('is kept of several until nothing is in flight', async () => {
    await take(reserve('a', 3));
    await take(reserve('b', 1));
    await take(settle(['a.0', 'a.1', 'a.2']));
    expect(await until()).toEqual(['a+3', 'b.0']);
    await take(settle(['b.0']));
    expect(await until()).toEqual([]);
  });

  it('is kept of a body that is being read, and forgotten with its end', async () => {
    await take(reserve('a', 2), reserve('b', 1));
    await take(settle(['a.1'], false));
    expect(await until()).toContain('a.1');
    await take(settle(['a.1']));
    expect(await until()).not.toContain('a.1');
    expect(await inFlight()).toBe(2);
  });

  it('comes for those of a call that nobody settled, and for no other', async () => {
    await take(reserve('a', 3));
    await take(settle(['a.1']), settle(['a.2'], false));
    now += DEADLINE_MS - 1;
    await take(settle([]));
    expect(await inFlight()).toBe(2);
    now += 1;
    await take(settle([]));
    // The body is read on; what was lost cools from here.
    expect(await inFlight()).toBe(1);
    expect(await until()).toEqual(['a+3', 'a.2']);
    now += 5000;
    await take(settle([]));
    expect([await inFlight(), await until()]).toEqual([0, []]);
  });
});

it.each([0, 50])('a call that comes twice in one batch is taken once (of egresses known for %i ms)', async (ms) => {
  if (ms > 0) {
    await take(reserve('first', 3));
    await take(settle(['first.0', 'first.1', 'first.2']));
    now += ms;
  }
  const [one, two] = await take(reserve('a', 2), reserve('a', 2));
  expect((one as ReserveAnswer).grants).toHaveLength(2);
  expect((two as ReserveAnswer).grants).toEqual((one as ReserveAnswer).grants);
  expect(await inFlight()).toBe(2);
});

it('all keys live for as long as a permit may last, also one on an egress that is known', async () => {
  await take(reserve('a', 1), settle(['a.0']));
  now += 50;
  await take(reserve('b', 1, { deadlineMs: 600_000 }));
  for (const key of ['gate', 'egresses', 'permits', 'until', 'lane:p']) {
    expect(await client.pttl(`paceline:{shop.test}:${key}`), key).toBeGreaterThan(600_000);
  }
});

it('what is kept of an egress does not grow with its use', async () => {
  const length = (): Promise<number> => client.hstrlen('paceline:{shop.test}:egresses', '10.0.0.1');
  const offers = reserve('x', 1).offers.slice(0, 1);
  const lengths: number[] = [];
  for (let i = 0; i < 30; i++) {
    await take(reserve(`a${i}`, 1, { offers }));
    now += 5;
    await take(settle([`a${i}.0`]));
    lengths.push(await length());
    now += i % 3 === 0 ? 1200 : 100;
  }
  expect(Math.max(...lengths)).toBe(Math.max(...lengths.slice(0, 6)));
});

it('a call whose first permit is over is known by the others, and is not taken twice', async () => {
  const only = reserve('a', 3, { deadlineMs: 100_000 }).offers.slice(0, 1);
  await take(reserve('a', 3, { offers: only, deadlineMs: 100_000 }));
  await take(settle(['a.0', 'a.1']));
  now = 1400;
  await take(settle(['a.2']));
  now = 2050;
  await take(reserve('b', 1, { deadlineMs: 100_000 - 1 }));
  now = 2100;
  // A slot that is free, and one that is booked for 2400 and so lasts for longer.
  const call = reserve('late', 2, { offers: [], horizonMs: 1000 });
  const { grants } = await take1(call);
  expect(grants.map(([n, , startInMs]) => [n, startInMs])).toEqual([
    [0, 0],
    [1, 300],
  ]);
  now = 2100 + DEADLINE_MS;
  const again = await take1(call);
  expect(again.grants.map(([n]) => n)).toEqual([1]);
  expect(again.limiting).toBe('budget');
  now = 2400 + DEADLINE_MS;
  await take(settle([]));
  expect(await until()).toEqual(['b.0']);
});

describe('at a deadline within the same microsecond that has not come yet', () => {
  const LONGER_MS = DEADLINE_MS + 0.0006;
  const nearly = (): void => {
    now += DEADLINE_MS + 0.0002;
  };

  it('a permit goes on, and ends when it has', async () => {
    await take(reserve('b', 1, { deadlineMs: 100_000 }));
    await take(reserve('a', 1, { deadlineMs: LONGER_MS }));
    nearly();
    await take(settle([]));
    expect(await until()).toEqual(['a.0', 'b.0']);
    now += 1;
    await take(settle([]));
    expect([await until(), await inFlight()]).toEqual([['b.0'], 1]);
  });

  it('until does not lose its own expiry', async () => {
    await acquaint();
    await take(reserve('a', 2, { deadlineMs: LONGER_MS }));
    expect(await until()).toEqual(['a+2']);
    nearly();
    await take(settle([]));
    expect(await until()).toEqual(['a+2']);
    expect(await client.pttl('paceline:{shop.test}:until')).toBeGreaterThan(0);
  });
});
