import assert from 'node:assert/strict';
import type { Outcome, Policy } from '../../store/store.ts';
import { like } from './like.ts';
import { BREAKER, proxies, ROOMY, TARGET } from './scenery.ts';
import { type Cases, kinds, type SetStage, type Stage, told } from './stage.ts';

const using = (stage: SetStage, policy: Partial<Policy> = {}): Promise<Stage> =>
  stage(proxies(3), { ...ROOMY, breaker: BREAKER, ...policy });

async function answered(at: Stage, ...outcomes: Outcome[]): Promise<string[]> {
  const grants = await at.grants(outcomes.length);
  const told: string[] = [];
  for (const [i, grant] of grants.entries()) told.push(...kinds(await at.answer(grant, outcomes[i])));
  return told;
}

/** A target whose circuit has just opened, for a second. */
async function opened(stage: SetStage, policy: Partial<Policy> = {}): Promise<Stage> {
  const at = await using(stage, policy);
  like(await answered(at, 'target-error', 'target-error', 'target-error', 'target-error'), ['circuit']);
  return at;
}

const open = (forMs: number): object => ({ kind: 'circuit', target: TARGET, open: true, forMs });

/** A target that is down is left alone, and tried again by a few. */
export const breaker: Cases = {
  'circuit: opens when half of the requests failed, at the earliest after four': async (stage) => {
    for (const failure of ['target-error', 'network-error'] as const) {
      const at = await using(stage);
      like(await answered(at, failure, failure, failure), []);
      like(await at.answer(await at.grant(), 'ok'), [open(1000)]);
      like(told(await at.reserve(1)), { granted: 0, limiting: 'breaker', retryInMs: 1000, probing: false });
      like(await at.target(), { circuit: 'open', restMs: 1000 });
    }
  },

  'circuit: stays closed while fewer than half fail': async (stage) => {
    const at = await using(stage);
    like(await answered(at, 'target-error', 'ok', 'ok', 'ok', 'ok', 'ok'), []);
    like(await answered(at, 'target-error', 'target-error', 'target-error'), []);
    like(await at.target(), { circuit: 'closed', restMs: 0 });
    like(await answered(at, 'target-error'), ['circuit']);
  },

  'circuit: what failed longer ago than the window does not count': async (stage) => {
    const at = await using(stage);
    like(await answered(at, 'target-error', 'target-error', 'target-error'), []);
    await at.pass(1200);
    like(await answered(at, 'ok', 'target-error', 'ok', 'ok'), []);
  },

  'circuit: opens on a streak: good answers before do not hide an outage': async (stage) => {
    const at = await using(stage);
    like(await answered(at, ...new Array<Outcome>(40).fill('ok')), []);
    like(await answered(at, 'target-error', 'target-error', 'target-error'), []);
    like(await answered(at, 'network-error'), ['circuit']);
  },

  'circuit: is not opened by what the target thinks of us, nor by the gateway': async (stage) => {
    for (const outcome of ['rate-limited', 'blocked', 'challenged', 'gateway-error', 'ignored'] as const) {
      const at = await using(stage);
      assert.ok(!(await answered(at, ...new Array<Outcome>(12).fill(outcome))).includes('circuit'));
      like(await at.target(), { circuit: 'closed' });
    }
  },

  'circuit: is not opened by cancelled permits, nor by lost ones': async (stage) => {
    const at = await using(stage);
    await at.cancel(...(await at.grants(20)));
    await at.grants(20, { deadlineMs: 10 });
    await at.pass(10);
    like(await at.target(), { circuit: 'closed' });
    like(await answered(at, 'target-error', 'target-error', 'target-error'), []);
  },

  'circuit: half-open it lets a few probes through, and says when to ask again': async (stage) => {
    const at = await opened(stage);
    await at.pass(999);
    await at.refused('breaker', 1);
    await at.pass(1);
    like(await at.target(), { restMs: 0 });
    like(told(await at.reserve(9)), { granted: 2, limiting: 'breaker', retryInMs: 5000, probing: true });
    like(await at.target(), { circuit: 'half-open', restMs: 5000 });
    like(told(await at.reserve(9)), { granted: 0, limiting: 'breaker', retryInMs: 5000, probing: true });
  },

  'circuit: closes when the probes were answered, whatever the target thinks of us': async (stage) => {
    const at = await opened(stage);
    await at.pass(1000);
    const [first, second] = (await at.reserve(2)).grants;
    like(await at.answer(first), []);
    like(await at.answer(second, 'blocked'), [{ kind: 'circuit', target: TARGET, open: false, forMs: 0 }]);
    await at.grants(9);
    like(await at.target(), { circuit: 'closed', restMs: 0 });
  },

  'circuit: opens for twice as long when they failed, up to the most': async (stage) => {
    const at = await opened(stage);
    let openMs = 1000;
    for (let i = 0; i < 5; i++) {
      await at.pass(openMs);
      const [first, second] = await at.grants(2);
      openMs = Math.min(8000, openMs * 2);
      like(await at.answer(first, 'network-error'), [open(openMs)]);
      like(await at.answer(second), []);
      await at.refused('breaker', openMs);
    }
  },

  'circuit: it is open for up to a fifth less, at random': async (stage) => {
    const at = await stage(proxies(1), { ...ROOMY, breaker: BREAKER }, () => 0.5);
    await answered(at, 'target-error', 'target-error', 'target-error', 'target-error');
    await at.refused('breaker', 900);
  },

  'circuit: another probe goes for one that was cancelled, lost, or said nothing': async (stage) => {
    const at = await opened(stage);
    await at.pass(1000);
    const { grants } = await at.reserve(2, { deadlineMs: 300 });
    await at.cancel(grants[0]);
    const [second, ...none] = (await at.reserve(9)).grants;
    like(none, []);
    await at.answer(second, 'gateway-error');
    like(await at.room(), 1);
    await at.pass(300);
    like(await at.room(), 1);
  },

  'circuit: a probe that takes too long is lost, and says nothing later': async (stage) => {
    const at = await opened(stage);
    await at.pass(1000);
    const late = (await at.reserve(2)).grants;
    await at.pass(5000);
    const { grants } = await at.reserve(9);
    like(grants.length, 2);
    for (const grant of late) like(await at.answer(grant, 'target-error'), []);
    like(await at.answer(grants[0]), []);
    like(kinds(await at.answer(grants[1])), ['circuit']);
  },

  'circuit: what went out before it opened does not decide': async (stage) => {
    const at = await using(stage);
    const grants = await at.grants(9);
    for (const grant of grants.slice(0, 4)) await at.answer(grant, 'target-error');
    await at.pass(1000);
    const probes = (await at.reserve(2)).grants;
    for (const grant of grants.slice(4)) like(await at.answer(grant, 'target-error'), []);
    await at.answer(probes[0]);
    like(kinds(await at.answer(probes[1])), ['circuit']);
  },

  'circuit: a permit that another limit refuses takes no place of a probe': async (stage) => {
    const rates = [{ limit: 4, windowMs: 1000, burst: 4 }];
    const at = await opened(stage, { rates, windowMs: 100 });
    await at.pass(6000);
    await at.reserve(1, { cost: 4, policy: { ...at.policy, breaker: undefined } });
    for (let i = 0; i < 5; i++) like(told(await at.reserve(2)), { granted: 0, limiting: 'rate' });
    like(await at.room({ applies: [false] }), 2);
  },
};
