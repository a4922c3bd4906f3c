import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  DEFAULT_EJECTION,
  eject,
  ejectedForMs,
  ejectionAfter,
  ejectionCount,
  ejectionMs,
  ejectionOver,
  isEjected,
  MAX_COUNT,
  mayEject,
  releaseProbe,
  startProbe,
} from '../../src/health/ejection.ts';
import { type EjectorPass, type OutlierEjector, outlierEjector } from '../../src/health/outlier-ejector.ts';
import { recordOutcome } from '../../src/health/window.ts';
import { type ManualClock, manualClock } from '../support/manual-clock.ts';

const POLICY = DEFAULT_EJECTION;
/** What the rounding of times may add. */
const TICK_MS = POLICY.baseMs / 32;

/** The health word of ten bad outcomes. */
const BAD = Array.from({ length: 10 }).reduce<number>((word) => recordOutcome(word, false), 0);

describe('the core', () => {
  test.each([
    [1, 30_000],
    [2, 60_000],
    [9, 270_000],
    [10, 300_000],
    [11, 300_000],
    [MAX_COUNT, 300_000],
  ])('ejection %i lasts %i ms', (count, ms) => {
    expect(ejectionMs(count)).toBe(ms);
  });

  test.each([
    // [ejected, total, share, may one more be?]
    [0, 0, 0.5, false],
    [0, 1, 0.5, false], // the last one never
    [0, 1, 1, false],
    [0, 2, 0.5, true],
    [1, 2, 0.5, false],
    [1, 2, 1, true],
    [0, 3, 0.1, true], // of several one may always be
    [1, 3, 0.1, false],
    [1, 3, 0.5, false],
    [1, 4, 0.5, true],
    [2, 4, 0.5, false],
    [28, 100, 0.29, true],
    [29, 100, 0.29, false],
    [1000, Number.POSITIVE_INFINITY, 0.1, true],
    [0, 100, 0, false],
  ])('%i of %i ejected, share %d: %s', (ejected, total, maxEjectedShare, may) => {
    expect(mayEject(ejected, total, { ...POLICY, maxEjectedShare })).toBe(may);
  });

  test('a word survives typed arrays, and its times wherever the clock stands', () => {
    const at = fc.oneof(fc.double({ min: -1e6, max: 1e6, noNaN: true }), fc.double({ min: 0, max: 4e12, noNaN: true }));
    const baseMs = fc.constantFrom(1, 30, 1000, 7777.7, 30_000);
    fc.assert(
      fc.property(at, baseMs, fc.integer({ min: 1, max: 80 }), (now, baseMs, ejections) => {
        const policy = { ...POLICY, baseMs, maxMs: 10 * baseMs };
        let word = 0;
        for (let i = 0; i < ejections; i++) word = eject(word, policy, now);
        expect([new Uint32Array([word])[0], new Int32Array([word])[0]]).toEqual([word, word]);
        expect(word).toBeGreaterThan(0);
        expect(isEjected(word)).toBe(true);
        expect(ejectionCount(word)).toBe(Math.min(10, ejections));
        const fullMs = ejectionMs(ejections, policy);
        const waitMs = ejectedForMs(word, policy, now);
        const ulps = 1e-9 * Math.max(1, Math.abs(now)); // what the doubles of the clock itself cannot tell
        expect(waitMs).toBeGreaterThanOrEqual(fullMs - ulps);
        expect(waitMs).toBeLessThanOrEqual(fullMs + baseMs / 32 + ulps);
        expect(ejectedForMs(word, policy, now + waitMs + ulps)).toBe(0);
        expect(ejectedForMs(word, policy, now + fullMs * 0.99)).toBeGreaterThan(0);
      }),
    );
  });

  test('the count grows as far as the longest time needs, so that decay is felt at once', () => {
    let word = 0;
    for (let i = 0; i < 100; i++) word = eject(word, POLICY, 0);
    expect(ejectionCount(word)).toBe(10);
    const steep = { ...POLICY, maxMs: 1e9 };
    for (let i = 0; i < 100; i++) word = eject(word, steep, 0);
    expect(ejectionCount(word)).toBe(MAX_COUNT);
  });

  test('the count decays by one per healthy interval with a good outcome, and a bad one starts the interval anew', () => {
    let now = 1000;
    const ends = (ok: boolean): number => (word = ejectionAfter(word, 0, ok, false, true, POLICY, now));
    let word = [1, 2, 3].reduce((before) => eject(before, POLICY, now), 0);
    word = ejectionAfter(startProbe(word, POLICY, now), 0, true, true, true, POLICY, now);
    expect([isEjected(word), ejectionCount(word)]).toEqual([false, 3]);
    now += 29_999;
    expect(ejectionCount(ends(true))).toBe(3);
    now += 1 + TICK_MS;
    expect(ejectionCount(ends(true))).toBe(2);
    expect(ejectionCount(ends(true))).toBe(2);
    now += 20_000;
    ends(false);
    now += 20_000;
    expect(ejectionCount(ends(true))).toBe(2);
    now += 1e6; // nobody used it: one step, not thirty
    expect(ejectionCount(ends(true))).toBe(1);
    now += 30_000 + TICK_MS;
    expect(ends(true)).toBe(0);
  });

  test('a probe that says nothing is due again at once', () => {
    const word = releaseProbe(startProbe(eject(0, POLICY, 0), POLICY, 31_000), POLICY, 32_000);
    expect([isEjected(word), ejectionCount(word), ejectedForMs(word, POLICY, 32_000)]).toEqual([true, 1, 0]);
    expect(releaseProbe(word, POLICY, 50_000)).toBe(word);
    expect(releaseProbe(0, POLICY, 50_000)).toBe(0);
  });

  test('without room an unhealthy egress stays in', () => {
    expect(ejectionAfter(0, BAD, false, false, false, POLICY, 0)).toBe(0);
    expect(isEjected(ejectionAfter(0, BAD, false, false, true, POLICY, 0))).toBe(true);
    expect(ejectionAfter(0, BAD, true, false, true, POLICY, 0)).toBe(0); // a good outcome never ejects
  });

  test('when it can be forgotten', () => {
    expect(ejectionOver(0, POLICY, 123)).toBe(true);
    const out = eject(0, POLICY, 0);
    expect(ejectionOver(out, POLICY, 29_999)).toBe(false);
    expect(ejectionOver(out, POLICY, 329_999)).toBe(false); // due, and somebody may still come for the probe
    expect(ejectionOver(out, POLICY, 330_000 + TICK_MS)).toBe(true);
    const back = ejectionAfter(startProbe(out, POLICY, 40_000), 0, true, true, true, POLICY, 40_000);
    expect(ejectionOver(back, POLICY, 69_999)).toBe(false);
    expect(ejectionOver(back, POLICY, 70_000 + TICK_MS)).toBe(true);
  });
});

describe('outlierEjector', () => {
  const passed = (ejector: OutlierEjector, key: string): Extract<EjectorPass, { ok: true }> => {
    const pass = ejector.tryPass(key);
    if (!pass.ok) throw new Error(`${key} is out for ${pass.retryInMs} ms`);
    return pass;
  };
  const use = (ejector: OutlierEjector, key: string, n: number, ok: boolean | 'ignore'): void => {
    for (let i = 0; i < n; i++) passed(ejector, key).done(ok);
  };
  function make(options: Parameters<typeof outlierEjector>[0] = {}): { clock: ManualClock; ejector: OutlierEjector } {
    const clock = manualClock(5);
    const ejector = outlierEjector({ clock, ...options });
    for (const key of ['b', 'c', 'd']) use(ejector, key, 1, true);
    return { clock, ejector };
  }
  /** How long a key is out, give or take the rounding. */
  const outMs = (ejector: OutlierEjector, key: string): number => {
    const pass = ejector.tryPass(key);
    return pass.ok ? 0 : Math.floor(pass.retryInMs / 1000) * 1000;
  };

  test('under 40 % of the last 20, at least 10', () => {
    const { ejector } = make();
    use(ejector, 'a', 9, false);
    expect(ejector.isEjected('a')).toBe(false);
    use(ejector, 'a', 1, false);
    expect(ejector.isEjected('a')).toBe(true);
    use(ejector, 'b', 9, true); // 10 good
    use(ejector, 'b', 12, false); // 8 of 20
    expect(ejector.isEjected('b')).toBe(false);
    use(ejector, 'b', 1, false);
    expect(ejector.isEjected('b')).toBe(true);
    expect(ejector.stats()).toEqual({ total: 4, blocked: 2, active: 2 });
  });

  test('out for 30 s, then one probe; good, and it is back with a clean record', () => {
    const { clock, ejector } = make();
    use(ejector, 'a', 10, false);
    expect(outMs(ejector, 'a')).toBe(30_000);
    clock.advance(29_999);
    expect(ejector.tryPass('a').ok).toBe(false);
    clock.advance(1 + TICK_MS);
    const probe = passed(ejector, 'a');
    expect(probe.probe).toBe(true);
    expect(ejector.tryPass('a').ok).toBe(false);
    probe.done(true);
    expect(ejector.stats().blocked).toBe(0);
    use(ejector, 'a', 5, false); // 1 of 6: too few again
    expect(ejector.isEjected('a')).toBe(false);
    expect(passed(ejector, 'a').probe).toBe(false);
  });

  test('each bad probe keeps it out for 30 s more, up to 300 s', () => {
    const { clock, ejector } = make();
    use(ejector, 'a', 10, false);
    const seen: number[] = [];
    for (let i = 0; i < 12; i++) {
      seen.push(outMs(ejector, 'a') / 1000);
      clock.advance(301_000);
      use(ejector, 'a', 1, false);
    }
    expect(seen).toEqual([30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
    expect(ejector.stats()).toEqual({ total: 4, blocked: 1, active: 3 });
  });

  test('a lost probe lets another go; what requests of before say changes nothing', () => {
    const { clock, ejector } = make();
    const slow = Array.from({ length: 4 }, () => passed(ejector, 'a'));
    use(ejector, 'a', 10, false);
    slow[0].done(true);
    slow[1].done(false);
    expect(outMs(ejector, 'a')).toBe(30_000);
    clock.advance(31_000);
    passed(ejector, 'a'); // lost
    slow[2].done(true);
    slow[3].done(false);
    expect(ejector.isEjected('a')).toBe(true);
    clock.advance(59_999);
    expect(ejector.tryPass('a').ok).toBe(false);
    clock.advance(1 + TICK_MS);
    expect(passed(ejector, 'a').probe).toBe(true);
  });

  test('an ignored probe gives its place back; done twice is as once', () => {
    const { clock, ejector } = make();
    use(ejector, 'a', 10, false);
    clock.advance(31_000);
    const probe = passed(ejector, 'a');
    probe.done('ignore');
    probe.done(true);
    expect(ejector.isEjected('a')).toBe(true);
    expect(passed(ejector, 'a').probe).toBe(true);
  });

  test('the only key is never ejected', () => {
    const ejector = outlierEjector({ clock: manualClock() });
    use(ejector, 'a', 100, false);
    expect(ejector.isEjected('a')).toBe(false);
  });

  test('forget spares what is out or was asked for lately', () => {
    const { clock, ejector } = make();
    use(ejector, 'a', 10, false);
    clock.advance(1000);
    use(ejector, 'b', 1, true);
    expect(ejector.forget(1000)).toBe(2);
    expect(ejector.stats()).toEqual({ total: 2, blocked: 1, active: 1 });
    expect(() => ejector.forget(Number.NaN)).toThrow(expect.objectContaining({ option: 'idleMs' }));
  });

  test('the ejected stay out for their time, then get exactly one probe; never more than the share are out (P5)', () => {
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.record({ key: fc.nat(5), ok: fc.constantFrom(true, false, false, false) }) },
      { weight: 1, arbitrary: fc.record({ gapMs: fc.constantFrom(1, 500, 5000, 40_000) }) },
      { weight: 1, arbitrary: fc.record({ key: fc.nat(5), ok: fc.constantFrom('ignore' as const, 'lost' as const) }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 400 }), fc.constantFrom(0, 0.2, 0.5, 1), (steps, maxEjectedShare) => {
        const clock = manualClock();
        const ejector = outlierEjector({ maxEjectedShare, minSamples: 3, clock });
        const out = new Map<number, { since: number; row: number; probedAt: number }>();
        const known = new Set<number>();
        for (const step of steps) {
          if ('gapMs' in step) {
            clock.advance(step.gapMs);
            continue;
          }
          const { key, ok } = step;
          const now = clock.now();
          known.add(key);
          const was = out.get(key);
          const pass = ejector.tryPass(String(key));
          expect(pass.ok && pass.probe).toBe(pass.ok && was !== undefined);
          if (was !== undefined && pass.ok) {
            expect(now - was.since).toBeGreaterThanOrEqual(Math.min(was.row, 10) * 30_000);
            expect(now - was.probedAt).toBeGreaterThanOrEqual(60_000);
            was.probedAt = now;
          }
          if (!pass.ok) {
            expect(pass.retryInMs).toBeGreaterThan(0);
            continue;
          }
          if (ok === 'lost') continue;
          pass.done(ok);
          if (was !== undefined && ok === 'ignore') was.probedAt = Number.NEGATIVE_INFINITY;
          const is = ejector.isEjected(String(key));
          if (!is) out.delete(key);
          else if (was === undefined || ok === false) {
            out.set(key, { since: now, row: (was?.row ?? 0) + 1, probedAt: Number.NEGATIVE_INFINITY });
          }
          const { total, blocked, active } = ejector.stats();
          expect([total, blocked, active]).toEqual([known.size, out.size, known.size - out.size]);
          const most = maxEjectedShare === 0 || total < 2 ? 0 : Math.max(1, Math.floor(maxEjectedShare * total));
          expect(blocked).toBeLessThanOrEqual(most);
        }
      }),
      { numRuns: 300 },
    );
  });

  test.each([
    ['baseMs', { baseMs: 0 }],
    ['maxMs', { maxMs: 29_999 }],
    ['maxMs', { baseMs: 1, maxMs: 64 }],
    ['healthyMs', { healthyMs: 0 }],
    ['healthyMs', { baseMs: 1, healthyMs: 2 ** 17 }],
    ['probeTimeoutMs', { probeTimeoutMs: Number.POSITIVE_INFINITY }],
    ['maxEjectedShare', { maxEjectedShare: 1.1 }],
    ['minSamples', { minSamples: 21 }],
    ['minSamples', { minSamples: 0 }],
    ['threshold', { threshold: -0.1 }],
  ])('a bad %s is named: %o', (option, options) => {
    expect(() => outlierEjector(options)).toThrow(expect.objectContaining({ code: 'PACELINE_CONFIG', option }));
  });
});
