import fc from 'fast-check';
import { GatewayError, type GatewayErrorKind } from 'paceline';
import { mockGateway, mockTarget } from 'paceline/testing';
import { describe, expect, it } from 'vitest';
import { pacedManager, shopBudget } from '../support/paced.ts';
import { type Answer, Stage } from '../support/stage.ts';

// P6: a gateway's fault counts against the gateway, a target's against the target, a refusal against the egress; and never one for another.

const budget = { limit: 100, windowMs: 1000, spacing: 'burst' } as const;
const targets = [
  { match: 'a.test', budget },
  { match: 'b.test', budget },
];
const retry = { baseMs: 10, capMs: 100 };
const fault = (kind: GatewayErrorKind, pool: string): Error => new GatewayError(kind, { kind, pool });
const OF_GATEWAY: readonly GatewayErrorKind[] = ['auth', 'quota', 'unreachable', 'timeout', 'protocol', 'exit-failed'];
const OF_EXIT: readonly GatewayErrorKind[] = ['forbidden'];

/** What is told of targets and egresses, not of pools. */
const ofTargets = (stage: Stage): unknown[] =>
  stage.told
    .filter(({ name }) => ['eject', 'return', 'cooldown', 'adapt', 'circuit'].includes(name))
    .map(({ event }) => event)
    .filter((event) => (event as { target?: string }).target !== undefined);
const circuits = (stage: Stage): [string | undefined, string | undefined, boolean][] =>
  stage.tales('circuit').map(({ event: { target, pool, open } }) => [target, pool, open]);

describe('P6 in virtual time', () => {
  it.each([...OF_GATEWAY, ...OF_EXIT])(
    'a gateway fault changes nothing at the target, nor an egress’s health: %s',
    async (kind) => {
      let down = false;
      const stage: Stage = new Stage({
        // Each request needs a dial.
        world: { exits: 5, refuse: ({ pool }) => (down ? fault(kind, pool) : undefined) },
        manager: {
          pools: { p: { gateway: 'http://u:p@gw.test:1', rotation: 'per-request', egress: { header: 'x-egress-ip' } } },
          targets,
          retry,
        },
      });
      await stage.load(3, 3000, (n) => stage.get(`http://a.test/${n}`));
      const before = (await stage.proxies.stats()).targets['a.test'];
      const sent = stage.passages.length;
      down = true;
      const all = Promise.allSettled(Array.from({ length: 60 }, (_, i) => stage.get(`http://a.test/${i}`)));
      await stage.clock.advance(5000);
      const { targets: after, pools } = await stage.proxies.stats();
      expect(stage.passages.length).toBe(sent);
      expect(pools.p.outcomes['gateway-error']).toBeGreaterThanOrEqual(20);
      const { 'gateway-error': _, ...outcomes } = after['a.test'].outcomes;
      expect(before.outcomes).toMatchObject(outcomes);
      expect(after['a.test'].state).toMatchObject({ circuit: 'closed', limit: 100, active: 0, restMs: 0 });
      for (const egress of after['a.test'].state!.egresses) expect(egress).toMatchObject({ ejectedMs: 0, busy: 0 });
      expect(ofTargets(stage)).toEqual([]);
      expect(circuits(stage)).toEqual(OF_GATEWAY.includes(kind) ? [[undefined, 'p', true]] : []);
      down = false;
      await stage.clock.runUntil(all);
      expect(await stage.clock.runUntil(stage.get('http://a.test/again'))).toBe(200);
      await stage.close();
    },
  );

  it('a target in trouble is no block: nobody is ejected, its circuit opens, no other target’s and no pool’s', async () => {
    const stage = new Stage({
      answer: ({ target }, random) => ({
        status: target === 'a.test' ? [500, 502, 503, 504][Math.floor(random() * 4)] : 200,
      }),
      manager: { targets, retry },
    });
    const all = Promise.allSettled(Array.from({ length: 50 }, (_, i) => stage.get(`http://a.test/${i}`)));
    await stage.load(5, 30_000, (n) => stage.get(`http://b.test/${n}`));
    expect(stage.tales('eject')).toEqual([]);
    expect(circuits(stage).length).toBeGreaterThan(0);
    for (const [target, pool, open] of circuits(stage))
      expect([target, pool, open]).toEqual(['a.test', undefined, true]);
    expect(stage.passages.filter(({ target }) => target === 'b.test').length).toBeGreaterThan(500);
    await stage.clock.runUntil(all, { maxMs: 1e9 });
    await stage.close();
  });

  it('a block, a challenge or a full budget is no outage: no circuit opens, whatever the mixture', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 1e9 }),
        fc.array(fc.constantFrom('403', '429', 'challenge', '404', '200'), { minLength: 1 }),
        async (seed, kinds) => {
          const stage = new Stage({
            seed,
            answer: (_, random): Answer => {
              const kind = kinds[Math.floor(random() * kinds.length)];
              return kind === 'challenge'
                ? { status: 403, headers: { 'cf-mitigated': 'challenge' } }
                : { status: Number(kind), headers: {} };
            },
            manager: { targets, retry },
          });
          await stage.settle(Array.from({ length: 60 }, (_, i) => stage.get(`http://a.test/${i}`)));
          await stage.close();
          expect(circuits(stage)).toEqual([]);
        },
      ),
      { numRuns: 25 },
    );
  });

  it('a dead target behind a fine gateway holds up no other', async () => {
    const stage = new Stage({
      world: { refuse: ({ pool }, host) => (host === 'a.test' ? fault('exit-failed', pool) : undefined) },
      manager: { targets, retry },
    });
    const dead = Promise.allSettled(Array.from({ length: 100 }, (_, i) => stage.get(`http://a.test/${i}`)));
    const ends = await stage.load(5, 20_000, (n) => stage.get(`http://b.test/${n}`));
    await stage.clock.runUntil(dead, { maxMs: 1e9 });
    await stage.close();
    expect([...ends.keys()]).toEqual([200]);
    expect(stage.passages.length).toBeGreaterThan(500);
    expect(circuits(stage)).toEqual([]);
    expect(stage.tales('eject')).toEqual([]);
  });

  it('resets in the tunnel are half the exit’s: one bad exit is ejected, and no other', async () => {
    const stage = new Stage({
      answer: ({ egress }) => ({ status: egress === '10.0.0.1' ? undefined : 200 }),
      world: { exits: 4 },
      manager: { targets, retry },
    });
    await stage.load(10, 30_000, (n) => stage.get(`http://a.test/${n}`));
    await stage.close();
    expect(new Set(stage.tales('eject').map(({ event }) => event.egress))).toEqual(new Set(['10.0.0.1']));
  });
});

describe('P6 on real sockets', () => {
  it.each([
    ['502', { kind: 'status', status: 502 }, true],
    ['503 and garbage', { kind: 'garbage' }, true],
    ['407', { kind: 'status', status: 407 }, true],
    ['403', { kind: 'status', status: 403 }, false],
    ['resets', { kind: 'rst' }, true],
  ] as const)(
    'a gateway that answers CONNECT with %s: the target’s account of things is untouched',
    async (_name, what, opens) => {
      await using target = await mockTarget();
      await using gateway = await mockGateway({ exits: 3, hosts: { 'shop.test': target.url } });
      await using proxies = pacedManager({ gateway: gateway.url, targets: shopBudget(100, 1000) });
      const told: unknown[] = [];
      for (const name of ['eject', 'cooldown', 'adapt'] as const) proxies.on(name, (event) => told.push(event));
      const circuit: unknown[] = [];
      proxies.on('circuit', ({ target, pool, open }) => circuit.push([target, pool, open]));
      gateway.fault({ ...what, times: Infinity });
      const all = Array.from({ length: 40 }, () => proxies.fetch('http://shop.test/', { pace: { maxWaitMs: 3000 } }));
      const ends = await Promise.allSettled(all);
      expect(ends.every(({ status }) => status === 'rejected')).toBe(true);
      expect(target.arrivals).toEqual([]);
      expect(told).toEqual([]);
      expect(circuit).toEqual(opens ? [[undefined, 'default', true]] : []);
      const { targets } = await proxies.stats();
      expect(targets['shop.test'].outcomes).toMatchObject({ ok: 0, 'network-error': 0, 'target-error': 0 });
    },
  );
});
