import type { Policy } from '../../store/store.ts';
import { introduce } from './ailing.ts';
import { like } from './like.ts';
import { AIMD, aRoute, proxies, TARGET } from './scenery.ts';
import { type Cases, kinds, type SetStage, type Stage } from './stage.ts';

const ten = { limit: 10, adaptBudget: AIMD };
const adaptConcurrency = { ...AIMD, start: 4, ceiling: 6 };

/** Told to go on at once, so that nothing but the limit comes down. */
const goOn = { retryAfterMs: 0 };

const refused = async (at: Stage): Promise<string[]> => kinds(await at.answer(await at.grant(), 'rate-limited', goOn));

const places = async (
  stage: SetStage,
  count: number,
  policy: Partial<Policy> = {},
  session?: string,
): Promise<Stage> => {
  const at = await stage(proxies(count, { session }), { limit: 100, adaptConcurrency, ...policy });
  await introduce(at);
  return at;
};

/** What adapts comes down on evidence, and grows back. */
export const adapting: Cases = {
  'budget: comes down by the factor for every egress, and that is told': async (stage) => {
    const at = await stage(proxies(2), ten);
    like(await at.answer(await at.grant(), 'rate-limited', goOn), [{ kind: 'budget', target: TARGET, limit: 7 }]);
    like(await at.target(), { limit: 7 });
    like(await at.room(), 6 + 7);
  },

  'budget: at most once a window, and not by requests that left before': async (stage) => {
    const at = await stage(proxies(9), ten);
    const grants = await at.grants(30);
    const cut = async (i: number): Promise<string[]> => kinds(await at.answer(grants[i], 'rate-limited', goOn));
    like([await cut(0), await cut(1)], [['budget'], []]);
    await at.pass(99);
    like(await refused(at), []);
    await at.pass(1);
    like(await cut(2), []);
    like(await at.target(), { limit: 7 });
    like(await refused(at), ['budget']);
    like(await at.target(), { limit: 4 });
  },

  'budget: not by a block, nor by trouble of the target': async (stage) => {
    const at = await stage(proxies(9), ten);
    for (const outcome of ['blocked', 'target-error', 'network-error'] as const) {
      await at.answer(await at.grant(), outcome, { retryAfterMs: 10 });
    }
    like(await at.target(), { limit: 10 });
  },

  'budget: never below the floor': async (stage) => {
    const at = await stage(proxies(1), { ...ten, adaptBudget: { ...AIMD, floor: 3 } });
    for (let i = 0; i < 6; i++) {
      await refused(at);
      await at.pass(100);
    }
    like(await at.target(), { limit: 3 });
    like(await at.room(), 3);
  },

  'budget: grows by a step for each window in which half of it was used, up to the ceiling': async (stage) => {
    const at = await stage(proxies(1), ten);
    await refused(at);
    const told: string[][] = [];
    const limits: number[] = [];
    for (let i = 0; i < 5; i++) {
      await at.pass(100);
      const verdicts: string[] = [];
      for (const grant of await at.grants(5)) verdicts.push(...kinds(await at.answer(grant)));
      told.push(verdicts);
      limits.push((await at.target()).limit);
    }
    like(limits, [8, 9, 10, 10, 10]);
    like(told, [['budget'], ['budget'], ['budget'], [], []]);
  },

  'budget: does not grow by windows in which it was hardly used': async (stage) => {
    const at = await stage(proxies(1), ten);
    await refused(at);
    for (let i = 0; i < 5; i++) {
      await at.pass(100);
      await at.answer(await at.grant());
    }
    like(await at.target(), { limit: 7 });
  },

  'budget: that has come down is spread as evenly as before': async (stage) => {
    const at = await stage(proxies(1), { ...ten, spacingMs: 10 });
    await at.answer(await at.grant());
    await at.refused('budget', 10);
    await at.pass(10);
    await refused(at);
    await at.pass(10);
    await at.grant();
    await at.refused('budget', 100 / 7);
  },

  'budget: a request that costs more than it has come down to takes all there is': async (stage) => {
    const rates = [{ limit: 10, windowMs: 1000, burst: 10 }];
    const at = await stage(proxies(1), { ...ten, rates, adaptBudget: { ...AIMD, decrease: 0.2 } });
    await refused(at);
    await at.pass(5000);
    await at.answer(await at.grant({ cost: 5 }), 'ignored');
    await at.refused('budget', 100);
    await at.pass(100);
    await at.answer(await at.grant({ cost: 5 }), 'ignored');
    await at.pass(100);
    // And its full price of the rates.
    await at.refused('rate', 4800, { cost: 5 });
  },

  'budget: of an account it adapts, too': async (stage) => {
    const at = await stage(proxies(4), { ...ten, scope: 'account' });
    await at.answer(await at.grant(), 'rate-limited', { retryAfterMs: 100 });
    await at.pass(100);
    // Half of it, over however many egresses.
    const grants = await Promise.all(at.routes.map((pin) => at.grant({ pin })));
    for (const grant of grants) await at.answer(grant);
    like(await at.target(), { limit: 8 });
  },

  'places: begin with a few, and grow one a window while half of them are used': async (stage) => {
    const at = await places(stage, 2);
    const most: number[] = [];
    for (let i = 0; i < 5; i++) {
      const { grants } = await at.reserve(99);
      for (const grant of grants) await at.answer(grant);
      await at.pass(100);
      most.push(grants.length);
    }
    like(most, [4, 4, 5, 6, 6]);
    like((await at.reserve(99)).limiting, 'concurrency');
  },

  'places: do not grow while they are hardly used': async (stage) => {
    const at = await places(stage, 2);
    for (let i = 0; i < 6; i++) {
      await at.answer(await at.grant());
      await at.pass(100);
    }
    like(await at.target(), { concurrency: 4 });
  },

  'places: never more than the policy allows': async (stage) => {
    like(await (await places(stage, 2, { concurrency: 3 })).room(), 3);
  },

  'places: cut when a cooldown widens': async (stage) => {
    const at = await places(stage, 5, { limit: 1 });
    const [first, second, third] = await at.grants(3);
    const report = { retryAfterMs: 10 };
    for (const grant of [first, second]) like(kinds(await at.answer(grant, 'rate-limited', report)), ['cooldown']);
    const cut = { kind: 'concurrency', target: TARGET, limit: 2 };
    like((await at.answer(third, 'rate-limited', report)).at(-1), cut);
    await at.pass(10);
    like(await at.room(), 2);
  },

  'places: cut when the target says that it is overloaded, and for how long': async (stage) => {
    const at = await places(stage, 2);
    like(await at.answer(await at.grant(), 'target-error'), []);
    like(kinds(await at.answer(await at.grant(), 'target-error', { retryAfterMs: 10 })), ['cooldown', 'concurrency']);
    like(await at.target(), { concurrency: 2 });
  },

  'places: cut when the only egress is refused, and not by one of several, nor by one of many': async (stage) => {
    like(await refused(await places(stage, 1)), ['concurrency']);
    like(await refused(await places(stage, 2)), []);
    like(await refused(await places(stage, 1, {}, 's')), []);
    like(await refused(await stage([aRoute(1, { weight: Infinity })], { limit: 100, adaptConcurrency })), []);
  },

  'places: cut at most once a window, and never to less than one': async (stage) => {
    const at = await places(stage, 1);
    const counts: number[] = [];
    for (let i = 0; i < 4; i++) {
      await refused(at);
      await refused(at);
      counts.push((await at.target()).concurrency);
      await at.pass(100);
    }
    like(counts, [2, 1, 1, 1]);
  },
};
