import assert from 'node:assert/strict';
import { type Random, seededRandom } from '../../clock.ts';
import type { Grant, Policy } from '../../store/store.ts';
import { worstWindow } from '../window.ts';
import { introduce, repeatedly } from './ailing.ts';
import { like } from './like.ts';
import { AIMD, BREAKER, HEALTH, proxies, ROOMY, sessions } from './scenery.ts';
import { type Cases, kinds, type SetStage, type Stage, told } from './stage.ts';

interface Sent {
  readonly grant: Grant;
  readonly cost: number;
  from: number;
  readonly deadline: number;
}

/** What reached the target, by egress: each request at any time at which it may have. */
class Arrivals {
  readonly times = new Map<string, number[]>();
  readonly all: number[] = [];
  private readonly random: Random;

  constructor(random: Random) {
    this.random = random;
  }

  between({ grant: { egress }, cost, from }: Sent, to: number): void {
    // Early, late, or in between.
    const draw = this.random();
    const at = draw < 0.3 ? from : draw > 0.7 ? to : from + (to - from) * this.random();
    const own = this.times.get(egress) ?? [];
    this.times.set(egress, own);
    for (let n = 0; n < cost; n++) {
      own.push(at);
      this.all.push(at);
    }
  }
}

const EXITS = ['10.0.0.1', '10.0.0.2', '10.0.0.3'];

/** Much random work: reserves, books, moves, answers, cancels and loses permits. */
async function work(at: Stage, random: Random, steps: number): Promise<Arrivals> {
  const arrivals = new Arrivals(random);
  const below = (n: number): number => Math.floor(random() * n);
  let open: Sent[] = [];
  const lose = (): void => {
    for (const one of open) if (one.deadline <= at.clock.now()) arrivals.between(one, one.deadline);
    open = open.filter(({ deadline }) => deadline > at.clock.now());
  };
  for (let i = 0; i < steps; i++) {
    const now = at.clock.now();
    const dice = random();
    if (dice < 0.45) {
      const cost = random() < 0.8 ? 1 : 2;
      const deadlineMs = random() < 0.8 ? 100_000 : 1 + below(80);
      const demand = { cost, deadlineMs, horizonMs: random() < 0.7 ? 0 : below(80) };
      for (const grant of (await at.reserve(1 + below(4), demand)).grants) {
        const from = now + grant.startInMs;
        open.push({ grant, cost, from, deadline: from + deadlineMs });
      }
    } else if (dice < 0.7) {
      // None is answered before it has left.
      const held = open.filter(({ from }) => from <= now);
      for (const one of held.slice(0, 1 + below(3))) {
        const graceMs = random() < 0.8 ? 0 : below(60);
        await at.answer(one.grant, random() < 0.9 ? 'ok' : 'rate-limited', { graceMs });
        arrivals.between(one, now + graceMs);
        open = open.filter((other) => other !== one);
      }
    } else if (dice < 0.8) {
      for (const { grant } of open.splice(below(open.length + 1), 1)) await at.cancel(grant);
    } else if (dice < 0.9 && open.length > 0) {
      const one = open[below(open.length)];
      if (one.from <= now) {
        const { route } = one.grant;
        const egress = EXITS[below(EXITS.length)];
        const { ok, duplicate } = await at.bind(one.grant, egress);
        route.egress = egress;
        if (duplicate) await at.close(route);
        if (ok) one.from = now;
        else open = open.filter((other) => other !== one);
      }
    }
    await at.pass(random() < 0.3 ? 0 : below(40));
    lose();
  }
  for (const one of open) arrivals.between(one, Math.max(one.from, at.clock.now()));
  return arrivals;
}

async function keeps(stage: SetStage, policy: Partial<Policy>, check: (arrivals: Arrivals) => void): Promise<void> {
  for (let seed = 1; seed <= 3; seed++) {
    check(await work(await stage(sessions(6), policy), seededRandom(seed), 150));
  }
}

const most = (times: readonly number[], windowMs: number): number => worstWindow([...times], windowMs - 1e-6);

/** Whatever happens. */
export const promises: Cases = {
  'promise: no egress gets more than its limit in any window, whatever is cancelled, moved or lost': (stage) =>
    keeps(stage, { limit: 3 }, ({ times }) => {
      for (const [egress, own] of times) assert.ok(most(own, 100) <= 3, `${egress}: ${most(own, 100)} in a window`);
      assert.ok(times.size > 2, 'too little happened');
    }),

  'promise: an account gets no more than its limit in any window': (stage) =>
    keeps(stage, { limit: 4, scope: 'account' }, ({ all }) => {
      assert.ok(most(all, 100) <= 4, `${most(all, 100)} in a window`);
      assert.ok(all.length > 20, 'too little happened');
    }),

  'promise: retryInMs is exact: before it nothing comes, and then a permit, or another limit is in the way': async (
    stage,
  ) => {
    const random = seededRandom(7);
    const at = await stage(sessions(3), { limit: 2, rates: [{ limit: 10, windowMs: 160, burst: 3 }] });
    let waits = 0;
    for (let i = 0; i < 80; i++) {
      let answer = await at.reserve(1 + Math.floor(random() * 4));
      for (let limits = 0; answer.grants.length === 0; limits++) {
        const { retryInMs, limiting } = answer;
        assert.ok(retryInMs > 0 && retryInMs < Infinity, `${limiting}: ${retryInMs} ms`);
        assert.ok(limits < 4, `${limiting} after ${limits} other waits`);
        await at.pass(retryInMs / 2);
        await at.refused(limiting!, retryInMs / 2);
        await at.pass(retryInMs / 2);
        answer = await at.reserve(1);
        if (answer.grants.length === 0)
          assert.notEqual(answer.limiting, limiting, 'it was not to be asked again so soon');
        waits++;
      }
      for (const grant of answer.grants) {
        await at.pass(Math.floor(random() * 15));
        await at.answer(grant, random() < 0.9 ? 'ok' : 'rate-limited');
      }
    }
    assert.ok(waits > 20, 'too few waits');
  },

  'targets: two do not touch each other': async (stage) => {
    const everything = { health: HEALTH, breaker: BREAKER, adaptBudget: { ...AIMD, ceiling: 20 } };
    const at = await stage(proxies(4), { limit: 20, rates: [{ limit: 60, windowMs: 100, burst: 60 }], ...everything });
    const before = await at.grant({}, 'quiet.test');
    const quiet = await at.target('quiet.test');
    for (const outcome of ['rate-limited', 'target-error', 'network-error', 'blocked'] as const) {
      for (const grant of (await at.reserve(8)).grants) await at.answer(grant, outcome, { retryAfterMs: 5000 });
    }
    like(await at.target('quiet.test'), quiet);
    like(told(await at.reserve(39, {}, 'quiet.test')), { granted: 39, limiting: undefined });
    await at.answer(before);
    like(await at.target('quiet.test'), { active: 39, limit: 20, circuit: 'closed', restMs: 0 });
  },

  'memory: nothing that matters is forgotten while other targets are asked': async (stage) => {
    const others = async (at: Stage): Promise<void> => {
      for (let i = 0; i < 40; i++) await at.reserve(1, {}, `other${i}.test`);
    };
    const cooling = await stage(proxies(3), { limit: 1 });
    for (const grant of await cooling.grants(3)) await cooling.answer(grant, 'rate-limited', { retryAfterMs: 5000 });
    await cooling.pass(4000);
    await others(cooling);
    await cooling.refused('target', 1000);

    const ill = await stage(proxies(2), { ...ROOMY, health: HEALTH });
    await introduce(ill);
    like(kinds(await repeatedly(ill, ill.routes[0], 10, 'blocked')), ['ejected']);
    await ill.pass(3000);
    await others(ill);
    await ill.refused('health', 200, { pin: ill.routes[0] });

    const cut = await stage(proxies(1), { limit: 10, adaptBudget: AIMD });
    await cut.answer(await cut.grant(), 'rate-limited', { retryAfterMs: 0 });
    await cut.pass(900);
    await others(cut);
    like(await cut.target(), { limit: 7 });
  },

  'memory: an egress that no route leads to any more keeps what it has spent': async (stage) => {
    const routes = proxies(2, { egress: '10.0.0.1' });
    const at = await stage(routes.slice(0, 1), { limit: 1 });
    await at.answer(await at.grant());
    await at.close(routes[0]);
    for (let i = 0; i < 20; i++) await at.reserve(1);
    await at.pass(60);
    await at.refusedUntil('budget', 40, { pin: routes[1] });
  },
};
