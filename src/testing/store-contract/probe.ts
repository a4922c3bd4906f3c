import type { Grant } from '../../store/store.ts';
import { due, out, probe, repeatedly, using } from './ailing.ts';
import { like } from './like.ts';
import { aRoute, proxies, TARGET } from './scenery.ts';
import { type Cases, ids, kinds, type Stage } from './stage.ts';

/** It comes back by one good probe. */
export const probes: Cases = {
  'probe: one goes when the time is over, and no other beside it': async (stage) => {
    const { at, bad } = await out(stage);
    await at.pass(3199);
    await at.refused('health', 1, { pin: bad });
    await at.pass(1);
    await probe(at, bad);
    await at.refused('health', 6400, { pin: bad });
    for (let i = 0; i < 3; i++) like(ids([await at.grant()]), ['pool/2']);
  },

  'probe: it is a request like any other, chosen when its turn comes': async (stage) => {
    const { at } = await due(stage);
    const turns: string[] = [];
    for (let i = 0; i < 4; i++) {
      const grant = await at.grant();
      turns.push(grant.route.id);
      await at.answer(grant, 'ignored');
      await at.pass(1);
    }
    like(turns.includes('pool/1'), true);
  },

  'probe: a good one brings the egress back, with a clean record': async (stage) => {
    const { at, bad } = await due(stage);
    like(await at.answer(await probe(at, bad)), [{ kind: 'returned', target: TARGET, egress: 'pool/1' }]);
    like(await at.egress('pool/1'), { ejectedMs: 0 });
    like(await repeatedly(at, bad, 9, 'blocked'), []);
    await at.pass(100);
    like(await repeatedly(at, bad, 1, 'blocked'), [{ kind: 'ejected', egress: 'pool/1', target: TARGET, forMs: 6400 }]);
  },

  'probe: a bad one keeps it out for longer, up to the most': async (stage) => {
    const { at, bad } = await due(stage);
    for (let count = 2; count <= 12; count++) {
      const forMs = Math.min(count, 10) * 3200;
      like(await at.answer(await probe(at, bad), 'blocked'), [
        { kind: 'ejected', target: TARGET, egress: 'pool/1', forMs },
      ]);
      await at.pass(forMs);
    }
  },

  'probe: another follows one that was lost, cancelled, or said nothing': async (stage) => {
    const endings: ((at: Stage, grant: Grant) => Promise<unknown>)[] = [
      (at) => at.pass(50),
      (at, grant) => at.cancel(grant),
      (at, grant) => at.answer(grant, 'ignored'),
      (at, grant) => at.answer(grant, 'target-error'),
      (at, grant) => at.answer(grant, 'gateway-error'),
      (at, grant) => at.over(grant),
    ];
    for (const end of endings) {
      const { at, bad } = await due(stage);
      await end(at, await at.grant({ pin: bad, deadlineMs: 50 }));
      await probe(at, bad);
    }
  },

  'probe: one that takes too long counts as lost, and says nothing later': async (stage) => {
    const { at, bad } = await due(stage);
    const lost = await probe(at, bad);
    await at.pass(6400);
    const second = await probe(at, bad);
    like(await at.answer(lost, 'ignored'), []);
    like((await at.reserve(1, { pin: bad })).limiting, 'health');
    like(kinds(await at.answer(second)), ['returned']);
  },

  'probe: what was under way when the egress went out changes nothing': async (stage) => {
    const [bad, good] = proxies(2);
    const at = await using(stage, [bad, good]);
    const grants = await at.grants(16, { pin: bad });
    for (const grant of grants.slice(0, 10)) await at.answer(grant, 'blocked');
    like(await at.answer(grants[10]), []);
    like(await at.answer(grants[11], 'blocked'), []);
    like(await at.egress('pool/1'), { ejectedMs: 3200 });
    // One that has not left yet is taken back; once the probe is due, it is the probe.
    like(await at.bind(grants[12], 'pool/1'), { ok: false, retryInMs: 3200 });
    await at.pass(3200);
    like(await at.bind(grants[13], 'pool/1'), { ok: true });
    like([...(await at.answer(grants[14])), ...(await at.answer(grants[15], 'blocked'))], []);
    like((await at.reserve(1, { pin: bad })).limiting, 'health');
    like(kinds(await at.answer(grants[13])), ['returned']);
  },

  'probe: it is bound where it was granted for, and not refused for being one': async (stage) => {
    const { at, bad } = await due(stage);
    const grant = await probe(at, bad);
    await at.pass(30);
    like(await at.bind(grant, 'pool/1'), { ok: true });
    like(kinds(await at.answer(grant)), ['returned']);
  },

  'probe: moved to another egress it is none any more, and another may go': async (stage) => {
    const { at, bad } = await due(stage);
    const grant = await probe(at, { ...bad, weight: 3 });
    like(await at.bind(grant, 'pool/2'), { ok: true });
    like(await at.egress('pool/1'), { ejectedMs: 0, usableInMs: 0 });
    like(await at.answer(grant), []);
    await probe(at, bad);
  },

  'probe: a permit of another egress that turns out to lead there is the probe, when it is due': async (stage) => {
    const { at, good } = await out(stage);
    like(await at.bind(await at.grant({ pin: good }), 'pool/1'), { ok: false, retryInMs: 3200 });
    await at.pass(3200);
    const late = await at.grant({ pin: aRoute(8) });
    like(await at.bind(late, 'pool/1'), { ok: true });
    const third = await at.grant({ pin: aRoute(9) });
    like(await at.bind(third, 'pool/1'), { ok: false, retryInMs: 6400 });
    like(kinds(await at.answer(late, 'blocked')), ['ejected']);
  },

  'probe: booked ahead and cancelled, it makes room for another, but no sooner': async (stage) => {
    const { at, bad } = await out(stage);
    const booked = await at.grant({ pin: bad, horizonMs: 3200 });
    like(booked.startInMs, 3200);
    await at.cancel(booked);
    await at.pass(3199);
    await at.refused('health', 1, { pin: bad });
    await at.pass(1);
    await probe(at, bad);
  },

  'probe: a Retry-After that is longer is waited for': async (stage) => {
    const { at, bad } = await due(stage);
    await at.answer(await probe(at, bad), 'rate-limited', { retryAfterMs: 700 });
    await at.refusedUntil('cooldown', 700, { pin: bad });
  },
};
