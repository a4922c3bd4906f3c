import { describe, expect, it } from 'vitest';
import type { Outcome, Policy } from '../../src/store/store.ts';
import { BREAKER, kinds, proxies, roomy } from '../support/adapting.ts';
import { type AtStore, atStore, TARGET } from '../support/at-store.ts';

const policy: Policy = roomy({ breaker: BREAKER });
const using = (options: Partial<Policy> = {}): AtStore => atStore(proxies(3), { ...policy, ...options });

function answered(at: AtStore, ...outcomes: Outcome[]): string[] {
  const { grants } = at.reserve(outcomes.length);
  expect(grants).toHaveLength(outcomes.length);
  return kinds(grants.flatMap((grant, i) => at.answer(grant, outcomes[i])));
}

/** A target whose circuit has just opened, for a second. */
function opened(options: Partial<Policy> = {}): AtStore {
  const at = using(options);
  expect(answered(at, 'target-error', 'target-error', 'target-error', 'target-error')).toEqual(['circuit']);
  return at;
}

const circuit = (at: AtStore): string | undefined => at.store.inspect(TARGET).targets[0]?.circuit;

describe("a target's circuit", () => {
  it('opens when half of the requests failed by the target or on the way, at the earliest after four', () => {
    for (const failure of ['target-error', 'network-error'] as const) {
      const at = using();
      expect(answered(at, failure, failure, failure)).toEqual([]);
      const [grant] = at.reserve(1).grants;
      expect(at.answer(grant, 'ok')).toEqual([{ kind: 'circuit', target: TARGET, open: true, forMs: 1000 }]);
      expect(at.reserve(1)).toEqual({ grants: [], retryInMs: 1000, limiting: 'breaker', probing: false });
      expect(at.store.inspect(TARGET).targets[0]).toMatchObject({ circuit: 'open', restMs: 1000 });
    }
  });

  it('stays closed while fewer than half fail', () => {
    const at = using();
    expect(answered(at, 'target-error', 'ok', 'ok', 'ok', 'ok', 'ok')).toEqual([]);
    expect(answered(at, 'target-error', 'target-error', 'target-error')).toEqual([]);
    expect(answered(at, 'target-error')).toEqual(['circuit']);
  });

  it('opens on a streak: good answers before do not hide an outage', () => {
    const at = using();
    for (let i = 0; i < 2; i++) {
      for (const grant of at.reserve(50).grants) at.answer(grant);
      expect(answered(at, 'target-error')).toEqual([]);
      // Long ago by the next time: it is as if it had never been.
      at.clock.advanceSync(1100);
    }
    for (const grant of at.reserve(50).grants) at.answer(grant);
    expect(answered(at, 'target-error', 'target-error', 'target-error', 'target-error')).toEqual(['circuit']);
  });

  it('is not opened by what the target thinks of us, nor by the gateway', () => {
    for (const outcome of ['rate-limited', 'blocked', 'challenged', 'gateway-error', 'ignored'] as const) {
      const at = using();
      const { grants } = at.reserve(20);
      const verdicts = grants.flatMap((grant) => at.answer(grant, outcome));
      expect(kinds(verdicts)).not.toContain('circuit');
      expect(circuit(at)).toBe('closed');
    }
  });

  it('is not opened by cancelled permits, nor by lost ones', () => {
    const at = using();
    at.store.cancel(TARGET, at.reserve(20).grants);
    at.reserve(20, { deadlineMs: 10 });
    at.clock.advanceSync(10);
    expect(circuit(at)).toBe('closed');
    expect(answered(at, 'target-error', 'target-error', 'target-error')).toEqual([]);
  });

  it('lets so many probes through when it is time, and says when to ask again', () => {
    const at = opened();
    at.clock.advanceSync(999);
    expect(at.reserve(1)).toMatchObject({ grants: [], retryInMs: 1, limiting: 'breaker' });
    at.clock.advanceSync(1);
    expect(at.store.inspect(TARGET).targets[0]).toMatchObject({ circuit: 'open', restMs: 0 });
    expect(at.reserve(9)).toMatchObject({ grants: { length: 2 }, retryInMs: 5000, limiting: 'breaker' });
    expect(circuit(at)).toBe('half-open');
    expect(at.reserve(9)).toEqual({ grants: [], retryInMs: 5000, limiting: 'breaker', probing: true });
  });

  it('closes when they were good', () => {
    const at = opened();
    at.clock.advanceSync(1000);
    const { grants } = at.reserve(2);
    expect(at.answer(grants[0])).toEqual([]);
    expect(at.answer(grants[1], 'blocked')).toEqual([{ kind: 'circuit', target: TARGET, open: false, forMs: 0 }]);
    expect(at.reserve(9).grants).toHaveLength(9);
  });

  it('opens for twice as long when they were bad', () => {
    const at = opened();
    at.clock.advanceSync(1000);
    const { grants } = at.reserve(2);
    expect(at.answer(grants[0], 'network-error')).toEqual([
      { kind: 'circuit', target: TARGET, open: true, forMs: 2000 },
    ]);
    expect(at.answer(grants[1])).toEqual([]);
    expect(at.reserve(1).retryInMs).toBe(2000);
  });

  it('lets another probe through for one that was cancelled, lost, or said nothing', () => {
    const at = opened();
    at.clock.advanceSync(1000);
    const { grants } = at.reserve(2, { deadlineMs: 300 });
    at.store.cancel(TARGET, [grants[0]]);
    const [second, ...none] = at.reserve(9).grants;
    expect(none).toEqual([]);
    at.answer(second, 'gateway-error');
    expect(at.reserve(9).grants).toHaveLength(1);
    at.clock.advanceSync(300);
    expect(at.reserve(9).grants).toHaveLength(1);
  });

  it('takes a probe that takes too long for a lost one', () => {
    const at = opened();
    at.clock.advanceSync(1000);
    const late = at.reserve(2).grants;
    at.clock.advanceSync(5000);
    const { grants } = at.reserve(9);
    expect(grants).toHaveLength(2);
    expect(kinds(late.flatMap((grant) => at.answer(grant, 'target-error')))).toEqual([]);
    expect(kinds(grants.flatMap((grant) => at.answer(grant)))).toEqual(['circuit']);
  });

  it('takes no place for a permit that another limit refuses', () => {
    const rates = [{ limit: 4, windowMs: 1000, burst: 4 }];
    const at = opened({ rates, windowMs: 100 });
    at.clock.advanceSync(1000);
    // Of what was spent, all but a little has come back.
    at.reserve(2, { applies: [false] });
    at.clock.advanceSync(5000);
    at.reserve(1, { cost: 4, policy: { ...policy, rates, breaker: undefined } });
    for (let i = 0; i < 5; i++) expect(at.reserve(2)).toMatchObject({ grants: [], limiting: 'rate' });
    expect(at.reserve(9, { applies: [false] }).grants).toHaveLength(2);
  });

  it('forgets what went out before it opened', () => {
    const at = using();
    const { grants } = at.reserve(9);
    for (const grant of grants.slice(0, 4)) at.answer(grant, 'target-error');
    at.clock.advanceSync(1000);
    const probes = at.reserve(2).grants;
    expect(kinds(grants.slice(4).flatMap((grant) => at.answer(grant, 'target-error')))).toEqual([]);
    expect(kinds(probes.flatMap((grant) => at.answer(grant)))).toEqual(['circuit']);
  });

  it('is kept for as long as it may be open, also when nobody asks', () => {
    const at = opened({ windowMs: 10 });
    const others = (): void => {
      for (let i = 0; i < 100; i++) at.reserve(1, {}, `other${i}.test`);
    };
    at.clock.advanceSync(900);
    others();
    expect(at.reserve(1)).toMatchObject({ limiting: 'breaker', retryInMs: 100 });
    at.clock.advanceSync(6000);
    others();
    expect(at.reserve(9).grants).toHaveLength(2);
    at.clock.advanceSync(20_000);
    others();
    others();
    expect(circuit(at)).toBeUndefined();
  });
});
