import { type MockTarget, mockGateway, mockTarget, type TargetRequest } from 'paceline/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { failureOf } from '../support/failing.ts';
import { pacedManager } from '../support/paced.ts';
import { eventually } from '../support/resources.ts';

// Each hop of a redirect is a request of its own: admitted for its own target, on the session that the first one left from.

const WINDOW_MS = 400;
let a: MockTarget;
let b: MockTarget;
let seen: TargetRequest[] = [];

beforeEach(async () => {
  seen = [];
  a = await mockTarget({
    handler(request) {
      seen.push(request);
      const { path } = request;
      if (path === '/loop') return { redirect: '/loop' };
      if (path === '/self') return { redirect: '/landed' };
      if (path === '/large') return { redirect: 'http://b.test/', body: Buffer.alloc(8_000_000) };
      if (path === '/medium') return { redirect: 'http://b.test/', body: Buffer.alloc(100_000) };
      if (path === '/post') return { status: 307, redirect: 'http://b.test/post' };
      return path.startsWith('/landed') ? undefined : { redirect: `http://b.test${path}` };
    },
  });
  b = await mockTarget({
    handler(request) {
      seen.push(request);
      return undefined;
    },
  });
});
afterEach(() => Promise.all([a.close(), b.close()]));

const gatewayFor = (exits: number) => mockGateway({ exits, hosts: { 'a.test': a.url, 'b.test': b.url } });
const rule = (match: string, limit: number) => ({
  match,
  budget: { limit, windowMs: WINDOW_MS, spacing: 'burst' as const },
});
const EASY = [rule('a.test', 1000), rule('b.test', 1000)];

describe('a redirect to another target', () => {
  it('keeps the budgets of both: neither sees an IP go beyond its own', async () => {
    await using gateway = await gatewayFor(3);
    await using proxies = pacedManager({ gateway: gateway.url, targets: [rule('a.test', 4), rule('b.test', 2)] });
    const responses = await Promise.all(Array.from({ length: 24 }, (_, i) => proxies.fetch(`http://a.test/${i}`)));
    await Promise.all(responses.map((response) => response.text()));
    expect(responses.every(({ status, redirected }) => status === 200 && redirected)).toBe(true);
    expect([a.arrivals.length, b.arrivals.length]).toEqual([24, 24]);
    expect(a.worst(WINDOW_MS)).toBeLessThanOrEqual(4);
    expect(b.worst(WINDOW_MS)).toBeLessThanOrEqual(2);
    const { targets } = await proxies.stats();
    expect([targets['a.test'].requests, targets['b.test'].requests]).toEqual([24, 24]);
  });

  it('leaves from the same IP as the first hop, whichever that was', async () => {
    await using gateway = await gatewayFor(20);
    await using proxies = pacedManager({ gateway: gateway.url, targets: [rule('a.test', 2), rule('b.test', 2)] });
    const responses = await Promise.all(Array.from({ length: 30 }, (_, i) => proxies.fetch(`http://a.test/${i}`)));
    for (const response of responses) {
      const path = new URL(response.url).pathname;
      const hops = seen.filter((request) => request.path === path);
      expect(hops.map(({ host }) => host)).toEqual(['a.test', 'b.test']);
      expect(hops[1].ip).toBe(hops[0].ip);
      expect(proxies.exchange(response)).toMatchObject({ target: 'b.test', egress: hops[0].ip, sends: 2, attempts: 1 });
    }
    expect(new Set(seen.map(({ ip }) => ip)).size).toBeGreaterThan(3);
  });

  it('loses the credentials meant for the first one, and keeps the rest', async () => {
    await using gateway = await gatewayFor(1);
    await using proxies = pacedManager({ gateway: gateway.url, targets: EASY, headers: { 'x-default': '1' } });
    await proxies.fetch('http://a.test/x', { headers: { authorization: 'Bearer t', cookie: 'a=1', 'x-own': '2' } });
    expect(seen[0].headers).toMatchObject({ authorization: 'Bearer t', cookie: 'a=1', 'x-own': '2', 'x-default': '1' });
    expect(seen[1].headers).toMatchObject({ 'x-own': '2', 'x-default': '1' });
    expect(seen[1].headers).not.toHaveProperty('authorization');
    expect(seen[1].headers).not.toHaveProperty('cookie');
  });

  it('keeps credentials on the same origin', async () => {
    await using gateway = await gatewayFor(1);
    await using proxies = pacedManager({ gateway: gateway.url, targets: EASY });
    await proxies.fetch('http://a.test/self', { headers: { authorization: 'Bearer t' } });
    expect(seen.map(({ headers }) => headers.authorization)).toEqual(['Bearer t', 'Bearer t']);
  });

  it('takes the body along where it keeps the method', async () => {
    await using gateway = await gatewayFor(1);
    await using proxies = pacedManager({ gateway: gateway.url, targets: EASY });
    await proxies.fetch('http://a.test/post', { method: 'POST', body: 'whole' });
    expect(seen.map(({ method, host, body }) => [method, host, body.toString()])).toEqual([
      ['POST', 'a.test', 'whole'],
      ['POST', 'b.test', 'whole'],
    ]);
  });

  it('aborted while it waits for the second hop, never reaches the second target', async () => {
    await using gateway = await gatewayFor(1);
    const slow = { match: 'b.test', budget: { limit: 1, windowMs: 60_000 } };
    await using proxies = pacedManager({ gateway: gateway.url, targets: [EASY[0], slow] });
    await (await proxies.fetch('http://b.test/')).text();
    const controller = new AbortController();
    const waiting = proxies.fetch('http://a.test/x', { signal: controller.signal });
    await a.arrived(1);
    await eventually(async () => (await proxies.stats()).waiting).toBe(1);
    controller.abort();
    expect(await failureOf(waiting)).toMatchObject({ name: 'AbortError' });
    expect(b.arrivals).toHaveLength(1);
  });
});

describe('the body of a redirect, which nobody reads,', () => {
  it('does not hold its tunnel: a long one costs a new tunnel, not the whole download', async () => {
    await using gateway = await gatewayFor(1);
    await using proxies = pacedManager({ gateway: gateway.url, targets: EASY });
    for (let i = 0; i < 3; i++) expect((await proxies.fetch('http://a.test/large')).status).toBe(200);
    await eventually(() => proxies.stats().then(({ inFlight }) => inFlight)).toBe(0);
    expect(gateway.stats().bytesOut).toBeLessThan(3 * 4_000_000);
    expect((await proxies.stats()).targets['a.test'].outcomes).toMatchObject({ ok: 3, 'network-error': 0 });
  });

  it('is read when it is short: the tunnel carries the next request', async () => {
    await using gateway = await gatewayFor(1);
    await using proxies = pacedManager({ gateway: gateway.url, targets: EASY });
    for (let i = 0; i < 5; i++) {
      await (await proxies.fetch('http://a.test/medium')).text();
      await eventually(() => proxies.stats().then(({ inFlight }) => inFlight)).toBe(0);
    }
    expect(gateway.stats().connects).toBe(2);
  });

  it.each(['follow', 'error'] as const)(
    'frees its place in a concurrency of one, with redirect: %s',
    async (redirect) => {
      await using gateway = await gatewayFor(1);
      const targets = EASY.map((one) => ({ ...one, concurrency: 1 }));
      await using proxies = pacedManager({ gateway: gateway.url, targets });
      for (let i = 0; i < 3; i++) await proxies.fetch('http://a.test/large', { redirect }).catch(() => {});
      expect((await proxies.fetch('http://a.test/landed')).status).toBe(200);
    },
  );

  it('may break off without harm to the hop that follows', async () => {
    await using slow = await mockTarget({ latencyMs: 60 });
    await using gateway = await mockGateway({ exits: 1, hosts: { 'a.test': a.url, 'b.test': slow.url } });
    gateway.fault({ kind: 'drop', target: 'a.test', afterBytes: 70_000, reset: true });
    await using proxies = pacedManager({ gateway: gateway.url, targets: EASY });
    expect((await proxies.fetch('http://a.test/medium')).status).toBe(200);
    expect([a.arrivals.length, slow.arrivals.length]).toEqual([1, 1]);
  });

  it('is the caller’s with redirect: manual', async () => {
    await using gateway = await gatewayFor(1);
    await using proxies = pacedManager({ gateway: gateway.url, targets: EASY });
    const response = await proxies.fetch('http://a.test/medium', { redirect: 'manual' });
    expect([response.status, (await response.arrayBuffer()).byteLength]).toEqual([302, 100_000]);
  });
});

it('a redirect loop ends where fetch ends it, and is not tried again', async () => {
  await using gateway = await gatewayFor(1);
  await using proxies = pacedManager({ gateway: gateway.url, targets: EASY });
  const error = await failureOf(proxies.fetch('http://a.test/loop'));
  expect(error).toMatchObject({ name: 'TypeError', cause: { message: 'redirect count exceeded' } });
  expect(a.arrivals).toHaveLength(21);
});

it('redirect: error fails at once, and is not tried again', async () => {
  await using gateway = await gatewayFor(1);
  await using proxies = pacedManager({ gateway: gateway.url, targets: EASY });
  expect(await failureOf(proxies.fetch('http://a.test/x', { redirect: 'error' }))).toBeInstanceOf(TypeError);
  expect([a.arrivals.length, b.arrivals.length]).toEqual([1, 0]);
});

it('a hop that fails is tried again from the start, within one budget of attempts', async () => {
  let broken = 2;
  await using fragile = await mockTarget({ handler: () => (broken-- > 0 ? { reset: true } : undefined) });
  await using gateway = await mockGateway({ hosts: { 'a.test': a.url, 'b.test': fragile.url } });
  await using proxies = pacedManager({ gateway: gateway.url, targets: EASY });
  const response = await proxies.fetch('http://a.test/x');
  expect([response.status, proxies.exchange(response)?.attempts]).toEqual([200, 3]);
  expect([a.arrivals.length, fragile.arrivals.length]).toEqual([3, 3]);
});
