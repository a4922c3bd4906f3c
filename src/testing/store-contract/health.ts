import type { Grant, Outcome, Policy, Route, Verdict } from '../../store/store.ts';
import { like } from './like.ts';
import { aRoute, HEALTH, proxies, ROOMY, sessions, TARGET } from './scenery.ts';
import { type Cases, ids, kinds, type SetStage, type Stage } from './stage.ts';

/** That many requests over one route, all sent before the first answer, and all with this end. */
export async function repeatedly(at: Stage, pin: Route, count: number, outcome: Outcome): Promise<Verdict[]> {
  const verdicts: Verdict[] = [];
  for (const grant of await at.grants(count, { pin })) verdicts.push(...(await at.answer(grant, outcome)));
  return verdicts;
}

/** Makes the target use all of the routes; nothing is spent. */
export async function introduce(at: Stage): Promise<void> {
  const free = { limit: 1, spacingMs: 0, concurrency: undefined, adaptConcurrency: undefined };
  await at.cancel(...(await at.grants(at.routes.length, { policy: { ...at.policy, ...free } })));
  await at.cancel(await at.grant());
}

async function using(stage: SetStage, routes: readonly Route[], policy: Partial<Policy> = {}): Promise<Stage> {
  const at = await stage(routes, { ...ROOMY, health: HEALTH, ...policy });
  await introduce(at);
  return at;
}

async function outs(stage: SetStage, routes: readonly Route[], policy: Partial<Policy> = {}): Promise<number> {
  const at = await using(stage, routes, policy);
  let n = 0;
  for (const pin of routes) n += kinds(await repeatedly(at, pin, 15, 'blocked')).length;
  return n;
}

/** Two egresses, of which the first has just gone out. */
async function out(stage: SetStage): Promise<{ at: Stage; bad: Route; good: Route }> {
  const [bad, good] = proxies(2);
  const at = await using(stage, [bad, good]);
  like(kinds(await repeatedly(at, bad, 10, 'blocked')), ['ejected']);
  return { at, bad, good };
}

/** Two egresses, of which the first is due for its probe. */
async function due(stage: SetStage): Promise<{ at: Stage; bad: Route; good: Route }> {
  const scene = await out(stage);
  await scene.at.pass(3200);
  return scene;
}

/** The one permit that there is over the route. */
async function probe(at: Stage, pin: Route): Promise<Grant> {
  const { grants, limiting } = await at.reserve(9, { pin });
  like([grants.length, limiting], [1, 'health']);
  return grants[0];
}

/** An egress that gives bad answers goes out for a while, and comes back by one good probe. */
export const health: Cases = {
  'health: out after ten outcomes of which less than 40 % were good, and not after nine': async (stage) => {
    const [bad, good] = proxies(2);
    const at = await using(stage, [bad, good]);
    like(await repeatedly(at, bad, 3, 'ok'), []);
    like(await repeatedly(at, bad, 6, 'blocked'), []);
    await at.pass(100);
    like(await repeatedly(at, bad, 1, 'challenged'), [
      { kind: 'ejected', target: TARGET, egress: 'pool/1', forMs: 3200 },
    ]);
    for (let i = 0; i < 4; i++) {
      like(ids([await at.grant()]), ['pool/2']);
      await at.pass(1);
    }
    like(await at.egress('pool/1'), { ejectedMs: 3196, remaining: 0 });
    await at.refused('health', 3196, { pin: bad });
  },

  'health: 40 % are enough to stay, and the last twenty count': async (stage) => {
    const [bad, good] = proxies(2);
    const at = await using(stage, [bad, good]);
    await repeatedly(at, bad, 4, 'ok');
    like(await repeatedly(at, bad, 6, 'challenged'), []);
    await at.pass(100);
    await repeatedly(at, bad, 40, 'ok');
    like(await repeatedly(at, bad, 12, 'blocked'), []);
    await at.pass(100);
    like(kinds(await repeatedly(at, bad, 1, 'blocked')), ['ejected']);
  },

  'health: what the target has trouble with, the gateway, and a full budget say nothing of it': async (stage) => {
    for (const outcome of ['target-error', 'gateway-error', 'rate-limited', 'ignored'] as const) {
      const routes = proxies(2);
      const at = await using(stage, routes);
      like(kinds(await repeatedly(at, routes[0], 20, outcome)).includes('ejected'), false);
      like(await at.egress('pool/1'), { ejectedMs: 0 });
    }
  },

  'health: a broken connection counts for random() < ½': async (stage) => {
    for (const [draw, verdicts] of [[0.49, ['ejected']] as const, [0.5, []] as const]) {
      const routes = proxies(2);
      const at = await stage(routes, { ...ROOMY, health: HEALTH }, () => draw);
      await introduce(at);
      like(kinds(await repeatedly(at, routes[0], 12, 'network-error')), verdicts);
    }
  },

  'health: without the policy nobody goes out': async (stage) => {
    const routes = proxies(2);
    const at = await using(stage, routes, { health: undefined });
    like(await repeatedly(at, routes[0], 20, 'blocked'), []);
    await at.grant({ pin: routes[0] });
  },

  'health: at most the share of the pool is out, and never the last one': async (stage) => {
    like(await outs(stage, proxies(1)), 0);
    like(await outs(stage, proxies(2)), 1);
    like(await outs(stage, proxies(5)), 2);
    like(await outs(stage, proxies(10), { health: { ...HEALTH, maxEjectedShare: 0.3 } }), 3);
    like(await outs(stage, proxies(3), { health: { ...HEALTH, maxEjectedShare: 1 } }), 3);
    like(await outs(stage, proxies(3), { health: { ...HEALTH, maxEjectedShare: 0 } }), 0);
  },

  'health: a pool of sessions can open one more, so that it counts': async (stage) => {
    like(await outs(stage, sessions(1)), 1);
    like(await outs(stage, sessions(3)), 2);
  },

  'health: one that is back makes room, and the next bad answer of another is enough': async (stage) => {
    const { at, bad, good } = await out(stage);
    like(await repeatedly(at, good, 15, 'blocked'), []);
    await at.pass(3200);
    await at.answer(await at.grant({ pin: bad }));
    like(kinds(await repeatedly(at, good, 1, 'blocked')), ['ejected']);
  },

  'health: it is that of the egress at this target, at no other': async (stage) => {
    const { at, bad } = await out(stage);
    await at.grants(5, { pin: bad }, 'other.test');
  },

  'health: it is that of the egress, whichever route leads there': async (stage) => {
    const { at } = await out(stage);
    await at.refused('health', 3200, { pin: aRoute(9, { egress: 'pool/1' }) });
  },

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

  'health: the count of ejections decays by one for each healthy time': async (stage) => {
    const { at, bad } = await due(stage);
    like(await at.answer(await probe(at, bad), 'blocked'), [{ kind: 'ejected', forMs: 6400 }]);
    await at.pass(6400);
    await at.answer(await probe(at, bad));
    for (let i = 0; i < 2; i++) {
      await at.pass(3300);
      await at.answer(await at.grant({ pin: bad }));
    }
    // Two good answers, then ten bad ones: out for the first time again.
    like(kinds(await repeatedly(at, bad, 10, 'blocked')), ['ejected']);
    like(await at.egress('pool/1'), { ejectedMs: 3200 });
  },
};
