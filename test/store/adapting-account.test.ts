import { describe, expect, it } from 'vitest';
import type { Policy } from '../../src/store/store.ts';
import { AIMD, proxies } from '../support/adapting.ts';
import { atStore, storePolicy, TARGET } from '../support/at-store.ts';

describe('the budget of an account', () => {
  const account = (options: Partial<Policy> = {}): Policy =>
    storePolicy({ limit: 3, windowMs: 100, scope: 'account', ...options });

  it('is one for all egresses together', () => {
    const at = atStore(proxies(9), account());
    const { grants, ...refusal } = at.reserve(5);
    expect([grants.length, refusal]).toEqual([3, { retryInMs: Infinity, limiting: 'target' }]);
    at.answer(grants[0]);
    at.clock.advanceSync(10);
    at.answer(grants[1]);
    expect(at.reserve(1)).toEqual({ grants: [], retryInMs: 90, limiting: 'target' });
    at.clock.advanceSync(90);
    expect(at.reserve(9).grants).toHaveLength(1);
  });

  it('is not widened by more egresses: none is taken for it', () => {
    const at = atStore(proxies(9), account({ limit: 4, spacingMs: 25 }));
    for (let i = 0; i < 8; i++) {
      at.answer(at.grant());
      expect(at.reserve(1)).toMatchObject({ grants: [], limiting: 'target', retryInMs: 25 });
      at.clock.advanceSync(25);
    }
    expect(at.store.inspect(TARGET).targets[0].egresses).toHaveLength(1);
  });

  it('is left over as far as it goes: in inspect(), for every egress', () => {
    const at = atStore(proxies(2), account());
    const { grants } = at.reserve(2);
    expect(at.egress('pool/1')).toMatchObject({ remaining: 1, usableInMs: 0 });
    at.grant();
    at.answer(grants[0]);
    expect(at.egress('pool/1')).toMatchObject({ remaining: 0, usableInMs: 100 });
  });

  it('gets back what was cancelled, its spacing too', () => {
    const at = atStore(proxies(1), account({ spacingMs: 20 }));
    at.answer(at.grant());
    at.clock.advanceSync(20);
    at.store.cancel(TARGET, [at.grant()]);
    at.answer(at.grant());
    at.clock.advanceSync(20);
    at.answer(at.grant());
    at.clock.advanceSync(20);
    expect(at.reserve(1)).toMatchObject({ grants: [], retryInMs: 40 });
  });

  it('cools for permits whose holder was lost', () => {
    const at = atStore(proxies(1), account({ limit: 1 }));
    at.reserve(1, { deadlineMs: 50 });
    at.clock.advanceSync(70);
    expect(at.reserve(1)).toMatchObject({ grants: [], retryInMs: 80 });
    at.clock.advanceSync(80);
    at.grant();
  });

  it('comes down on evidence, and back', () => {
    const at = atStore(proxies(1), account({ limit: 10, adaptBudget: AIMD }));
    at.answer(at.grant(), 'rate-limited', { retryAfterMs: 100 });
    at.clock.advanceSync(100);
    expect(at.reserve(20).grants).toHaveLength(7);
  });

  it('comes back when half of it was used, over however many egresses', () => {
    const routes = proxies(4);
    const at = atStore(routes, account({ limit: 10, adaptBudget: AIMD }));
    at.answer(at.grant(), 'rate-limited', { retryAfterMs: 100 });
    at.clock.advanceSync(100);
    const grants = routes.map((pin) => at.grant({ pin }));
    for (const grant of grants) at.answer(grant);
    expect(at.store.inspect(TARGET).targets[0].limit).toBe(8);
  });

  it('is booked ahead as one', () => {
    const at = atStore(proxies(3), account({ spacingMs: 20 }));
    const { grants } = at.reserve(3, { horizonMs: 50 });
    expect(grants.map(({ startInMs }) => startInMs)).toEqual([0, 20, 40]);
  });

  it('holds for one request that costs several', () => {
    const at = atStore(proxies(2), account({ limit: 3 }));
    at.grant({ cost: 2 });
    expect(at.reserve(1, { cost: 2 })).toMatchObject({ grants: [], limiting: 'target' });
    at.grant();
  });
});
