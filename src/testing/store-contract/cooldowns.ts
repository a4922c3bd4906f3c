import type { Grant, QuotaReport } from '../../store/store.ts';
import { like } from './like.ts';
import { HEALTH, proxies, ROOMY, TARGET } from './scenery.ts';
import { type Cases, kinds, type Stage } from './stage.ts';

const one = { limit: 1 };

const cooldown = (egress: string | undefined, forMs: number): object => ({
  kind: 'cooldown',
  target: TARGET,
  egress,
  forMs,
});

/** Each of so many is told to wait: that long. */
async function limited(at: Stage, grants: readonly Grant[], ...waits: number[]): Promise<void> {
  for (const [i, retryAfterMs] of waits.entries()) await at.answer(grants[i], 'rate-limited', { retryAfterMs });
}

const quota = (report: Partial<QuotaReport>): { quota: QuotaReport } => ({
  quota: { spacingMs: 0, forMs: 1000, exhausted: false, account: false, ...report },
});

/** Who is left alone, and for how long. */
export const cooldowns: Cases = {
  'cooldown: Retry-After holds for its egress, with any outcome, and is told': async (stage) => {
    for (const outcome of ['rate-limited', 'target-error', 'ok', 'blocked'] as const) {
      const at = await stage(proxies(1), { limit: 5 });
      like(await at.answer(await at.grant(), outcome, { retryAfterMs: 700 }), [cooldown('pool/1', 700)]);
      like(await at.egress('pool/1'), { cooldownMs: 700, usableInMs: 700, remaining: 0 });
      await at.refusedUntil('cooldown', 700);
    }
  },

  'cooldown: a shorter Retry-After does not end a longer one': async (stage) => {
    const at = await stage(proxies(1));
    const [first, second] = await at.grants(2);
    await at.answer(first, 'rate-limited', { retryAfterMs: 700 });
    await at.answer(second, 'rate-limited', { retryAfterMs: 10 });
    await at.refused('cooldown', 700);
  },

  'cooldown: rate-limited without Retry-After is a window': async (stage) => {
    const at = await stage(proxies(1), { limit: 9 });
    like(await at.answer(await at.grant(), 'rate-limited'), [cooldown('pool/1', 100)]);
    await at.refusedUntil('cooldown', 100);
  },

  'cooldown: rate-limited with a Retry-After of nothing is none': async (stage) => {
    const at = await stage(proxies(1), { limit: 9 });
    like(await at.answer(await at.grant(), 'rate-limited', { retryAfterMs: 0 }), []);
    await at.grant();
  },

  'cooldown: the other egresses go on': async (stage) => {
    const at = await stage(proxies(2), { limit: 9 });
    await at.answer(await at.grant(), 'rate-limited', { retryAfterMs: 700 });
    like((await at.grant()).route.id, 'pool/2');
  },

  'cooldown: three egresses refused within a window, and the target rests for the longest of it': async (stage) => {
    const at = await stage(proxies(5), one);
    const grants = await at.grants(4);
    await limited(at, grants, 500, 900);
    await at.grant();
    like(await at.answer(grants[2], 'rate-limited', { retryAfterMs: 400 }), [
      cooldown('pool/3', 400),
      cooldown(undefined, 900),
    ]);
    like(await at.target(), { restMs: 900 });
    await at.close(at.routes[3]);
    await at.refused('target', 900);
    await at.pass(899);
    await at.refused('target', 1);
    await at.pass(1);
    await at.grant();
  },

  'cooldown: one that is told a shorter time later is to be waited for all the same': async (stage) => {
    const at = await stage(proxies(3));
    const grants = await at.grants(6);
    await limited(at, grants, 900, 10, 50);
    await at.answer(grants[4], 'rate-limited', { retryAfterMs: 50 });
    like(await at.target(), { restMs: 900 });
  },

  'cooldown: one egress refused three times is not three': async (stage) => {
    const at = await stage(proxies(2), { limit: 5 });
    await limited(at, await at.grants(5), 500, 500, 500, 500);
    like((await at.grant()).route.id, 'pool/2');
    like(await at.target(), { restMs: 0 });
  },

  'cooldown: three refusals that do not share a window are not three': async (stage) => {
    const at = await stage(proxies(4), one);
    const grants = await at.grants(3);
    await limited(at, grants, 500);
    await at.pass(100);
    await limited(at, grants.slice(1), 500, 500);
    like((await at.grant()).route.id, 'pool/4');
  },

  'cooldown: while the target rests, permits that were given before are taken back at the bind': async (stage) => {
    const at = await stage(proxies(5), one);
    const grants = await at.grants(5);
    await limited(at, grants, 500, 500, 500);
    like(await at.bind(grants[3], 'pool/4'), { ok: false, retryInMs: 500, duplicate: false });
    like(await at.bind(grants[4], '10.0.0.1'), { ok: false, retryInMs: 500, duplicate: false });
    like(await at.egress('pool/4'), { busy: 0, cooling: 0 });
    like(await at.target(), { active: 0 });
  },

  'account: its budget is one for all egresses': async (stage) => {
    const at = await stage(proxies(9), { limit: 3, scope: 'account' });
    const { grants, limiting, retryInMs } = await at.reserve(5);
    like([grants.length, limiting, retryInMs], [3, 'target', Infinity]);
    await at.answer(grants[0]);
    await at.pass(10);
    await at.answer(grants[1]);
    await at.refusedUntil('target', 90);
  },

  'account: cancelled, lost and costly requests count as they do on an egress': async (stage) => {
    const at = await stage(proxies(9), { limit: 3, scope: 'account' });
    await at.cancel(...(await at.grants(3)));
    await at.grant({ cost: 2, deadlineMs: 50 });
    await at.refused('target', Infinity, { cost: 2 });
    await at.answer(await at.grant());
    await at.pass(70);
    await at.refused('target', 30);
    await at.pass(80);
    like(await at.room(), 3);
  },

  'account: it is spaced and booked as one': async (stage) => {
    const at = await stage(proxies(3), { limit: 3, scope: 'account', spacingMs: 20 });
    const { grants } = await at.reserve(3, { horizonMs: 50 });
    like(
      grants.map(({ startInMs }) => startInMs),
      [0, 20, 40],
    );
    // And the spacing comes back with a permit that was not used.
    await at.cancel(grants[2]);
    await at.refused('target', 40);
    await at.pass(40);
    await at.cancel(await at.grant());
    await at.grant();
    await at.refused('target', Infinity);
  },

  'account: one refusal, and the target rests': async (stage) => {
    const at = await stage(proxies(2), { limit: 9, scope: 'account' });
    like(await at.answer(await at.grant(), 'rate-limited', { retryAfterMs: 300 }), [
      cooldown('pool/1', 300),
      cooldown(undefined, 300),
    ]);
    await at.refusedUntil('target', 300);
  },

  'account: inspect() counts what all egresses have left together': async (stage) => {
    const at = await stage(proxies(2), { limit: 3, scope: 'account' });
    const [first] = await at.grants(2);
    like(await at.egress('pool/1'), { remaining: 1, usableInMs: 0 });
    await at.grant();
    await at.answer(first);
    like(await at.egress('pool/1'), { remaining: 0, usableInMs: 100 });
  },

  'quota: exhausted, its egress rests until the reset, and only that one': async (stage) => {
    const at = await stage(proxies(2), ROOMY);
    like(await at.answer(await at.grant(), 'ok', quota({ exhausted: true, spacingMs: 1000 })), [
      cooldown('pool/1', 1000),
    ]);
    like((await at.grant()).route.id, 'pool/2');
    await at.refusedUntil('cooldown', 1000, { pin: at.routes[0] });
  },

  'quota: exhausted, that of an account: everything rests until the reset': async (stage) => {
    for (const [scope, account] of [['ip', true] as const, ['account', false] as const]) {
      const at = await stage(proxies(2), { ...ROOMY, scope });
      like(await at.answer(await at.grant(), 'ok', quota({ exhausted: true, account })), [cooldown(undefined, 1000)]);
      like(await at.target(), { restMs: 1000 });
      await at.refusedUntil('target', 1000);
    }
  },

  'quota: nearly used up, what is left is spread until the reset, and no longer': async (stage) => {
    for (const [account, limiting] of [[false, 'budget'] as const, [true, 'target'] as const]) {
      const at = await stage(proxies(1), ROOMY);
      like(await at.answer(await at.grant(), 'ok', quota({ spacingMs: 400, account })), []);
      for (const waitMs of [400, 400, 200]) await at.answer(await at.refusedUntil(limiting, waitMs));
      await at.grants(2);
    }
  },

  'quota: that of an account holds for all egresses, that of one does not': async (stage) => {
    const at = await stage(proxies(2), ROOMY);
    await at.answer(await at.grant(), 'ok', quota({ spacingMs: 400 }));
    like((await at.grant()).route.id, 'pool/2');
    await at.answer(await at.grant(), 'ok', quota({ spacingMs: 400, account: true }));
    await at.refused('target', 400);
  },

  'quota: with less time left than one request is to wait, until the reset; costly ones wait longer': async (stage) => {
    for (const [account, limiting] of [[false, 'budget'] as const, [true, 'target'] as const]) {
      const at = await stage(proxies(1), ROOMY);
      await at.answer(await at.grant(), 'ok', quota({ spacingMs: 400, forMs: 100, account }));
      await at.answer(await at.refusedUntil(limiting, 100));
      await at.pass(1000);
      await at.answer(await at.grant(), 'ok', quota({ spacingMs: 100, forMs: 5000, account }));
      await at.pass(100);
      await at.grant({ cost: 3 });
      await at.refused(limiting, 300);
    }
  },

  'cooldown: a block rests its egress for one slot, where health is kept; a session a tenth of a second': async (
    stage,
  ) => {
    for (const outcome of ['blocked', 'challenged', 'network-error'] as const) {
      const at = await stage(proxies(1), { ...ROOMY, health: HEALTH });
      like(kinds(await at.answer(await at.grant(), outcome)), []);
      await at.refusedUntil('cooldown', 10);
      const session = await stage(proxies(1, { session: 's' }), { ...ROOMY, health: HEALTH });
      await session.answer(await session.grant(), outcome);
      await session.refused('cooldown', outcome === 'network-error' ? 10 : 100);
      const careless = await stage(proxies(1), ROOMY);
      await careless.answer(await careless.grant(), outcome);
      await careless.grant();
    }
  },
};
