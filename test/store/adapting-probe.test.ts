import { describe, expect, it } from 'vitest';
import type { Grant, Policy, Route } from '../../src/store/store.ts';
import { ejected, HEALTH, kinds, next, proxies, repeatedly, using } from '../support/adapting.ts';
import { type AtStore, TARGET } from '../support/at-store.ts';

describe('the probe of an egress that is out', () => {
  const out = (options: Partial<Policy> = {}): { at: AtStore; bad: Route; good: Route; forMs: number } => {
    const [bad, good] = proxies(2);
    const at = using([bad, good], options);
    return { at, bad, good, forMs: ejected(at, bad) };
  };

  const probe = (at: AtStore, bad: Route): Grant => {
    const { grants } = at.reserve(9, { pin: bad });
    expect(grants).toHaveLength(1);
    return grants[0];
  };

  it('goes when the time is over, and not before; one, and no other beside it', () => {
    const { at, bad, forMs } = out();
    at.clock.advanceSync(forMs - 1);
    expect(at.reserve(1, { pin: bad })).toMatchObject({ grants: [], retryInMs: 1, limiting: 'health' });
    at.clock.advanceSync(1);
    probe(at, bad);
    expect(at.reserve(1, { pin: bad })).toEqual({ grants: [], retryInMs: HEALTH.probeTimeoutMs, limiting: 'health' });
    expect(next(at, 3)).toEqual(['pool/2', 'pool/2', 'pool/2']);
  });

  it('is a request like any other: chosen when its turn comes', () => {
    const { at, forMs } = out();
    at.clock.advanceSync(forMs);
    expect(next(at, 3, 'ignored').filter((id) => id === 'pool/1')).toHaveLength(1);
  });

  it('brings it back when it was good, with a clean record', () => {
    const { at, bad, forMs } = out();
    at.clock.advanceSync(forMs);
    expect(at.answer(probe(at, bad))).toEqual([{ kind: 'returned', target: TARGET, egress: 'pool/1' }]);
    expect(at.egress('pool/1')).toMatchObject({ ejectedMs: 0 });
    expect(repeatedly(at, bad, 9, 'blocked')).toEqual([]);
    at.clock.advanceSync(100);
    expect(kinds(repeatedly(at, bad, 1, 'blocked'))).toEqual(['ejected']);
  });

  it('keeps it out for longer when it was bad, up to the most', () => {
    const { at, bad, forMs } = out();
    let wait = forMs;
    for (let count = 2; count <= 12; count++) {
      at.clock.advanceSync(wait);
      const [verdict] = at.answer(probe(at, bad), 'blocked');
      wait = Math.min(count, 10) * HEALTH.baseMs;
      expect(verdict).toEqual({ kind: 'ejected', target: TARGET, egress: 'pool/1', forMs: wait });
    }
  });

  it('is followed by another one when it was lost, cancelled, or said nothing', () => {
    const ends: ((at: AtStore, grant: Grant) => unknown)[] = [
      (at) => at.clock.advanceSync(50),
      (at, grant) => at.store.cancel(TARGET, [grant]),
      (at, grant) => at.answer(grant, 'ignored'),
      (at, grant) => at.answer(grant, 'target-error'),
      (at, grant) => at.answer(grant, 'gateway-error'),
      (at, grant) =>
        at.store.settle(TARGET, [{ grant, outcome: undefined, retryAfterMs: undefined, graceMs: 0, end: true }]),
    ];
    for (const end of ends) {
      const { at, bad, forMs } = out();
      at.clock.advanceSync(forMs);
      const { grants } = at.reserve(2, { pin: bad, deadlineMs: 50 });
      expect(grants).toHaveLength(1);
      end(at, grants[0]);
      probe(at, bad);
    }
  });

  it('counts as lost after a while; what the lost one says later makes no room for a third', () => {
    const { at, bad, forMs } = out();
    at.clock.advanceSync(forMs);
    const lost = probe(at, bad);
    at.clock.advanceSync(HEALTH.probeTimeoutMs);
    const second = probe(at, bad);
    at.answer(lost, 'ignored');
    expect(at.reserve(1, { pin: bad })).toMatchObject({ grants: [], limiting: 'health' });
    expect(kinds(at.answer(second))).toEqual(['returned']);
  });

  it('is not one of those that were under way when it went out: these change nothing', () => {
    const [bad, good] = proxies(2);
    const at = using([bad, good]);
    const { grants } = at.reserve(14, { pin: bad });
    expect(kinds(grants.slice(0, 10).flatMap((grant) => at.answer(grant, 'blocked')))).toEqual(['ejected']);
    expect(at.answer(grants[10])).toEqual([]);
    expect(at.answer(grants[11], 'blocked')).toEqual([]);
    expect(at.egress('pool/1')).toMatchObject({ ejectedMs: HEALTH.baseMs });
    // One that has not left yet is taken back; once the probe is due, it is the probe.
    expect(at.store.bind(TARGET, grants[12], 'pool/1')).toMatchObject({ ok: false, retryInMs: HEALTH.baseMs });
    at.clock.advanceSync(HEALTH.baseMs);
    expect(at.store.bind(TARGET, grants[13], 'pool/1')).toMatchObject({ ok: true });
    expect(at.reserve(1, { pin: bad })).toMatchObject({ grants: [], limiting: 'health' });
    expect(kinds(at.answer(grants[13]))).toEqual(['returned']);
  });

  it('says alone how the egress is: what is still under way from before does not', () => {
    const [bad, good] = proxies(2);
    const at = using([bad, good]);
    const { grants } = at.reserve(12, { pin: bad });
    for (const grant of grants.slice(0, 10)) at.answer(grant, 'blocked');
    at.clock.advanceSync(HEALTH.baseMs);
    const grant = probe(at, bad);
    expect([...at.answer(grants[10]), ...at.answer(grants[11], 'blocked')]).toEqual([]);
    expect(kinds(at.answer(grant))).toEqual(['returned']);
  });

  it('that was booked ahead and is cancelled makes room for another one, but no sooner', () => {
    const { at, bad, forMs } = out();
    const [grant] = at.reserve(1, { pin: bad, horizonMs: forMs }).grants;
    expect(grant.startInMs).toBe(forMs);
    at.store.cancel(TARGET, [grant]);
    at.clock.advanceSync(forMs - 1);
    expect(at.reserve(1, { pin: bad })).toMatchObject({ grants: [], retryInMs: 1, limiting: 'health' });
    at.clock.advanceSync(1);
    probe(at, bad);
  });

  it('is bound where it was granted for: it is not refused for being one', () => {
    const { at, bad, forMs } = out();
    at.clock.advanceSync(forMs);
    const grant = probe(at, bad);
    at.clock.advanceSync(30);
    expect(at.store.bind(TARGET, grant, 'pool/1')).toMatchObject({ ok: true });
    expect(kinds(at.answer(grant))).toEqual(['returned']);
  });

  it('that is moved to another egress is none any more: another one may go', () => {
    const { at, bad, forMs } = out();
    at.clock.advanceSync(forMs);
    const grant = probe(at, { ...bad, weight: 3 });
    expect(at.store.bind(TARGET, grant, 'pool/2')).toMatchObject({ ok: true });
    expect(at.egress('pool/1')).toMatchObject({ ejectedMs: 0, usableInMs: 0 });
    // And in the order of choice it is due, too.
    expect(next(at, 2, 'ignored')).toContain('pool/1');
    expect(at.answer(grant)).toEqual([]);
  });

  it('that is refused elsewhere is none any more, either', () => {
    const { at, bad, good, forMs } = out();
    at.clock.advanceSync(forMs);
    const grant = probe(at, bad);
    at.answer(at.grant({ pin: good }), 'rate-limited', { retryAfterMs: 500 });
    expect(at.store.bind(TARGET, grant, 'pool/2')).toMatchObject({ ok: false, retryInMs: 500 });
    expect(at.egress('pool/1')).toMatchObject({ ejectedMs: 0 });
  });

  it('may be a permit of another egress that turns out to lead there; before it is due that is refused', () => {
    const { at, good, forMs } = out();
    const early = at.grant({ pin: good });
    expect(at.store.bind(TARGET, early, 'pool/1')).toMatchObject({ ok: false, retryInMs: forMs });
    at.clock.advanceSync(forMs);
    const late = at.grant({ pin: good });
    expect(at.store.bind(TARGET, late, 'pool/1')).toMatchObject({ ok: true });
    const third = at.grant({ pin: { ...good, id: 'pool/9', egress: 'pool/9' } });
    expect(at.store.bind(TARGET, third, 'pool/1')).toMatchObject({ ok: false, retryInMs: HEALTH.probeTimeoutMs });
    expect(kinds(at.answer(late, 'blocked'))).toEqual(['ejected']);
  });

  it('waits for a Retry-After that is longer', () => {
    const { at, bad, forMs } = out();
    at.clock.advanceSync(forMs);
    at.answer(probe(at, bad), 'rate-limited', { retryAfterMs: 700 });
    expect(at.reserve(1, { pin: bad })).toMatchObject({ grants: [], retryInMs: 700, limiting: 'cooldown' });
  });
});
