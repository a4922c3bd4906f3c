import assert from 'node:assert/strict';
import type { Grant } from '../../store/store.ts';
import { like } from './like.ts';
import { aRoute, proxies, TARGET } from './scenery.ts';
import { type Cases, type Stage, told } from './stage.ts';

/** Nothing of it does anything, nor throws. */
async function nothingComesOf(at: Stage, grant: Grant, target: string = TARGET): Promise<void> {
  const before = await at.store.inspect();
  const report = { grant, outcome: 'rate-limited', retryAfterMs: 500, graceMs: 50, end: true } as const;
  like(await at.store.settle(target, [report, report]), []);
  await at.store.cancel(target, [grant, grant]);
  like(await at.store.bind(target, grant, '10.0.0.77'), { ok: false, retryInMs: 0, duplicate: false });
  like(await at.store.inspect(), before);
}

/** How a permit ends: settled, cancelled, or lost; once. */
export const ends: Cases = {
  'end: settled twice is settled once': async (stage) => {
    const at = await stage(proxies(1), { limit: 3, concurrency: 3 });
    const grant = await at.grant();
    await at.answer(grant);
    await at.pass(10);
    await nothingComesOf(at, grant);
    like(told(await at.reserve(9)), { granted: 2, limiting: 'budget', retryInMs: 90 });
  },

  'end: a cancelled permit is as if it had never been': async (stage) => {
    const at = await stage(proxies(1), { limit: 1, concurrency: 1, spacingMs: 50 });
    const grant = await at.grant();
    await at.cancel(grant);
    like(await at.target(), { active: 0 });
    like(await at.egress('pool/1'), { busy: 0, cooling: 0, usableInMs: 0 });
    await nothingComesOf(at, grant);
    await at.grant();
  },

  'end: cancelled after it was settled, its slot still cools': async (stage) => {
    const at = await stage(proxies(1), { limit: 1 });
    const grant = await at.grant();
    await at.answer(grant, 'ok', { end: false });
    await at.cancel(grant);
    like(await at.target(), { active: 1 });
    await at.refused('budget', 100);
    await at.over(grant);
    like(await at.target(), { active: 0 });
  },

  'end: several permits in one call': async (stage) => {
    const at = await stage(proxies(1), { limit: 4, concurrency: 4 });
    const grants = await at.grants(4);
    await at.cancel(grants[0], grants[1]);
    const report = { outcome: 'ok', retryAfterMs: undefined, graceMs: 0, end: true } as const;
    like(
      await at.store.settle(TARGET, [
        { ...report, grant: grants[2] },
        { ...report, grant: grants[3] },
      ]),
      [],
    );
    like(await at.target(), { active: 0 });
    like(await at.egress('pool/1'), { busy: 0, cooling: 2, remaining: 2 });
  },

  'end: the second report, at the end of the body, only frees the place': async (stage) => {
    const at = await stage(proxies(1), { limit: 1 });
    const grant = await at.grant();
    await at.answer(grant, 'ok', { end: false });
    await at.pass(60);
    like(await at.answer(grant, 'rate-limited', { retryAfterMs: 1000 }), []);
    like(await at.egress('pool/1'), { usableInMs: 40, cooldownMs: 0 });
    like(await at.target(), { active: 0 });
  },

  'end: a report without an outcome cools the slot, and says nothing else': async (stage) => {
    const at = await stage(proxies(1), { limit: 1 });
    like(await at.over(await at.grant()), []);
    await at.refusedUntil('budget', 100);
  },

  'end: a permit that is never settled is lost at its deadline, and its slot cools from there': async (stage) => {
    const at = await stage(proxies(1), { limit: 1, concurrency: 1 });
    const lost = await at.grant({ deadlineMs: 1000 });
    await at.pass(999);
    like(await at.target(), { active: 1 });
    like(await at.egress('pool/1'), { busy: 1, usableInMs: Infinity });
    await at.pass(31);
    like(await at.target(), { active: 0 });
    like(await at.egress('pool/1'), { busy: 0, cooling: 1, usableInMs: 70 });
    await nothingComesOf(at, lost);
    await at.refusedUntil('budget', 70);
  },

  'end: who reports late finds the permit gone, though nobody has asked meanwhile': async (stage) => {
    const at = await stage(proxies(1), { limit: 1 });
    const lost = await at.grant({ deadlineMs: 1000 });
    await at.pass(1050);
    like(await at.answer(lost, 'rate-limited'), []);
    like(await at.egress('pool/1'), { usableInMs: 50, cooldownMs: 0 });
  },

  'end: permits are lost by their deadlines, not in the order they were made': async (stage) => {
    const at = await stage(proxies(1), { limit: 3 });
    for (const deadlineMs of [900, 300, 600]) await at.grant({ deadlineMs });
    for (const busy of [2, 1, 0]) {
      await at.pass(300);
      like(await at.egress('pool/1'), { busy });
    }
  },

  'end: a lost permit that cost several cools as several': async (stage) => {
    const at = await stage(proxies(1), { limit: 4 });
    await at.grant({ cost: 3, deadlineMs: 50 });
    await at.pass(50);
    like(await at.egress('pool/1'), { busy: 0, cooling: 3, remaining: 1 });
  },

  'end: headers in time, the body after the deadline: it is not lost': async (stage) => {
    const at = await stage(proxies(2), { concurrency: 1 });
    const grant = await at.grant({ deadlineMs: 100 });
    await at.pass(90);
    await at.answer(grant, 'ok', { end: false });
    await at.pass(60);
    await at.refused('concurrency', Infinity);
    await at.answer(grant);
    await at.grant();
  },

  'bad grants: of another store, or made up, change nothing': async (stage) => {
    const at = await stage(proxies(2), { limit: 3, concurrency: 3 });
    const other = await stage(proxies(2), { limit: 3, concurrency: 3 });
    await at.grant();
    const [, foreign] = await other.grants(2);
    await nothingComesOf(at, foreign);
    const route = aRoute(1);
    await nothingComesOf(at, { target: TARGET, route, egress: route.egress, startInMs: 0 });
    // And it is still good where it came from.
    like(await other.target(), { active: 2 });
    like(await other.bind(foreign, '10.0.0.1'), { ok: true });
  },

  'bad grants: of another target change nothing': async (stage) => {
    const at = await stage(proxies(1));
    await at.grant();
    const elsewhere = await at.grant({}, 'other.test');
    await nothingComesOf(at, elsewhere);
    like(await at.target('other.test'), { active: 1 });
  },

  'bad grants: a target nobody asked for is nothing to settle, bind, cancel or inspect': async (stage) => {
    const at = await stage(proxies(1));
    const grant = await at.grant();
    const before = await at.target();
    await nothingComesOf(at, grant, 'never.test');
    like(await at.store.inspect('never.test'), { targets: [] });
    like(await at.target(), before);
    like(await at.store.settle(TARGET, []), []);
    await at.store.cancel(TARGET, []);
  },

  'inspect: it tells what is busy, cooling, left, and when the next may go': async (stage) => {
    const at = await stage(proxies(2), { limit: 3 });
    like(await at.store.inspect(), { targets: [] });
    const [first, second] = await at.grants(2);
    await at.answer(first);
    await at.pass(20);
    like(await at.target(), {
      target: TARGET,
      active: 1,
      limit: 3,
      concurrency: Infinity,
      circuit: 'closed',
      restMs: 0,
    });
    const egress = { egress: 'pool/1', busy: 1, cooling: 1, remaining: 1, usableInMs: 0, cooldownMs: 0, ejectedMs: 0 };
    like((await at.target()).egresses, [egress]);
    await at.grant({}, 'other.test');
    const { targets } = await at.store.inspect();
    assert.deepEqual(targets.map(({ target }) => target).sort(), ['other.test', TARGET]);
    await at.answer(second, 'rate-limited', { retryAfterMs: 300 });
    like(await at.egress('pool/1'), { busy: 0, cooling: 2, remaining: 0, usableInMs: 300, cooldownMs: 300 });
  },

  'inspect: a slot whose window is over cools no more, to the millisecond': async (stage) => {
    const at = await stage(proxies(1), { limit: 3 });
    for (const grant of await at.grants(2)) await at.answer(grant);
    await at.pass(99);
    like(await at.egress('pool/1'), { cooling: 2, remaining: 1, usableInMs: 0 });
    await at.pass(1);
    // A store may have forgotten it.
    const { cooling, remaining = 3 } = await at.egress('pool/1');
    like({ cooling, remaining }, { cooling: 0, remaining: 3 });
  },
};
