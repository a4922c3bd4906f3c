import { like } from './like.ts';
import { aRoute, proxies, sessions, TARGET } from './scenery.ts';
import { type Cases, ids, told } from './stage.ts';

const one = { limit: 1 };
const yes = { ok: true, retryInMs: 0, duplicate: false };

/** The exit of a permit turns out to be another egress: the permit is moved there, or taken back. */
export const binding: Cases = {
  'bind: to the egress it was granted for, the permit stays as it is': async (stage) => {
    const at = await stage(proxies(1), one);
    const grant = await at.grant();
    like(await at.bind(grant, 'pool/1'), yes);
    like(grant.egress, 'pool/1');
    like(await at.egress('pool/1'), { busy: 1 });
  },

  'bind: to another egress, the permit and the route move there': async (stage) => {
    const routes = sessions(1);
    const at = await stage(routes, one);
    const grant = await at.grant();
    like(await at.bind(grant, '10.0.0.1'), yes);
    like(grant.egress, '10.0.0.1');
    routes[0].egress = '10.0.0.1';
    like(await at.egress('10.0.0.1'), { busy: 1, usableInMs: Infinity });
    like(await at.egress('pool/1'), { busy: 0 });
    await at.answer(grant);
    const next = await at.refusedUntil('budget', 100);
    like([next.egress, next.route.id], ['10.0.0.1', 'pool/1']);
  },

  'bind: all slots of a request that costs several move': async (stage) => {
    const at = await stage(sessions(1), { limit: 3 });
    const grant = await at.grant({ cost: 2 });
    like(await at.bind(grant, '10.0.0.1'), yes);
    like(await at.egress('10.0.0.1'), { busy: 2, remaining: 1 });
    like(await at.egress('pool/1'), { busy: 0 });
    // Or none: there is one left.
    like(await at.bind(await at.grant({ cost: 2, pin: aRoute(9) }), '10.0.0.1'), { ok: false });
    like(await at.egress('10.0.0.1'), { busy: 2, remaining: 1 });
  },

  'bind: to an egress over budget, the permit is taken back and nothing is spent': async (stage) => {
    const rates = [{ limit: 2, windowMs: 100, burst: 2 }];
    const routes = sessions(4);
    const at = await stage(routes, { limit: 1, spacingMs: 50, rates, concurrency: 2 });
    const first = await at.grant();
    like(await at.bind(first, '10.0.0.1'), yes);
    routes[0].egress = '10.0.0.1';
    await at.answer(first);
    await at.pass(10);
    const second = await at.grant();
    const before = await at.egress('10.0.0.1');
    like(await at.bind(second, '10.0.0.1'), { ok: false, retryInMs: 90, duplicate: true });
    like(await at.egress('10.0.0.1'), before);
    like(await at.egress('pool/2'), { busy: 0, usableInMs: 0 });
    like(await at.target(), { active: 0 });
    await at.close(routes[1]);
    // Its share of the rate is there again, and one more there is not.
    like(told(await at.reserve(2)), { granted: 1, limiting: 'rate' });
    // Settling what is gone does nothing.
    like(await at.answer(second, 'rate-limited'), []);
    like(await at.egress('10.0.0.1'), { cooling: 1, cooldownMs: 0 });
  },

  'bind: to an egress whose slots are all in flight, refused, and nobody knows for how long': async (stage) => {
    const at = await stage(sessions(2), one);
    like(await at.bind(await at.grant(), '10.0.0.1'), yes);
    like(await at.bind(await at.grant(), '10.0.0.1'), { ok: false, retryInMs: Infinity, duplicate: true });
  },

  'bind: to the same egress in a cooldown that came since the grant, refused': async (stage) => {
    const at = await stage(proxies(1));
    const [first, second] = await at.grants(2);
    await at.answer(first, 'rate-limited', { retryAfterMs: 300 });
    like(await at.bind(second, 'pool/1'), { ok: false, retryInMs: 300, duplicate: false });
    like(await at.target(), { active: 0 });
    like(await at.egress('pool/1'), { busy: 0, cooling: 1 });
  },

  'bind: a cooldown that is over is none': async (stage) => {
    const at = await stage(proxies(1));
    const [first, second] = await at.grants(2);
    await at.answer(first, 'rate-limited', { retryAfterMs: 30 });
    await at.pass(30);
    like(await at.bind(second, 'pool/1'), yes);
  },

  'bind: it says when another live route of the pool leads there, and the egress keeps that one': async (stage) => {
    const routes = sessions(2);
    const at = await stage(routes, { limit: 3 });
    const first = await at.grant();
    await at.bind(first, '10.0.0.1');
    routes[0].egress = '10.0.0.1';
    const second = await at.grant({ pin: routes[1] });
    like(await at.bind(second, '10.0.0.1'), { ...yes, duplicate: true });
    routes[1].egress = '10.0.0.1';
    await at.answer(first);
    await at.answer(second);
    await at.pass(200);
    like(ids(await at.grants(3, { offer: undefined })), ['pool/1', 'pool/1', 'pool/1']);
  },

  'bind: a route that is over is no duplicate, nor one of another pool': async (stage) => {
    const routes = [aRoute(1), aRoute(2), aRoute(1, { pool: 'other' })];
    const at = await stage(routes, { limit: 9 });
    for (const [i, pin] of routes.entries()) {
      const grant = await at.grant({ pin });
      like(await at.bind(grant, '10.0.0.1'), yes);
      pin.egress = '10.0.0.1';
      if (i === 0) await at.close(pin);
    }
    like(await at.egress('10.0.0.1'), { busy: 3 });
    routes[1].expiresAt = at.clock.now() + 50;
    like(await at.bind(await at.grant({ pin: aRoute(3, { expiresAt: at.clock.now() + 50 }) }), '10.0.0.2'), yes);
    const other = await at.grant({ pin: aRoute(4) });
    await at.pass(50);
    like(await at.bind(other, '10.0.0.2'), yes);
  },

  'bind: of an exit that rotates and is named, each egress has its own budget, the way in none': async (stage) => {
    const at = await stage([aRoute(1, { weight: Infinity })], one);
    const grants = await at.grants(20);
    for (const [i, grant] of grants.slice(0, 19).entries()) like(await at.bind(grant, `10.0.0.${i}`), yes);
    like(await at.egress('10.0.0.7'), { busy: 1, remaining: 0 });
    like(await at.bind(grants[19], '10.0.0.7'), { ok: false, retryInMs: Infinity, duplicate: false });
  },

  'bind: dials in a row that come up with used exits wait twice as long each time, up to a window': async (stage) => {
    const at = await stage([aRoute(1, { weight: Infinity })], one);
    const grants = await at.grants(13);
    like(await at.bind(grants[0], '10.0.0.0'), yes);
    const pauses: number[] = [];
    for (const grant of grants.slice(1, 12)) {
      like(await at.bind(grant, '10.0.0.0'), { ok: false });
      const { retryInMs } = await at.reserve(1);
      pauses.push(retryInMs);
      await at.pass(retryInMs);
    }
    like(
      pauses,
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8].map((n) => (100 * 2 ** n) / 256),
    );
    // One that is usable ends the row.
    const [found, next] = await at.grants(2);
    like(await at.bind(found, '10.1.0.0'), yes);
    await at.bind(next, '10.0.0.0');
    await at.refused('cooldown', 100 / 256);
    // And so does time.
    await at.pass(300);
    await at.bind(await at.grant(), '10.0.0.0');
    await at.refused('cooldown', 100 / 256);
  },

  'bind: a permit that is over is never moved': async (stage) => {
    const at = await stage(proxies(1), { limit: 4 });
    const [settled, cancelled, lost] = await at.grants(3, { deadlineMs: 50 });
    await at.answer(settled);
    await at.cancel(cancelled);
    await at.pass(50);
    for (const grant of [settled, cancelled, lost]) {
      like(await at.bind(grant, '10.0.0.1'), { ok: false, retryInMs: 0, duplicate: false });
    }
    like(await at.target(), { active: 0 });
    like(await at.egress('pool/1'), { busy: 0, cooling: 2 });
  },

  'bind: what a lost permit finds out moves nothing: its route can still be closed where it leads': async (stage) => {
    const at = await stage(sessions(2), { limit: 9 });
    const lost = await at.grant({ deadlineMs: 50 });
    await at.pass(60);
    like(await at.bind(lost, '10.0.0.1'), { ok: false });
    await at.close(at.routes[0]);
    like(ids(await at.grants(2)), ['pool/2', 'pool/2']);
  },

  'bind: a permit that was moved is settled where it is': async (stage) => {
    const routes = sessions(1);
    const at = await stage(routes, one);
    const grant = await at.grant();
    await at.bind(grant, '10.0.0.1');
    routes[0].egress = '10.0.0.1';
    like(await at.answer(grant, 'rate-limited', { retryAfterMs: 300 }), [
      { kind: 'cooldown', target: TARGET, egress: '10.0.0.1', forMs: 300 },
    ]);
    like(await at.egress('10.0.0.1'), { cooling: 1, cooldownMs: 300 });
    like(await at.egress('pool/1'), { busy: 0, cooling: 0, cooldownMs: 0 });
  },

  'bind: a permit that was moved and is cancelled leaves nothing at either egress': async (stage) => {
    const routes = sessions(1);
    const at = await stage(routes, { ...one, spacingMs: 30 });
    const grant = await at.grant();
    await at.bind(grant, '10.0.0.1');
    routes[0].egress = '10.0.0.1';
    await at.cancel(grant);
    like(await at.egress('10.0.0.1'), { busy: 0, cooling: 0, usableInMs: 0 });
    like((await at.grant()).egress, '10.0.0.1');
  },

  'bind: it moves to its new egress at the time of the bind: its spacing counts from there': async (stage) => {
    const routes = sessions(1);
    const at = await stage(routes, { limit: 4, spacingMs: 25 });
    const grant = await at.grant();
    await at.pass(10);
    like(await at.bind(grant, '10.0.0.1'), yes);
    routes[0].egress = '10.0.0.1';
    await at.refused('budget', 25);
  },
};
