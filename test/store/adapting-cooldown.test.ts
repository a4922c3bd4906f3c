import { describe, expect, it } from 'vitest';
import type { Grant, QuotaReport } from '../../src/store/store.ts';
import { HEALTH, proxies, roomy } from '../support/adapting.ts';
import { type AtStore, atStore, storePolicy, TARGET } from '../support/at-store.ts';

/** Each of so many proxies is told to wait: that long. */
function limited(at: AtStore, grants: readonly Grant[], ...waits: number[]): void {
  for (const [i, retryAfterMs] of waits.entries()) at.answer(grants[i], 'rate-limited', { retryAfterMs });
}

const one = storePolicy({ limit: 1 });

describe('a cooldown widens to the target', () => {
  it('when three egresses are refused within a window, until the latest of what they were told', () => {
    const at = atStore(proxies(5), one);
    const { grants } = at.reserve(4);
    limited(at, grants, 500, 900);
    expect(at.reserve(1).grants).toHaveLength(1);
    expect(at.answer(grants[2], 'rate-limited', { retryAfterMs: 400 })).toEqual([
      { kind: 'cooldown', target: TARGET, egress: 'pool/3', forMs: 400 },
      { kind: 'cooldown', target: TARGET, egress: undefined, forMs: 900 },
    ]);
    expect(at.reserve(1)).toEqual({ grants: [], retryInMs: 900, limiting: 'target' });
    expect(at.store.inspect(TARGET).targets[0].restMs).toBe(900);
    at.clock.advanceSync(899);
    expect(at.reserve(1).retryInMs).toBe(1);
    at.clock.advanceSync(1);
    expect(at.reserve(1).grants).toHaveLength(1);
  });

  it('not when one egress is refused three times', () => {
    const at = atStore(proxies(2), storePolicy({ limit: 5 }));
    limited(at, at.reserve(5).grants, 500, 500, 500, 500);
    expect(at.grant().route.id).toBe('pool/2');
  });

  it('not when the three refusals are more than a window apart', () => {
    const at = atStore(proxies(4), one);
    const { grants } = at.reserve(3);
    limited(at, grants, 500);
    at.clock.advanceSync(100);
    limited(at, grants.slice(1), 500, 500);
    expect(at.grant().route.id).toBe('pool/4');
  });

  it('at once when it is an account that is limited', () => {
    const at = atStore(proxies(2), storePolicy({ limit: 9, scope: 'account' }));
    limited(at, [at.grant()], 300);
    expect(at.reserve(1)).toEqual({ grants: [], retryInMs: 300, limiting: 'target' });
  });

  it('takes back permits that were given before it, but not their slots for good', () => {
    const at = atStore(proxies(4), one);
    const { grants } = at.reserve(4);
    limited(at, grants, 500, 500, 500);
    expect(at.store.bind(TARGET, grants[3], 'pool/4')).toMatchObject({ ok: false, retryInMs: 500 });
    expect(at.egress('pool/4')).toMatchObject({ busy: 0, cooling: 0 });
  });

  it('takes back one that turns out to lead elsewhere', () => {
    const at = atStore(proxies(4), one);
    const { grants } = at.reserve(4);
    limited(at, grants, 500, 500, 500);
    expect(at.store.bind(TARGET, grants[3], '10.0.0.1')).toMatchObject({ ok: false, retryInMs: 500 });
    expect(at.active).toBe(0);
  });

  it('is not forgotten with a target that nobody asks', () => {
    const at = atStore(proxies(3), one);
    limited(at, at.reserve(3).grants, 5000, 5000, 5000);
    at.clock.advanceSync(4000);
    for (let i = 0; i < 100; i++) at.reserve(1, {}, `other${i}.test`);
    expect(at.reserve(1)).toMatchObject({ limiting: 'target', retryInMs: 1000 });
  });
});

describe('what a response says of its quota', () => {
  const quota = (report: Partial<QuotaReport>): { quota: QuotaReport } => ({
    quota: { spacingMs: 0, forMs: 1000, exhausted: false, account: false, ...report },
  });

  it('exhausted: the egress rests until the reset, and only that', () => {
    const at = atStore(proxies(2), roomy());
    expect(at.answer(at.grant(), 'ok', quota({ exhausted: true, spacingMs: 1000 }))).toEqual([
      { kind: 'cooldown', target: TARGET, egress: 'pool/1', forMs: 1000 },
    ]);
    expect(at.grant().route.id).toBe('pool/2');
    expect(at.egress('pool/1')).toMatchObject({ cooldownMs: 1000 });
  });

  it('exhausted, of an account: everything rests until the reset', () => {
    for (const [scope, account] of [['ip', true] as const, ['account', false] as const]) {
      const at = atStore(proxies(2), roomy({ scope }));
      expect(at.answer(at.grant(), 'ok', quota({ exhausted: true, account }))).toEqual([
        { kind: 'cooldown', target: TARGET, egress: undefined, forMs: 1000 },
      ]);
      expect(at.reserve(1)).toEqual({ grants: [], retryInMs: 1000, limiting: 'target' });
      at.clock.advanceSync(1000);
      at.grant();
    }
  });

  it('nearly used up: what is left is spread until the reset, and no longer', () => {
    const [proxy] = proxies(1);
    const at = atStore([proxy], roomy());
    at.answer(at.grant(), 'ok', quota({ spacingMs: 400 }));
    const waits: number[] = [];
    for (let i = 0; i < 3; i++) {
      const { retryInMs } = at.reserve(1);
      waits.push(retryInMs);
      at.clock.advanceSync(retryInMs);
      at.answer(at.grant());
    }
    // The last one is kept until the reset, not for another 400.
    expect(waits).toEqual([400, 400, 200]);
    expect(at.reserve(2).grants).toHaveLength(2);
  });

  it('nearly used up, with less time left than one request is to wait: until the reset', () => {
    for (const account of [false, true]) {
      const at = atStore(proxies(1), roomy());
      at.answer(at.grant(), 'ok', quota({ spacingMs: 400, forMs: 100, account }));
      expect(at.reserve(1).retryInMs).toBe(100);
    }
  });

  it('nearly used up, of an account: over all egresses', () => {
    const at = atStore(proxies(3), roomy());
    at.answer(at.grant(), 'ok', quota({ spacingMs: 400, account: true }));
    const waits: number[] = [];
    for (let i = 0; i < 3; i++) {
      const { retryInMs, limiting } = at.reserve(1);
      expect(limiting).toBe('target');
      waits.push(retryInMs);
      at.clock.advanceSync(retryInMs);
      at.answer(at.grant());
    }
    expect(waits).toEqual([400, 400, 200]);
    expect(at.reserve(3).grants).toHaveLength(3);
  });

  it('counts what a request costs', () => {
    for (const account of [false, true]) {
      const at = atStore(proxies(1), roomy());
      at.answer(at.grant(), 'ok', quota({ spacingMs: 100, forMs: 5000, account }));
      at.clock.advanceSync(100);
      at.grant({ cost: 3 });
      expect(at.reserve(1).retryInMs).toBe(300);
    }
  });

  it('is not taken for that of an egress that comes later', () => {
    const [dead, next] = proxies(2);
    const at = atStore([dead], roomy({ windowMs: 10 }));
    at.answer(at.grant(), 'ok', quota({ spacingMs: 400, forMs: 1000 }));
    dead.closed = true;
    // Swept only when its quota is over: then its place in the table is another's.
    at.clock.advanceSync(500);
    for (let i = 0; i < 5; i++) at.reserve(1);
    expect(at.egress('pool/1')).toBeDefined();
    at.clock.advanceSync(500);
    for (let i = 0; i < 5; i++) at.reserve(1);
    expect(at.egress('pool/1')).toBeUndefined();
    expect(at.reserve(2, { pin: next }).grants).toHaveLength(2);
  });
});

describe('Retry-After', () => {
  it('holds for an egress that is in good health as for one that is not', () => {
    const at = atStore(proxies(1), roomy({ health: HEALTH }));
    at.answer(at.grant(), 'blocked', { retryAfterMs: 700 });
    expect(at.reserve(1)).toMatchObject({ grants: [], retryInMs: 700, limiting: 'cooldown' });
  });
});
