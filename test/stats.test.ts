import { expect, it } from 'vitest';
import { Stats } from '../src/stats.ts';
import type { Outcome } from '../src/store/store.ts';

// Requests are counted in batches; nobody who looks may notice.

const OUTCOMES: readonly Outcome[] = ['ok', 'ok', 'ok', 'blocked', 'rate-limited', 'network-error', 'ignored'];

it.each([1, 5, 31, 32, 33, 64, 100])('what is looked at after every %i requests is up to date', (every) => {
  const stats = new Stats();
  const of = ['a.test', 'b.test'].map((name) => stats.target(name));
  const over = stats.pool('res');
  const expected: Partial<Record<Outcome, number>>[] = [{}, {}];
  const judged = new Set<string>();
  let waitedMs = 0;
  let slowest = 0;
  for (let i = 1; i <= 300; i++) {
    const outcome = OUTCOMES[i % OUTCOMES.length];
    const told = stats.settled(of[i % 2], over, `192.0.2.${i % 4}`, outcome, 1 + (i % 7), i % 3);
    expect(told).toBe(false);
    expected[i % 2][outcome] = (expected[i % 2][outcome] ?? 0) + 1;
    waitedMs += i % 3;
    slowest = Math.max(slowest, 1 + (i % 7));
    // The others say nothing of an egress.
    if (outcome !== 'rate-limited' && outcome !== 'ignored') judged.add(`192.0.2.${i % 4}`);
    if (i % every > 0) continue;
    const targets = new Map(stats.targetStats());
    expect(targets.get('a.test')?.outcomes).toMatchObject(expected[0]);
    expect(targets.get('b.test')?.outcomes).toMatchObject(expected[1]);
    expect(stats.poolStats('res')).toMatchObject({ requests: i, waitedMs, latency: { max: slowest } });
    expect(stats.egresses().total).toBe(judged.size);
  }
});

it('a pool, a target and the egresses are each up to date when they are looked at first', () => {
  const looks: ((stats: Stats) => unknown)[] = [
    (stats) => stats.poolStats('res').requests,
    (stats) => stats.targetStats()[0][1].requests,
    (stats) => stats.egresses().total,
  ];
  for (const look of looks) {
    const stats = new Stats();
    stats.settled(stats.target('a.test'), stats.pool('res'), '192.0.2.1', 'ok', 5, 0);
    expect(look(stats)).toBe(1);
  }
});

it('says at every five hundredth request that it is time to tell of the egresses', () => {
  const stats = new Stats();
  const target = stats.target('a.test');
  const pool = stats.pool('res');
  const told: number[] = [];
  for (let i = 1; i <= 1_500; i++) if (stats.settled(target, pool, '192.0.2.1', 'ok', 1, 0)) told.push(i);
  expect(told).toEqual([500, 1_000, 1_500]);
});
