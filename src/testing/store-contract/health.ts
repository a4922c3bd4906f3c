import type { Policy, Route } from '../../store/store.ts';
import { due, introduce, out, probe, repeatedly, using } from './ailing.ts';
import { like } from './like.ts';
import { aRoute, HEALTH, proxies, ROOMY, sessions, TARGET } from './scenery.ts';
import { type Cases, ids, kinds, type SetStage } from './stage.ts';

/** How many of them go out when all of them are blocked. */
async function outs(stage: SetStage, routes: readonly Route[], policy: Partial<Policy> = {}): Promise<number> {
  const at = await using(stage, routes, policy);
  let n = 0;
  for (const pin of routes) n += kinds(await repeatedly(at, pin, 15, 'blocked')).length;
  return n;
}

/** An egress that gives bad answers goes out for a while. */
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
