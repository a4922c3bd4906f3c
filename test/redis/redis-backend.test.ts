import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { StoreError } from '../../src/errors.ts';
import { keysOf } from '../../src/store/redis/keys.ts';
import { RedisBackend } from '../../src/store/redis/redis-backend.ts';
import type {
  Batch,
  ReserveAnswer,
  SnapshotAnswer,
  Step,
  StepPolicy,
  StepRoute,
} from '../../src/store/shared/steps.ts';
import { HEALTH } from '../support/adapting.ts';
import { reserveStep, stepReport, stepRoute } from '../support/plain-steps.ts';
import { type RedisServer, startRedis } from '../support/redis-server.ts';

let server: RedisServer;
let client: Redis;
let backend: RedisBackend;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  client = server.client();
});
afterAll(() => server[Symbol.asyncDispose]());
beforeEach(async () => {
  await client.flushall();
  backend = new RedisBackend(client);
});

const POLICY: StepPolicy = { limit: 2, windowMs: 1000, spacingMs: 0, rates: [[100, 1000, 50]], health: HEALTH };
const UNSEEN = { born: 0, steps: 0, agoMs: 0 };

const route = (n: number, pool = 'p'): StepRoute => stepRoute(`${pool}/${n}`, `10.0.0.${n}`, { pool });

const reserve = (id: string, count = 1, offers: StepRoute[] = [1, 2, 3].map((n) => route(n)), pool = 'p'): Step =>
  reserveStep(id, { count, offers, pool });

const settle = (permits: string[], outcome: 'ok' | 'blocked', end = true): Step => ({
  do: 'settle',
  reports: permits.map((permit) => stepReport(permit, { outcome, end, keepMs: 5000 })),
});

const batch = (steps: Step[], more: Partial<Batch> = {}): Batch => ({
  target: 'shop.test',
  policy: POLICY,
  seen: UNSEEN,
  steps,
  ...more,
});

const calls = async (command: string): Promise<number> => {
  const stats = await client.info('commandstats');
  return Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
};

describe('the calls', () => {
  it('all of one tick about one target are one, and each has its own answers', async () => {
    await backend.take(batch([]));
    await client.config('RESETSTAT');
    const [one, two, other, three] = await Promise.all([
      backend.take(batch([reserve('a')])),
      backend.take(batch([reserve('b'), { do: 'inspect' }])),
      backend.take(batch([reserve('a')], { target: 'other.test' })),
      backend.take(batch([])),
    ]);
    expect(await calls('evalsha')).toBe(2);
    expect([one, two, other, three].map(({ answers }) => answers.length)).toEqual([1, 2, 1, 0]);
    expect((two.answers[1] as SnapshotAnswer).active).toBe(2);
    expect(other.steps).toBe(1);
    expect(one.steps).toBe(2);
  });

  it('more than Redis is to be kept from others for is divided', async () => {
    await backend.take(batch([]));
    await client.config('RESETSTAT');
    const all = await Promise.all(['a', 'b', 'c'].map((id) => backend.take(batch([reserve(id, 300)]))));
    expect(await calls('evalsha')).toBe(3);
    expect(all.flatMap(({ answers }) => (answers[0] as ReserveAnswer).grants).length).toBe(6);
  });

  it('a script that Redis has forgotten is sent once more, and is known then', async () => {
    await backend.take(batch([reserve('a')]));
    await client.script('FLUSH');
    await client.config('RESETSTAT');
    expect((await backend.take(batch([reserve('b')]))).steps).toBe(2);
    expect((await backend.take(batch([reserve('c')]))).steps).toBe(3);
    expect([await calls('eval'), await calls('evalsha')]).toEqual([1, 2]);
  });

  it('a backend that is closed says so', async () => {
    backend.close();
    await expect(backend.take(batch([]))).rejects.toThrow(new StoreError('the Redis store is closed'));
  });
});

describe('the keys', () => {
  it('every one expires, whatever was done', async () => {
    const routes = [1, 2, 3, 4].map((n) => route(n));
    await backend.take(batch([reserve('a', 8, routes), reserve('q', 1, [route(9, 'q')], 'q')]));
    // The last permit of all is over: the keys of the permits are gone, and come anew.
    await backend.take(batch([{ do: 'cancel', permits: [...Array(8).keys()].map((n) => `a.${n}`).concat('q.0') }]));
    for (let i = 0; i < 12; i++) {
      const pinned = { ...reserve(`e${i}`, 1, []), pin: route(1) } as Step;
      await backend.take(batch([pinned, settle([`e${i}.0`], 'blocked')], { policy: { ...POLICY, limit: 1e6 } }));
    }
    await backend.take(batch([reserve('b', 3), settle(['b.0'], 'ok', false), reserve('r', 1, [route(8, 'r')], 'r')]));
    const keys = (await client.keys('*')).sort();
    expect(keys).toEqual(
      ['egresses', 'gate', 'lane:p', 'lane:q', 'lane:r', 'out', 'permits', 'until'].map(
        (name) => `paceline:{shop.test}:${name}`,
      ),
    );
    for (const key of keys) expect(await client.pttl(key), key).toBeGreaterThan(60_000);
  });

  it('those that become empty and are made anew in one step expire, too', async () => {
    await backend.take(batch([reserve('a')]));
    await backend.take(batch([{ do: 'cancel', permits: ['a.0'] }, reserve('b')]));
    for (const name of ['permits', 'until']) {
      expect(await client.pttl(`paceline:{shop.test}:${name}`), name).toBeGreaterThan(60_000);
    }
  });

  it('what nobody uses is gone in the end, and that is no loss', async () => {
    const { born, steps } = await backend.take(batch([reserve('a')]));
    const left = await client.pttl('paceline:{shop.test}:gate');
    // What is gone was seen longer ago than it lives at the least.
    await client.flushall();
    const seen = { born, steps, agoMs: 61_000 };
    expect(left).toBeGreaterThan(seen.agoMs);
    expect((await backend.take(batch([reserve('b')], { seen }))).setBack).toBe(false);
  });

  it('of an odd target have its tag all the same, and no other target has it', () => {
    const targets = ['', '{', '}', '{}', '}{', 'a}b', 'a{b', '%', '%7b', 'a\nb', 'é'];
    const tags = targets.map((target) => {
      const [tag, ...others] = new Set(keysOf('x:', target).map((key) => /^[^{]*\{([^}]*)\}/.exec(key)?.[1]));
      expect(others).toEqual([]);
      expect(tag).not.toBe('');
      return tag;
    });
    expect(new Set(tags).size).toBe(targets.length);
    expect(() => new RedisBackend(client, { prefix: 'a{b' })).toThrow('prefix');
  });

  it('when Redis has thrown out a part of them, all begins anew, after a rest', async () => {
    for (const part of ['permits', 'egresses', 'gate']) {
      await client.flushall();
      const seen = { ...(await backend.take(batch([reserve('a', 2)]))), agoMs: 0 };
      await client.del(`paceline:{shop.test}:${part}`);
      const { setBack, answers } = await backend.take(batch([reserve('b'), { do: 'inspect' }], { seen }));
      expect(setBack, part).toBe(true);
      expect(answers[0]).toMatchObject({ grants: [], limiting: 'target', retryInMs: 1000 });
      expect(answers[1]).toMatchObject({ active: 0, egresses: [] });
    }
  });

  it('that somebody else uses are named', async () => {
    for (const name of ['gate', 'egresses', 'permits', 'until']) {
      await client.flushall();
      await backend.take(batch([reserve('a', 2)]));
      const key = `paceline:{shop.test}:${name}`;
      await client.del(key);
      await (name === 'gate' ? client.lpush(key, 'mine') : client.set(key, 'mine'));
      const failed = await backend.take(batch([reserve('b')])).catch((error: unknown) => error);
      expect(failed).toBeInstanceOf(StoreError);
      expect(String(failed)).toContain(`in use for something else`);
      expect(String(failed)).toContain(key);
    }
    await client.set('paceline:{shop.test}:gate', 'garbage');
    await expect(backend.take(batch([]))).rejects.toThrow(/holds something else.*\{shop\.test\}:gate/);
  });
});
