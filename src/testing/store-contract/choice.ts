import type { Demand } from '../../store/store.ts';
import { like } from './like.ts';
import { aRoute, proxies, sessions } from './scenery.ts';
import { type Cases, ids, told } from './stage.ts';

const one = { limit: 1 };

/** Which way out, and when the pool is asked for another. */
export const choice: Cases = {
  'choice: the slots of a known egress are spent before another is taken from the pool': async (stage) => {
    const at = await stage(proxies(3));
    like(ids(await at.grants(3)), ['pool/1', 'pool/1', 'pool/2']);
    like(await at.egress('pool/3'), { busy: 0 });
  },

  'choice: of several usable egresses, the one that has been idle for the longest': async (stage) => {
    const at = await stage(proxies(3), one);
    const grants = await at.grants(3);
    for (const i of [1, 2, 0]) {
      await at.pass(1);
      await at.answer(grants[i]);
    }
    await at.pass(200);
    like(ids(await at.grants(3)), ['pool/2', 'pool/3', 'pool/1']);
  },

  'choice: with slots left on all of them, they take turns': async (stage) => {
    const at = await stage(proxies(3), { limit: 10 });
    const { grants } = await at.reserve(3, { policy: { ...at.policy, limit: 1 } });
    for (const grant of grants) {
      await at.answer(grant);
      await at.pass(1);
    }
    await at.pass(200);
    const turns: string[] = [];
    for (let i = 0; i < 6; i++) {
      turns.push((await at.grant()).route.id);
      await at.pass(1);
    }
    like(turns.slice(3), turns.slice(0, 3));
    like([...turns.slice(0, 3)].sort(), ['pool/1', 'pool/2', 'pool/3']);
  },

  'choice: the soonest usable egress says when to ask again': async (stage) => {
    const at = await stage(proxies(3), one);
    const grants = await at.grants(3);
    await at.answer(grants[2], 'rate-limited', { retryAfterMs: 500 });
    await at.pass(7);
    await at.answer(grants[1]);
    await at.pass(20);
    await at.answer(grants[0]);
    like(ids([await at.refusedUntil('budget', 80)]), ['pool/2']);
    await at.refused('budget', 20);
  },

  'choice: the pool is asked for another only when no known egress is usable within patienceMs': async (stage) => {
    const at = await stage(proxies(3), one);
    await at.answer(await at.grant());
    await at.pass(60);
    like(told(await at.reserve(1, { patienceMs: 40 })), { granted: 0, limiting: 'budget', retryInMs: 40 });
    like(ids(await at.grants(1, { patienceMs: 39 })), ['pool/2']);
  },

  'choice: the pool is asked again where it stopped, at each target and in each pool': async (stage) => {
    const at = await stage([...proxies(4, { pool: 'x' }), ...proxies(4, { pool: 'y' })], one);
    like(ids(await at.grants(1, { pool: 'x' })), ['x/1']);
    like(ids(await at.grants(2, { pool: 'y' })), ['y/1', 'y/2']);
    like(ids(await at.grants(1, { pool: 'x' })), ['x/2']);
    like(ids(await at.grants(1, { pool: 'x' }, 'other.test')), ['x/1']);
    like(ids(await at.grants(1, { pool: 'y' })), ['y/3']);
  },

  'choice: an offer is never asked for what it gave before': async (stage) => {
    const at = await stage([], one);
    const afters: number[] = [];
    const offer: Demand['offer'] = (after) => {
      afters.push(after);
      return after < 3 ? aRoute(after + 1) : undefined;
    };
    like(told(await at.reserve(9, { offer })), { granted: 3, limiting: 'budget', retryInMs: Infinity });
    like(told(await at.reserve(9, { offer })), { granted: 0 });
    // Asked ahead it may be, but in rising order.
    like(
      [...afters].sort((a, b) => a - b),
      afters,
    );
    like(afters.includes(3), true);
  },

  'choice: an offer that has none is not asked for one': async (stage) => {
    const at = await stage([]);
    like(told(await at.reserve(1)), { granted: 0, limiting: 'budget', retryInMs: Infinity });
    like(told(await at.reserve(1, { offer: undefined })), { granted: 0, limiting: 'budget', retryInMs: Infinity });
  },

  'choice: a route that was closed is not granted any more': async (stage) => {
    const at = await stage(proxies(4), one);
    for (const grant of await at.grants(4)) await at.answer(grant);
    await at.pass(200);
    for (const i of [0, 1, 3]) await at.close(at.routes[i]);
    like(ids((await at.reserve(4)).grants), ['pool/3']);
  },

  'choice: a route that has ended is not granted any more, to the millisecond': async (stage) => {
    const routes = proxies(2);
    const at = await stage(routes, { limit: 9 });
    routes[0].expiresAt = at.clock.now() + 50;
    await at.answer(await at.grant());
    await at.pass(49);
    like(ids([await at.grant()]), ['pool/1']);
    await at.pass(1);
    like(ids([await at.grant()]), ['pool/2']);
  },

  'choice: nor is one that was closed without a word, or ended sooner than it was to': async (stage) => {
    const routes = proxies(3);
    const at = await stage(routes, { limit: 9 });
    const { policy } = at;
    const grants = await at.grants(3, { policy: { ...policy, limit: 1 } });
    for (const grant of grants) {
      await at.answer(grant);
      await at.pass(1);
    }
    routes[0].closed = true;
    routes[1].expiresAt = at.clock.now();
    // It may take more than one look.
    for (let i = 0; i < 5; i++) {
      const ways = ids((await at.reserve(1)).grants);
      like(ways.includes('pool/1') || ways.includes('pool/2'), false);
    }
  },

  'choice: a session whose exit is yet to be named is tried by one request at a time': async (stage) => {
    const [route] = sessions(1, { trial: true });
    const at = await stage([route]);
    const first = await at.grant();
    await at.refused('budget', Infinity);
    route.trial = false;
    like(await at.bind(first, '10.0.0.1'), { ok: true });
    route.egress = '10.0.0.1';
    like((await at.grant()).egress, '10.0.0.1');
  },

  'choice: a session on trial is free again once its request is answered': async (stage) => {
    const [route] = sessions(1, { trial: true });
    const at = await stage([route], { limit: 5 });
    await at.answer(await at.grant());
    await at.grant();
    await at.refused('budget', Infinity);
  },

  'choice: two pools that lead to one egress share its budget, and each has its own route there': async (stage) => {
    const routes = ['one', 'two'].map((pool) => aRoute(1, { pool, egress: '10.0.0.1' }));
    const at = await stage(routes);
    await at.answer(await at.grant({ pool: 'one' }));
    await at.pass(10);
    const second = await at.grant({ pool: 'two' });
    like(second, { egress: '10.0.0.1' });
    like(second.route.id, 'two/1');
    await at.answer(second);
    await at.refused('budget', 90, { pool: 'two' });
    await at.refused('budget', 90, { pool: 'one' });
    await at.close(routes[0]);
    await at.pass(90);
    like(told(await at.reserve(1, { pool: 'one' })), { granted: 0 });
    like(ids(await at.grants(1, { pool: 'two' })), ['two/1']);
  },

  'choice: a pool is served by its own routes only': async (stage) => {
    const at = await stage([...proxies(1, { pool: 'one' }), ...proxies(1, { pool: 'two' })], one);
    await at.grant({ pool: 'one' });
    await at.refused('budget', Infinity, { pool: 'one' });
    await at.grant({ pool: 'two' });
  },

  'choice: a sticky route (shared: false) is never lent to who did not ask for it': async (stage) => {
    const sticky = aRoute(7, { shared: false, session: 'mine' });
    const at = await stage(proxies(1), one);
    const grant = await at.grant({ pin: sticky });
    like(await at.bind(grant, '10.0.0.9'), { ok: true });
    sticky.egress = '10.0.0.9';
    await at.answer(grant);
    await at.pass(200);
    like(ids((await at.reserve(9)).grants), ['pool/1']);
  },
};
