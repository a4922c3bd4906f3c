import { like } from './like.ts';
import { aRoute, proxies } from './scenery.ts';
import { type Cases, ids, told } from './stage.ts';

/** One egress has `limit` slots: each is busy from the grant to the answer, then cools for a window. */
export const slots: Cases = {
  'slots: as many requests as the limit, and no more while they are in flight': async (stage) => {
    const at = await stage(proxies(1), { limit: 3 });
    like(told(await at.reserve(5)), { granted: 3, limiting: 'budget', retryInMs: Infinity });
    await at.pass(10_000);
    await at.refused('budget', Infinity);
  },

  'slots: all that was asked for: nothing limits': async (stage) => {
    const at = await stage(proxies(1));
    like(told(await at.reserve(2)), { granted: 2, limiting: undefined, retryInMs: Infinity });
    like(told(await at.reserve(0)), { granted: 0, limiting: undefined });
  },

  'slots: one cools for exactly a window from its answer, however long that took': async (stage) => {
    const at = await stage(proxies(1), { limit: 1 });
    const grant = await at.grant();
    await at.pass(5000);
    await at.answer(grant);
    await at.refusedUntil('budget', 100);
  },

  'slots: a fraction of a millisecond before the window is over there is none': async (stage) => {
    const at = await stage(proxies(1), { limit: 1 });
    await at.answer(await at.grant());
    await at.pass(99.5);
    await at.refused('budget', 0.5);
    await at.pass(0.5);
    await at.grant();
  },

  'slots: each cools on its own': async (stage) => {
    const at = await stage(proxies(1), { limit: 3 });
    const grants = await at.grants(3);
    for (const i of [2, 0, 1]) {
      await at.answer(grants[i]);
      await at.pass(30);
    }
    await at.refused('budget', 10);
    await at.pass(10);
    like(told(await at.reserve(3)), { granted: 1, limiting: 'budget', retryInMs: 30 });
    await at.pass(60);
    like(await at.room(), 2);
  },

  'slots: a request that may still arrive for a while (graceMs) cools from then': async (stage) => {
    const at = await stage(proxies(1), { limit: 1 });
    await at.answer(await at.grant(), 'ignored', { graceMs: 40 });
    await at.refusedUntil('budget', 140);
  },

  'slots: an aborted one that cools late does not hold up those after it': async (stage) => {
    const at = await stage(proxies(1), { limit: 2 });
    const [aborted, other] = await at.grants(2);
    await at.answer(aborted, 'ignored', { graceMs: 60 });
    await at.pass(10);
    await at.answer(other);
    await at.refused('budget', 100);
    await at.pass(100);
    await at.grant();
    await at.refused('budget', 50);
  },

  'slots: a limit that falls holds at once, and one that rises opens what was full': async (stage) => {
    const at = await stage(proxies(1), { limit: 4 });
    const [first] = await at.grants(2);
    const tight = { policy: { ...at.policy, limit: 1 } };
    await at.refused('budget', Infinity, tight);
    await at.answer(first);
    await at.refused('budget', Infinity, tight);
    like(await at.room({ policy: { ...at.policy, limit: 6 } }), 4);
  },

  'slots: a longer window holds for what cools already': async (stage) => {
    const at = await stage(proxies(1), { limit: 1 });
    await at.answer(await at.grant());
    await at.pass(40);
    await at.refused('budget', 360, { policy: { ...at.policy, windowMs: 400 } });
    await at.refused('budget', 60);
  },

  'slots: without a limit there are any number': async (stage) => {
    const at = await stage(proxies(1), { limit: Infinity });
    const grants = await at.grants(50);
    for (const grant of grants) await at.answer(grant);
    like(await at.room(), 200);
  },

  'slots: an exit that rotates unseen has those of all its IPs': async (stage) => {
    const at = await stage([aRoute(1, { weight: 3 })], { limit: 2 });
    like(await at.room(), 6);
  },

  'slots: a request that costs several takes them together, or none': async (stage) => {
    const at = await stage(proxies(1), { limit: 5 });
    const grant = await at.grant({ cost: 3 });
    like(await at.egress('pool/1'), { busy: 3, remaining: 2 });
    await at.refused('budget', Infinity, { cost: 3 });
    const [one] = await at.grants(1, { cost: 2 });
    await at.answer(grant);
    await at.pass(30);
    await at.answer(one);
    like(await at.egress('pool/1'), { busy: 0, cooling: 5, usableInMs: 70 });
    await at.refused('budget', 100, { cost: 4 });
    await at.refused('budget', 70, { cost: 3 });
  },

  'slots: for one that costs several, the egress that has them soonest': async (stage) => {
    const at = await stage(proxies(2), { limit: 2 });
    const grants = await at.grants(4);
    const [a, b] = ['pool/1', 'pool/2'].map((id) => grants.filter(({ route }) => route.id === id));
    await at.answer(a[0]);
    await at.pass(10);
    await at.answer(b[0]);
    await at.answer(b[1]);
    await at.pass(10);
    await at.answer(a[1]);
    // The first has one slot at 100 and both at 120, the second both at 110.
    await at.refused('budget', 80);
    await at.refused('budget', 90, { cost: 2 });
    await at.pass(90);
    like(ids([await at.grant({ cost: 2 })]), ['pool/2']);
  },

  'slots: even spacing keeps requests apart, and is given back with a permit that was not used': async (stage) => {
    const at = await stage(proxies(1), { limit: 4, spacingMs: 25 });
    await at.answer(await at.grant());
    await at.pass(10);
    await at.cancel(await at.refusedUntil('budget', 15));
    like(told(await at.reserve(2)), { granted: 1, limiting: 'budget', retryInMs: 25 });
    await at.pass(25);
    const early = await at.grant({ cost: 2 });
    await at.refused('budget', 50);
    await at.pass(50);
    await at.answer(early);
    await at.pass(100);
    // Not over the head of one that was granted later.
    const first = await at.grant();
    await at.pass(25);
    await at.grant();
    await at.cancel(first);
    await at.refused('budget', 25);
  },

  'slots: even spacing is stretched by up to 4 %, never shortened': async (stage) => {
    const at = await stage(proxies(1), { limit: 4, spacingMs: 25 }, () => 0.5);
    await at.grant();
    await at.refused('budget', 25.5);
  },
};
