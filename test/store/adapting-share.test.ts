import { describe, expect, it } from 'vitest';
import type { Policy, Route } from '../../src/store/store.ts';
import { ejected, HEALTH, kinds, proxies, repeatedly, roomy, using } from '../support/adapting.ts';
import { atStore, TARGET } from '../support/at-store.ts';
import { offerOf } from '../support/store-trace.ts';

describe('how many may be out at once', () => {
  const outs = (count: number, routes: Route[], options: Partial<Policy> = {}): number => {
    const at = using(routes, options);
    let n = 0;
    for (const pin of routes.slice(0, count)) n += kinds(repeatedly(at, pin, 15, 'blocked')).length;
    return n;
  };

  it('at most the share of the pool, and never the last one', () => {
    expect(outs(1, proxies(1))).toBe(0);
    expect(outs(2, proxies(2))).toBe(1);
    expect(outs(5, proxies(5))).toBe(2);
    expect(outs(10, proxies(10), { health: { ...HEALTH, maxEjectedShare: 0.3 } })).toBe(3);
    expect(outs(3, proxies(3), { health: { ...HEALTH, maxEjectedShare: 1 } })).toBe(3);
    expect(outs(3, proxies(3), { health: { ...HEALTH, maxEjectedShare: 0 } })).toBe(0);
  });

  it('a pool of sessions can open one more, so that it counts', () => {
    const sessions = (count: number): Route[] => proxies(count, { session: 's' });
    expect(outs(1, sessions(1))).toBe(1);
    expect(outs(3, sessions(3))).toBe(2);
  });

  it('one that is back makes room; the next bad answer is enough', () => {
    const routes = proxies(2);
    const at = using(routes);
    const forMs = ejected(at, routes[0]);
    expect(repeatedly(at, routes[1], 15, 'blocked')).toEqual([]);
    at.clock.advanceSync(forMs);
    at.answer(at.grant({ pin: routes[0] }));
    expect(kinds(repeatedly(at, routes[1], 1, 'blocked'))).toEqual(['ejected']);
  });

  it('routes that have ended count no more: neither as members nor as out', () => {
    const routes = proxies(6);
    const at = using(routes);
    ejected(at, routes[0]);
    for (const route of routes.slice(2, 5)) route.closed = true;
    // Two proxies and one that is out are left: half of three is one.
    expect(repeatedly(at, routes[1], 15, 'blocked')).toEqual([]);
    routes[0].closed = true;
    at.clock.advanceSync(100);
    for (let i = 0; i < 6; i++) at.reserve(0);
    expect(kinds(repeatedly(at, routes[1], 1, 'blocked'))).toEqual(['ejected']);
  });

  it('an egress of two pools is lost to neither when one of them has no other', () => {
    const [mine, shared] = proxies(2);
    const guest = { ...shared, id: 'other/1', pool: 'other', seq: 1 };
    const at = using([mine, shared]);
    const demand = { pool: 'other', offer: offerOf([guest], at.clock) };
    at.store.cancel(TARGET, at.reserve(1, demand).grants);
    expect(repeatedly(at, shared, 15, 'blocked')).toEqual([]);
    guest.closed = true;
    at.clock.advanceSync(100);
    expect(kinds(repeatedly(at, shared, 1, 'blocked'))).toEqual(['ejected']);
  });

  it('an exit that no route of its own leads to goes out by itself: it is one of very many', () => {
    const [gateway] = proxies(1, { weight: Infinity, egress: 'gateway' });
    const at = atStore([gateway], roomy({ health: HEALTH }));
    const { grants } = at.reserve(11);
    for (const grant of grants) expect(at.store.bind(TARGET, grant, '10.0.0.1').ok).toBe(true);
    expect(kinds(grants.flatMap((grant) => at.answer(grant, 'blocked')))).toEqual(['ejected']);
    at.clock.advanceSync(1000);
    expect(at.store.bind(TARGET, at.grant(), '10.0.0.1')).toMatchObject({ ok: false });
    at.clock.advanceSync(10);
    expect(at.store.bind(TARGET, at.grant(), '10.0.0.2')).toMatchObject({ ok: true });
  });
});

describe('the routes of two pools to one egress', () => {
  it('count in either pool, also once the first one leads elsewhere', () => {
    const theirs = proxies(2, { pool: 'other' }).map((route, i) => ({
      ...route,
      id: `other/${i}`,
      egress: `other/${i}`,
    }));
    const mine = proxies(3);
    const at = using(mine);
    const lead = (pin: Route, egress: string): void => {
      const grant = at.grant({ pin, pool: pin.pool });
      expect(at.store.bind(TARGET, grant, egress).ok).toBe(true);
      at.store.cancel(TARGET, [grant]);
      pin.egress = egress;
    };
    lead(theirs[0], '10.0.0.1');
    lead(theirs[1], '10.0.0.2');
    lead(mine[0], '10.0.0.1');
    const moving = at.grant({ pin: theirs[0], pool: 'other' });
    ejected(at, mine[0]);
    expect(at.store.bind(TARGET, moving, '10.0.0.3').ok).toBe(true);
    // One of three is out.
    expect(repeatedly(at, mine[1], 15, 'blocked')).toEqual([]);
  });

  it('when the first pool gives its own up, the other keeps the one it had', () => {
    const [theirs] = proxies(1, { pool: 'other', id: 'other/1' });
    const mine = proxies(2);
    const at = using(mine);
    for (const pin of [theirs, mine[0]]) {
      const grant = at.grant({ pin, pool: pin.pool });
      expect(at.store.bind(TARGET, grant, '10.0.0.1')).toMatchObject({ ok: true, duplicate: false });
      at.store.cancel(TARGET, [grant]);
    }
    const grant = at.grant({ pin: mine[1] });
    theirs.closed = true;
    expect(at.store.bind(TARGET, grant, '10.0.0.1')).toMatchObject({ ok: true, duplicate: true });
    // As a pool does with a session whose exit it has already.
    mine[1].closed = true;
    expect(at.grant().route.id).toBe('pool/1');
  });
});
