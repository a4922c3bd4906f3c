import { describe, expect, it } from 'vitest';
import { ejected, HEALTH, kinds, next, proxies, repeatedly, roomy, using } from '../support/adapting.ts';
import { type AtStore, TARGET } from '../support/at-store.ts';
import { offerOf } from '../support/store-trace.ts';

describe('an egress in bad health', () => {
  it('is out after ten outcomes of which less than 40 % were good, and not after nine', () => {
    const [bad, good] = proxies(2);
    const at = using([bad, good]);
    expect(repeatedly(at, bad, 3, 'ok')).toEqual([]);
    expect(repeatedly(at, bad, 6, 'blocked')).toEqual([]);
    at.clock.advanceSync(100);
    expect(repeatedly(at, bad, 1, 'blocked')).toEqual([
      { kind: 'ejected', target: TARGET, egress: 'pool/1', forMs: HEALTH.baseMs },
    ]);
    expect(next(at, 5)).toEqual(new Array(5).fill('pool/2'));
    expect(at.egress('pool/1')).toMatchObject({ ejectedMs: HEALTH.baseMs - 5, remaining: 0 });
    expect(at.reserve(1, { pin: bad })).toMatchObject({ grants: [], limiting: 'health' });
  });

  it('stays in with 40 %', () => {
    const [bad, good] = proxies(2);
    const at = using([bad, good]);
    repeatedly(at, bad, 4, 'ok');
    expect(repeatedly(at, bad, 6, 'challenged')).toEqual([]);
  });

  it('is judged by the last twenty', () => {
    const [bad, good] = proxies(2);
    const at = using([bad, good]);
    repeatedly(at, bad, 40, 'ok');
    expect(repeatedly(at, bad, 12, 'blocked')).toEqual([]);
    at.clock.advanceSync(10);
    expect(kinds(repeatedly(at, bad, 1, 'blocked'))).toEqual(['ejected']);
  });

  it('is not what the target itself has trouble with, nor the gateway, nor a full budget', () => {
    for (const outcome of ['target-error', 'gateway-error', 'rate-limited', 'ignored'] as const) {
      const [bad, good] = proxies(2);
      const at = using([bad, good]);
      expect(kinds(repeatedly(at, bad, 20, outcome))).not.toContain('ejected');
      expect(at.egress('pool/1')).toMatchObject({ ejectedMs: 0 });
    }
  });

  it('is told by half of the resets and timeouts', () => {
    let n = 0;
    const [bad, good] = proxies(2);
    const at = using([bad, good], {}, () => (n++ % 2) / 2);
    expect(repeatedly(at, bad, 18, 'network-error')).toEqual([]);
    at.clock.advanceSync(10);
    expect(kinds(repeatedly(at, bad, 1, 'network-error'))).toEqual(['ejected']);
  });

  it('waits for its turn after each refusal: the next request takes another one, when there is any', () => {
    for (const outcome of ['blocked', 'challenged', 'network-error'] as const) {
      const at = using(proxies(2));
      const first = at.grant();
      at.answer(first, outcome);
      const second = at.grant();
      expect(second.route.id).not.toBe(first.route.id);
      at.answer(second, outcome);
      expect(at.reserve(1)).toMatchObject({ grants: [], limiting: 'cooldown' });
      const alone = using(proxies(1));
      alone.answer(alone.grant(), outcome);
      expect(alone.reserve(1)).toEqual({ grants: [], retryInMs: 10, limiting: 'cooldown' });
    }
  });

  it('is nobody without the policy for it', () => {
    const [bad, good] = proxies(2);
    const at = using([bad, good], { health: undefined });
    expect(repeatedly(at, bad, 20, 'blocked')).toEqual([]);
    expect(at.reserve(1, { pin: bad }).grants).toHaveLength(1);
  });

  it('says nothing of the same egress at another target', () => {
    const [bad, good] = proxies(2);
    const at = using([bad, good]);
    ejected(at, bad);
    expect(at.reserve(1, { pin: bad }, 'other.test').grants).toHaveLength(1);
  });
});

describe('what is out', () => {
  it('is not forgotten while no route leads to it', () => {
    const routes = proxies(2);
    const at = using(routes);
    const forMs = ejected(at, routes[0]);
    routes[0].closed = true;
    at.clock.advanceSync(forMs / 2);
    for (let i = 0; i < 20; i++) at.reserve(0);
    expect(at.egress('pool/1')).toMatchObject({ ejectedMs: forMs / 2 });
    // Its place in the pool is another's, and when one comes that leads there again it is still out.
    const again = { ...routes[0], closed: false, id: 'pool/3', seq: 3 };
    expect(at.reserve(1, { pin: again })).toMatchObject({ grants: [], limiting: 'health' });
    at.clock.advanceSync(forMs + HEALTH.maxMs);
    for (let i = 0; i < 20; i++) at.reserve(0);
    expect(at.egress('pool/1')).toBeUndefined();
  });

  it('keeps the target from being forgotten, and so does a record of bad answers', () => {
    let others = 0;
    const elsewhere = (at: AtStore): void => {
      for (let i = 0; i < 100; i++) {
        const name = `other${others++}.test`;
        at.store.cancel(name, at.reserve(1, {}, name).grants);
      }
    };
    const routes = proxies(2);
    const at = using(routes);
    repeatedly(at, routes[0], 9, 'blocked');
    at.clock.advanceSync(HEALTH.maxMs / 2);
    elsewhere(at);
    const verdicts = repeatedly(at, routes[0], 1, 'blocked');
    expect(kinds(verdicts)).toEqual(['ejected']);
    at.clock.advanceSync(HEALTH.baseMs - 100);
    elsewhere(at);
    expect(at.reserve(1, { pin: routes[0] })).toMatchObject({ grants: [], limiting: 'health' });
    // Nobody comes for long, but not for so long that it does not matter any more.
    at.clock.advanceSync(HEALTH.maxMs);
    elsewhere(at);
    const probes = at.reserve(9, { pin: routes[0] }).grants;
    expect(probes).toHaveLength(1);
    // Back, but out for longer the next time, for a while.
    expect(kinds(at.answer(probes[0]))).toEqual(['returned']);
    at.clock.advanceSync(HEALTH.healthyMs - 100);
    elsewhere(at);
    expect(repeatedly(at, routes[0], 10, 'blocked')).toMatchObject([{ kind: 'ejected', forMs: 2 * HEALTH.baseMs }]);
    at.clock.advanceSync(100 * HEALTH.maxMs);
    elsewhere(at);
    expect(at.store.inspect(TARGET).targets).toEqual([]);
  });

  it('leaves nothing to the egress that takes its place in the table', () => {
    const routes = proxies(3);
    const at = using(routes);
    repeatedly(at, routes[0], 9, 'blocked');
    routes[0].closed = true;
    at.clock.advanceSync(2000);
    for (let i = 0; i < 20; i++) at.reserve(0);
    expect(at.egress('pool/1')).toBeUndefined();
    const later = { ...routes[0], closed: false, id: 'pool/4', egress: 'pool/4', seq: 4 };
    at.store.cancel(TARGET, [at.grant({ offer: offerOf([later], at.clock) })]);
    expect(repeatedly(at, later, 9, 'blocked')).toEqual([]);
  });

  it('is in again at once when there is no policy for it any more, and out when there is', () => {
    const routes = proxies(2);
    const at = using(routes);
    const forMs = ejected(at, routes[0]);
    at.clock.advanceSync(100);
    const without = { policy: roomy() };
    expect(at.reserve(200, without).grants.some(({ route }) => route === routes[0])).toBe(true);
    expect(at.reserve(1, { pin: routes[0] })).toMatchObject({ grants: [], retryInMs: forMs - 100 });
  });
});
