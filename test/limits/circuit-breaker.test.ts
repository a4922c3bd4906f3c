import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { seededRandom } from '../../src/clock.ts';
import { CircuitOpenError } from '../../src/errors.ts';
import { type CircuitBreaker, type CircuitPass, circuitBreaker } from '../../src/limits/circuit-breaker.ts';
import { manualClock } from '../support/manual-clock.ts';

const noJitter = (): number => 0;

/** Makes `n` calls that end at once. */
function calls(breaker: CircuitBreaker, n: number, outcome: boolean | 'ignore'): void {
  for (let i = 0; i < n; i++) passed(breaker).done(outcome);
}

function passed(breaker: CircuitBreaker): Extract<CircuitPass, { ok: true }> {
  const pass = breaker.tryPass();
  if (!pass.ok) throw new Error(`refused for ${pass.retryInMs} ms`);
  return pass;
}

/** A breaker that has just opened at time 0 for 10 s. */
function opened(options: Parameters<typeof circuitBreaker>[0] = {}) {
  const clock = manualClock();
  const breaker = circuitBreaker({ minCalls: 1, random: noJitter, clock, ...options });
  calls(breaker, 1, false);
  expect(breaker.state).toEqual({ kind: 'open', retryInMs: options.openMs ?? 10_000 });
  return { clock, breaker };
}

describe('closed', () => {
  test.each([
    // [good, bad, options, state]
    [0, 19, {}, 'closed'],
    [0, 20, {}, 'open'],
    [10, 10, {}, 'open'],
    [11, 10, {}, 'closed'],
    [1000, 19, {}, 'closed'],
    [1000, 20, {}, 'open'],
    [0, 4, { minCalls: 5 }, 'closed'],
    [0, 5, { minCalls: 5 }, 'open'],
    [93, 7, { minCalls: 100, failureRatio: 0.07 }, 'open'],
    [94, 6, { minCalls: 100, failureRatio: 0.07 }, 'closed'],
    [1, 19, { failureRatio: 1 }, 'closed'],
    [100, 0, { failureRatio: 1e-12 }, 'closed'],
  ] as const)('%i good, then %i bad calls with %o: %s', (good, bad, options, kind) => {
    const breaker = circuitBreaker({ ...options, clock: manualClock(777), random: noJitter });
    calls(breaker, good, true);
    calls(breaker, bad, false);
    expect(breaker.state.kind).toBe(kind);
  });

  test('a good call may be the one that makes enough of them', () => {
    const breaker = circuitBreaker({ clock: manualClock() });
    calls(breaker, 19, false);
    calls(breaker, 1, true);
    expect(breaker.state.kind).toBe('open');
  });

  test('ignored calls do not count', () => {
    const breaker = circuitBreaker({ clock: manualClock() });
    calls(breaker, 100, 'ignore');
    calls(breaker, 19, false);
    expect(breaker.state).toEqual({ kind: 'closed', calls: 19, failures: 19 });
  });

  test('a call counts for nine to ten tenths of the window', () => {
    const clock = manualClock(5000);
    const breaker = circuitBreaker({ windowMs: 10_000, clock });
    calls(breaker, 15, false);
    clock.advance(9_999);
    calls(breaker, 4, false);
    expect(breaker.state).toEqual({ kind: 'closed', calls: 19, failures: 19 });
    clock.advance(1);
    expect(breaker.state).toEqual({ kind: 'closed', calls: 4, failures: 4 });
    clock.advance(1e12);
    expect(breaker.state).toEqual({ kind: 'closed', calls: 0, failures: 0 });
  });

  test('the window is that of a list of the calls', () => {
    const gapMs = fc.oneof(fc.nat(3000), fc.integer({ min: 8000, max: 25_000 }));
    const step = fc.record({ gapMs, ok: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.nat(100_000), (steps, startMs) => {
        const clock = manualClock(startMs);
        const breaker = circuitBreaker({ windowMs: 10_000, minCalls: 1000, clock });
        const log: { tick: number; ok: boolean }[] = [];
        for (const { gapMs, ok } of steps) {
          clock.advance(gapMs);
          calls(breaker, 1, ok);
          const tick = Math.floor(clock.now() / 1000);
          log.push({ tick, ok });
          const live = log.filter((entry) => entry.tick > tick - 10);
          const failures = live.filter((entry) => !entry.ok).length;
          expect(breaker.state).toEqual({ kind: 'closed', calls: live.length, failures });
        }
      }),
    );
  });

  test('a clock that steps back stands still', () => {
    const clock = manualClock(50_000);
    const breaker = circuitBreaker({ minCalls: 3, clock });
    calls(breaker, 2, false);
    clock.jump(0);
    expect(breaker.state).toMatchObject({ calls: 2 });
    calls(breaker, 1, false);
    expect(breaker.state.kind).toBe('open');
  });
});

describe('open', () => {
  test('nothing passes until its time is over, and it says when that is', () => {
    const { clock, breaker } = opened();
    clock.advance(9_999.5);
    expect(breaker.tryPass()).toEqual({ ok: false, retryInMs: 1 });
    clock.advance(0.5);
    expect(breaker.state).toEqual({ kind: 'half-open', room: 1 });
    expect(breaker.tryPass().ok).toBe(true);
  });

  test('what was under way when it opened counts no more, however it ends', () => {
    const clock = manualClock();
    const breaker = circuitBreaker({ minCalls: 2, random: noJitter, clock });
    const slow = Array.from({ length: 6 }, () => passed(breaker));
    calls(breaker, 2, false);
    slow[0].done(false);
    slow[1].done(true);
    expect(breaker.state).toEqual({ kind: 'open', retryInMs: 10_000 });
    clock.advance(10_000);
    const probe = passed(breaker);
    slow[2].done(true);
    slow[3].done(false);
    expect(breaker.state).toEqual({ kind: 'half-open', room: 0 });
    probe.done(true);
    slow[4].done(false);
    expect(breaker.state).toEqual({ kind: 'closed', calls: 0, failures: 0 });
  });

  test('doubles up to the longest while probes fail', () => {
    const { clock, breaker } = opened({ openMs: 10_000, maxOpenMs: 60_000 });
    for (const openMs of [20_000, 40_000, 60_000, 60_000]) {
      clock.advance(60_000);
      calls(breaker, 1, false);
      expect(breaker.state).toEqual({ kind: 'open', retryInMs: openMs });
    }
  });

  test.each([
    [0, 20_000], // open again at once
    [30_000, 20_000], // within a window of closing
    [30_001, 10_000],
  ])('opening again %i ms after it closed lasts %i ms', (afterMs, openMs) => {
    const { clock, breaker } = opened();
    clock.advance(10_000);
    calls(breaker, 1, true);
    expect(breaker.state.kind).toBe('closed');
    clock.advance(afterMs);
    calls(breaker, 1, false);
    expect(breaker.state).toEqual({ kind: 'open', retryInMs: openMs });
  });

  test('is shortened at random by up to a fifth, never lengthened', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 2000 }), (seed, trips) => {
        const clock = manualClock();
        const breaker = circuitBreaker({ minCalls: 1, random: seededRandom(seed), clock });
        for (let trip = 0; trip < trips; trip++) {
          calls(breaker, 1, false);
          const { state } = breaker;
          if (state.kind !== 'open') throw new Error(state.kind);
          const fullMs = Math.min(300_000, 10_000 * 2 ** trip);
          expect(state.retryInMs).toBeGreaterThanOrEqual(fullMs * 0.8);
          expect(state.retryInMs).toBeLessThanOrEqual(fullMs);
          clock.advance(state.retryInMs);
        }
      }),
      { numRuns: 20 },
    );
  });
});

describe('half-open', () => {
  test.each([
    // [probes, how they end, then]
    [1, [true], 'closed'],
    [1, [false], 'open'],
    [2, [true], 'half-open'],
    [2, [true, true], 'closed'],
    [2, [false], 'open'],
    [4, [false], 'half-open'],
    [4, [false, false], 'open'],
    [4, [true, false, true], 'half-open'],
    [4, [true, false, true, true], 'closed'],
    [1, ['ignore'], 'half-open'],
    [1, ['ignore', true], 'closed'],
  ] as [number, (boolean | 'ignore')[], string][])('%i probes, ending %o: %s', (halfOpenCalls, outcomes, kind) => {
    const { clock, breaker } = opened({ halfOpenCalls });
    clock.advance(10_000);
    for (const outcome of outcomes) calls(breaker, 1, outcome);
    expect(breaker.state.kind).toBe(kind);
  });

  test('a lost probe gives its place up, and is not heard any more', () => {
    const { clock, breaker } = opened({ probeTimeoutMs: 5000 });
    clock.advance(10_000);
    const lost = passed(breaker);
    clock.advance(4999);
    expect(breaker.tryPass()).toEqual({ ok: false, retryInMs: 1 });
    clock.advance(1);
    const probe = passed(breaker);
    expect(breaker.tryPass().ok).toBe(false);
    lost.done(false);
    lost.done('ignore');
    expect(breaker.state).toEqual({ kind: 'half-open', room: 0 });
    probe.done(true);
    expect(breaker.state.kind).toBe('closed');
  });

  test('probes that have ended keep their places when others are lost', () => {
    const { clock, breaker } = opened({ halfOpenCalls: 3, probeTimeoutMs: 5000 });
    clock.advance(10_000);
    calls(breaker, 1, true);
    passed(breaker);
    passed(breaker);
    clock.advance(5000);
    expect(breaker.state).toEqual({ kind: 'half-open', room: 2 });
    const probes = [passed(breaker), passed(breaker)];
    expect(breaker.tryPass().ok).toBe(false);
    for (const probe of probes) probe.done(true);
    expect(breaker.state.kind).toBe('closed');
  });

  test('done twice is as once', () => {
    const { clock, breaker } = opened({ halfOpenCalls: 2 });
    clock.advance(10_000);
    const probe = passed(breaker);
    probe.done('ignore');
    probe.done('ignore');
    probe.done(false);
    expect(breaker.state).toEqual({ kind: 'half-open', room: 2 });
  });

  test('never more than halfOpenCalls are out or have passed without closing it, whatever happens', () => {
    const action = fc.oneof(
      fc.record({ what: fc.constant('pass' as const) }),
      fc.record({
        what: fc.constant('done' as const),
        which: fc.nat(50),
        outcome: fc.constantFrom<boolean | 'ignore'>(true, false, false, 'ignore'),
      }),
      fc.record({ what: fc.constant('wait' as const), ms: fc.constantFrom(1, 100, 999, 5000) }),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 150 }), fc.integer({ min: 1, max: 4 }), (actions, halfOpenCalls) => {
        const clock = manualClock();
        const breaker = circuitBreaker({
          ...{ minCalls: 2, windowMs: 2000, openMs: 1000, maxOpenMs: 4000, probeTimeoutMs: 3000 },
          ...{ halfOpenCalls, clock, random: seededRandom(1) },
        });
        let round = 0; // how often it has become half-open
        let kind: string = 'closed';
        const look = (): void => {
          if (breaker.state.kind === 'half-open' && kind !== 'half-open') round++;
          kind = breaker.state.kind;
        };
        const out: { at: number; round: number; done(outcome: boolean | 'ignore'): void }[] = [];
        let ended: number[] = []; // the rounds of probes that ended in time with a verdict
        for (const step of actions) {
          if (step.what === 'wait') clock.advance(step.ms);
          look();
          if (step.what === 'pass') {
            const pass = breaker.tryPass();
            if (kind !== 'half-open') expect(pass.ok).toBe(kind === 'closed');
            if (pass.ok) out.push({ at: clock.now(), round: kind === 'half-open' ? round : -1, done: pass.done });
            else expect(pass.retryInMs).toBeGreaterThan(0);
            const probing = out.filter((probe) => probe.round === round && probe.at > clock.now() - 3000);
            ended = ended.filter((endedRound) => endedRound === round);
            if (kind === 'half-open') expect(probing.length + ended.length).toBeLessThanOrEqual(halfOpenCalls);
          } else if (step.what === 'done' && out.length > 0) {
            const [call] = out.splice(step.which % out.length, 1);
            call.done(step.outcome);
            if (step.outcome !== 'ignore' && call.at > clock.now() - 3000) ended.push(call.round);
          }
          look();
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('run', () => {
  test('hands results and errors through, and refuses when open', async () => {
    const clock = manualClock();
    const breaker = circuitBreaker({ minCalls: 2, name: 'shop.example', random: noJitter, clock });
    expect(await breaker.run(() => 5)).toBe(5);
    const failure = new Error('down');
    await expect(breaker.run(() => Promise.reject(failure))).rejects.toBe(failure);
    let ran = false;
    const refused = breaker.run(() => (ran = true));
    await expect(refused).rejects.toThrow('shop.example');
    await expect(refused).rejects.toMatchObject({ code: 'PACELINE_CIRCUIT_OPEN', retryInMs: 10_000 });
    await expect(refused).rejects.toBeInstanceOf(CircuitOpenError);
    expect(ran).toBe(false);
    clock.advance(10_000);
    expect(await breaker.run(async () => 'up')).toBe('up');
    expect(breaker.state.kind).toBe('closed');
  });

  test('what throws at once is a failure; an abort is none, a timeout is', async () => {
    const breaker = circuitBreaker({ clock: manualClock() });
    const thrown = async (error: unknown): Promise<void> => {
      const call = breaker.run(() => {
        throw error;
      });
      await expect(call).rejects.toBe(error);
    };
    await thrown(new Error('x'));
    await thrown('text');
    await thrown(new DOMException('', 'AbortError'));
    await thrown(new DOMException('', 'TimeoutError'));
    expect(breaker.state).toEqual({ kind: 'closed', calls: 3, failures: 3 });
  });
});

test.each([
  ['failureRatio', { failureRatio: 0 }],
  ['failureRatio', { failureRatio: 1.1 }],
  ['failureRatio', { failureRatio: Number.NaN }],
  ['minCalls', { minCalls: 0 }],
  ['windowMs', { windowMs: 0 }],
  ['openMs', { openMs: -1 }],
  ['maxOpenMs', { maxOpenMs: 9999 }],
  ['maxOpenMs', { maxOpenMs: Number.POSITIVE_INFINITY }],
  ['halfOpenCalls', { halfOpenCalls: 1.5 }],
  ['probeTimeoutMs', { probeTimeoutMs: 0 }],
])('a bad %s is named: %o', (option, options) => {
  expect(() => circuitBreaker(options)).toThrow(expect.objectContaining({ code: 'PACELINE_CONFIG', option }));
});
