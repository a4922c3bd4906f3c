import { like } from './like.ts';
import { aRoute, POLICY, proxies } from './scenery.ts';
import { type Cases, ids, told } from './stage.ts';

const one = { limit: 1 };

/** Permits over one given route, and permits for later. */
export const pins: Cases = {
  'pin: only that route will do, whatever else is free': async (stage) => {
    const routes = proxies(3);
    const at = await stage(routes, one);
    const pinned = await at.reserve(2, { pin: routes[1] });
    like(ids(pinned.grants), ['pool/2']);
    like(told(pinned), { limiting: 'budget', retryInMs: Infinity });
    await at.answer(pinned.grants[0]);
    await at.refusedUntil('budget', 100, { pin: routes[1] });
  },

  'pin: it shares the budget of its egress with everybody else': async (stage) => {
    const sticky = aRoute(7, { egress: '10.0.0.1', shared: false, session: 'mine' });
    const at = await stage([aRoute(1, { egress: '10.0.0.1' })]);
    await at.grant();
    await at.grant({ pin: sticky });
    await at.refused('budget', Infinity);
    await at.refused('budget', Infinity, { pin: sticky });
  },

  'pin: the permit is for that very route, with its own egress': async (stage) => {
    const [route] = proxies(1, { pool: 'other', egress: '10.9.9.9' });
    const at = await stage(proxies(1));
    const grant = await at.grant({ pin: route });
    like(grant.route === route, true);
    like([grant.target, grant.egress, grant.startInMs], ['shop.test', '10.9.9.9', 0]);
    like(POLICY.limit - 1, (await at.egress('10.9.9.9')).remaining);
  },

  'booking: within horizonMs a permit starts when its slot is free, soonest first': async (stage) => {
    const at = await stage(proxies(2), one);
    const [first, second] = await at.grants(2);
    await at.answer(first);
    await at.pass(30);
    await at.answer(second);
    await at.refused('budget', 70, { horizonMs: 69 });
    const { grants, ...rest } = await at.reserve(5, { horizonMs: 100 });
    like(
      grants.map(({ route, startInMs }) => [route.id, startInMs]),
      [
        ['pool/1', 70],
        ['pool/2', 100],
      ],
    );
    like(rest, { limiting: 'budget', retryInMs: Infinity });
  },

  'booking: a slot that is booked is taken, and free again when the permit is cancelled': async (stage) => {
    const at = await stage(proxies(1), one);
    await at.answer(await at.grant());
    const booked = await at.grant({ horizonMs: 100 });
    await at.pass(100);
    await at.refused('budget', Infinity);
    await at.cancel(booked);
    await at.grant();
  },

  'booking: deadlineMs counts from the start of the permit': async (stage) => {
    const at = await stage(proxies(1), one);
    await at.answer(await at.grant());
    await at.grant({ horizonMs: 100, deadlineMs: 50 });
    await at.pass(149);
    await at.refused('budget', Infinity);
    await at.pass(1);
    await at.refusedUntil('budget', 100);
  },

  'booking: evenly spaced, one after the other': async (stage) => {
    const at = await stage(proxies(1), { limit: 4, spacingMs: 25 });
    const { grants } = await at.reserve(4, { horizonMs: 60 });
    like(
      grants.map(({ startInMs }) => startInMs),
      [0, 25, 50],
    );
  },
};
