import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { seededRandom } from '../../src/clock.ts';
import {
  choosePool,
  type Escalation,
  type EscalationOptions,
  escalation,
  escalationPolicy,
  escalationState,
  notePool,
  refusedShare,
} from '../../src/limits/escalation.ts';
import type { Outcome } from '../../src/store/store.ts';
import { manualClock } from '../support/manual-clock.ts';

const POOLS = ['direct', 'datacenter', 'residential'];

function make(options: Partial<EscalationOptions> = {}) {
  const clock = manualClock(1000);
  return { clock, ladder: escalation({ pools: POOLS, random: () => 0, clock, ...options }) };
}

/** `n` requests through the pool in use, each over an egress of its own. */
function send(ladder: Escalation, n: number, outcome: Outcome, prefix = 'e'): void {
  for (let i = 0; i < n; i++) ladder.record(ladder.pool(), outcome, `${prefix}${i}`);
}

describe('up', () => {
  test.each([
    ['nothing', [], 'direct'],
    ['nine refusals', [[9, 'blocked']], 'direct'],
    ['ten refusals', [[10, 'blocked']], 'datacenter'],
    ['challenges are refusals', [[10, 'challenged']], 'datacenter'],
    [
      'half of ten',
      [
        [5, 'ok'],
        [5, 'blocked'],
      ],
      'datacenter',
    ],
    [
      'four of ten',
      [
        [6, 'ok'],
        [4, 'blocked'],
      ],
      'direct',
    ],
    [
      'the last twenty count',
      [
        [100, 'ok'],
        [9, 'blocked'],
      ],
      'direct',
    ],
    [
      'ten of the last twenty',
      [
        [100, 'ok'],
        [10, 'blocked'],
      ],
      'datacenter',
    ],
    [
      'other outcomes say nothing',
      [
        [50, 'rate-limited'],
        [50, 'target-error'],
        [50, 'network-error'],
        [50, 'ignored'],
        [9, 'blocked'],
      ],
      'direct',
    ],
    ['as far as it goes', [[100, 'blocked']], 'residential'],
  ] as [string, [number, Outcome][], string][])('%s', (_name, outcomes, pool) => {
    const { ladder } = make();
    let unique = 0;
    for (const [n, outcome] of outcomes) send(ladder, n, outcome, `${unique++}-`);
    expect(ladder.pool()).toBe(pool);
  });

  test('one bad egress, however often it is used, is not a bad pool', () => {
    const { ladder } = make();
    for (let i = 0; i < 50; i++) {
      ladder.record('direct', 'blocked', 'bad');
      ladder.record('direct', 'blocked', 'bad');
      ladder.record('direct', 'ok', `good${i % 3}`);
    }
    expect(ladder.pool()).toBe('direct');
  });

  test('a pool of one egress is judged by its outcomes', () => {
    const { ladder } = make();
    for (let i = 0; i < 20; i++) ladder.record('direct', i % 5 === 0 ? 'blocked' : 'ok');
    expect(ladder.pool()).toBe('direct');
    for (let i = 0; i < 10; i++) ladder.record('direct', 'blocked');
    expect(ladder.pool()).toBe('datacenter');
  });

  test('what the pool left behind still reports is passed over', () => {
    const { ladder } = make();
    send(ladder, 10, 'blocked');
    for (let i = 0; i < 50; i++) ladder.record('direct', i % 2 ? 'blocked' : 'ok');
    expect(ladder.pool()).toBe('datacenter');
    for (let i = 0; i < 50; i++) ladder.record('residential', 'blocked');
    expect(ladder.pool()).toBe('datacenter');
  });
});

describe('down', () => {
  /** On the second pool since 1000 ms; the first round is due at 301,000. */
  function climbed(options: Partial<EscalationOptions> = {}) {
    const made = make(options);
    send(made.ladder, 10, 'blocked');
    return made;
  }

  test('a probe at a time, four good ones in a row', () => {
    const { clock, ladder } = climbed();
    clock.advance(299_999);
    expect(ladder.pool()).toBe('datacenter');
    clock.advance(1);
    for (let i = 0; i < 4; i++) {
      expect([ladder.pool(), ladder.pool(), ladder.pool()]).toEqual(['direct', 'datacenter', 'datacenter']);
      ladder.record('datacenter', 'ok');
      ladder.record('direct', 'ok');
    }
    expect([ladder.pool(), ladder.pool()]).toEqual(['direct', 'direct']);
  });

  test('a failed round doubles the time to the next, up to the longest', () => {
    const { clock, ladder } = climbed();
    clock.advance(300_000);
    for (const nextMs of [600_000, 1_200_000, 2_400_000, 3_600_000, 3_600_000]) {
      expect(ladder.pool()).toBe('direct');
      ladder.record('direct', 'ok');
      expect(ladder.pool()).toBe('direct');
      ladder.record('direct', 'challenged');
      clock.advance(nextMs - 1);
      expect(ladder.pool()).toBe('datacenter');
      clock.advance(1);
    }
  });

  test('a probe that says nothing ends the round, but is not held against the pool', () => {
    const { clock, ladder } = climbed();
    clock.advance(300_000);
    for (let i = 0; i < 3; i++) {
      expect(ladder.pool()).toBe('direct');
      ladder.record('direct', 'gateway-error');
      clock.advance(299_999);
      expect(ladder.pool()).toBe('datacenter');
      clock.advance(1);
    }
  });

  test('a lost probe lets another go', () => {
    const { clock, ladder } = climbed({ probeTimeoutMs: 5000 });
    clock.advance(300_000);
    expect(ladder.pool()).toBe('direct');
    clock.advance(4999);
    expect(ladder.pool()).toBe('datacenter');
    clock.advance(1);
    expect(ladder.pool()).toBe('direct');
  });

  test.each([
    [0, 600_000], // back up at once
    [299_999, 600_000],
    [300_000, 300_000], // it held for as long as the interval: a new story
  ])('climbing again %i ms after coming down: the next round in %i ms', (heldMs, nextMs) => {
    const { clock, ladder } = climbed();
    clock.advance(300_000);
    send(ladder, 4, 'ok');
    expect(ladder.pool()).toBe('direct');
    clock.advance(heldMs);
    send(ladder, 10, 'blocked');
    expect(ladder.pool()).toBe('datacenter');
    clock.advance(nextMs - 1);
    expect(ladder.pool()).toBe('datacenter');
    clock.advance(1);
    expect(ladder.pool()).toBe('direct');
  });

  test('step by step from the top', () => {
    const { clock, ladder } = climbed();
    send(ladder, 10, 'blocked');
    expect(ladder.pool()).toBe('residential');
    clock.advance(300_000);
    send(ladder, 4, 'ok');
    expect(ladder.pool()).toBe('datacenter');
    clock.advance(300_000);
    send(ladder, 4, 'ok');
    expect(ladder.pool()).toBe('direct');
    clock.advance(1e9);
    expect(ladder.pool()).toBe('direct');
  });

  test('with one pool there is nowhere to go', () => {
    const { clock, ladder } = make({ pools: ['only'] });
    for (let i = 0; i < 100; i++) send(ladder, 1, 'blocked');
    clock.advance(1e9);
    expect(ladder.pool()).toBe('only');
  });
});

test('never flaps: after a climb the first probe takes its time, and rounds are at most one probe at a time', () => {
  const step = fc.record({
    gapMs: fc.constantFrom(0, 10, 1000, 60_000, 400_000),
    bad: fc.array(fc.boolean(), { minLength: 3, maxLength: 3 }), // does each pool refuse?
    n: fc.integer({ min: 1, max: 30 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.integer(), (steps, seed) => {
      const random = seededRandom(seed);
      const policy = escalationPolicy({ pools: POOLS });
      const state = escalationState<number>();
      let now = 0;
      let climbedAt = Number.NEGATIVE_INFINITY;
      const note = (pool: number, egress: number, refused: boolean): void => {
        const before = state.pool;
        const moved = notePool(state, policy, pool, egress, refused ? 'blocked' : 'ok', now, random);
        expect(state.pool).toBe(before + moved);
        if (moved > 0) climbedAt = now;
        if (moved < 0) expect(now - climbedAt).toBeGreaterThanOrEqual(240_000);
      };
      for (const { gapMs, bad, n } of steps) {
        now += gapMs;
        for (let i = 0; i < n; i++) {
          const first = choosePool(state, policy, now);
          const second = choosePool(state, policy, now);
          expect(second).toBe(state.pool); // a probe is out, or none is due
          if (first !== second) {
            expect(first).toBe(second - 1);
            expect(now - climbedAt).toBeGreaterThanOrEqual(240_000);
          }
          note(second, i % 7, bad[second]);
          if (first !== second) note(first, i % 7, bad[first]);
        }
      }
    }),
  );
});

test('the share of refusals is the mean over the egresses of the last twenty outcomes', () => {
  const outcome = fc.record({ egress: fc.nat(5), refused: fc.boolean() });
  const policy = {
    ...{ pools: 1, share: 0.5, minOutcomes: 10, probes: 4, probeAfterMs: 1, maxProbeAfterMs: 1, probeTimeoutMs: 1 },
  };
  fc.assert(
    fc.property(fc.array(outcome, { maxLength: 50 }), (outcomes) => {
      const state = escalationState<number>();
      for (const { egress, refused } of outcomes) {
        notePool(state, policy, 0, egress, refused ? 'blocked' : 'ok', 0, Math.random);
      }
      const last = outcomes.slice(-20);
      const egresses = [...new Set(last.map(({ egress }) => egress))];
      const shares = egresses.map((egress) => {
        const own = last.filter((entry) => entry.egress === egress);
        return own.filter((entry) => entry.refused).length / own.length;
      });
      const mean = shares.reduce((sum, share) => sum + share, 0) / Math.max(1, shares.length);
      expect(refusedShare(state)).toBeCloseTo(mean, 9);
    }),
  );
});

test.each([
  ['pools', { pools: [] }],
  ['pools', { pools: ['a', 'a'] }],
  ['pools', { pools: 'direct' as never }],
  ['share', { share: 0 }],
  ['share', { share: 1.5 }],
  ['minOutcomes', { minOutcomes: 21 }],
  ['probes', { probes: 0 }],
  ['probeAfterMs', { probeAfterMs: Number.NaN }],
  ['maxProbeAfterMs', { maxProbeAfterMs: 1000 }],
  ['probeTimeoutMs', { probeTimeoutMs: 0 }],
])('a bad %s is named: %o', (option, options) => {
  expect(() => make(options)).toThrow(expect.objectContaining({ code: 'PACELINE_CONFIG', option }));
});

test('a pool that is not on the ladder is named', () => {
  expect(() => make().ladder.record('mobile', 'ok')).toThrow(expect.objectContaining({ option: 'pool' }));
});
