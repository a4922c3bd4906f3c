import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/clock.ts';
import { SimulatedExits } from '../../src/testing/simulation/exits.ts';
import { SimulatedSite, type SimulatedSiteOptions } from '../../src/testing/simulation/sites.ts';

const BUDGET = { limit: 4, windowMs: 60_000 };
const site = (options: SimulatedSiteOptions): SimulatedSite => new SimulatedSite(options, seededRandom(1));

describe('a simulated site', () => {
  it('counts an arrival as over budget whatever those before it were answered', () => {
    const one = site({ budget: BUDGET, bans: { after: 2, withinMs: 60_000, forMs: 600_000 } });
    const statuses = Array.from({ length: 9 }, (_, i) => one.arrive('a', i).status);
    expect(statuses).toEqual([200, 200, 200, 200, 429, 429, 403, 403, 403]);
    expect(one.counts).toMatchObject({ overBudget: 5, limited: 2, blocked: 3, bans: 1 });
    // The window of arrivals is half open, and refused ones count in it like any other.
    expect(one.arrive('a', 60_004).status).toBe(403);
    expect(one.counts.overBudget).toBe(6);
    one.arrive('a', 60_010);
    expect(one.counts.overBudget).toBe(6);
  });

  it('bans only for refusals that lie within the time, not for a chain of them', () => {
    const one = site({ budget: { limit: 1, windowMs: 1_000_000 }, bans: { after: 3, withinMs: 100, forMs: 50 } });
    one.arrive('a', 0);
    for (let now = 60; now <= 600; now += 60) expect(one.arrive('a', now).status).toBe(429);
    one.arrive('a', 601);
    expect(one.counts.bans).toBe(1);
    expect(one.arrive('a', 650).status).toBe(403);
    expect(one.arrive('a', 651).status).toBe(429);
  });

  it('tightens for all while many are refused, and recovers', () => {
    const one = site({ budget: BUDGET, tightens: { refusedShare: 0.5, factor: 0.5 } });
    for (let i = 0; i < 20; i++) one.arrive('a', i);
    expect(one.limitAt(20)).toBe(2);
    expect(one.limitAt(59_000)).toBe(2);
    expect(one.limitAt(120_001)).toBe(4);
  });

  it('is stricter in a busy spell, whoever comes', () => {
    const one = site({ budget: BUDGET, busy: [{ fromMs: 10, toMs: 20, factor: 0.5 }] });
    expect([9, 10, 19, 20].map((now) => one.limitAt(now))).toEqual([4, 2, 2, 4]);
  });
});

it('exits: a session keeps its exit for its time, also among a great many', () => {
  const exits = new SimulatedExits({ exits: 1_000_000, sessionTtlMs: 1000 }, seededRandom(1));
  const first = exits.dial('s', 0);
  for (let i = 0; i < 5000; i++) exits.dial(`other${i}`, 999);
  expect(exits.dial('s', 999)).toBe(first);
  expect(exits.dial('s', 1000)).not.toBe(first);
});
