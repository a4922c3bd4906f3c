import { GatewayError, type GatewayErrorKind, RetriesExhaustedError } from 'paceline';
import {
  type Fault,
  type MockGateway,
  type MockGatewayOptions,
  type MockTarget,
  mockGateway,
  mockTarget,
} from 'paceline/testing';
import { request } from 'undici';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type TestCert, testCert } from '../support/certs.ts';
import { closeClean, pacedManager } from '../support/paced.ts';
import { eventually, resourceBaseline } from '../support/resources.ts';

// Everything that can go wrong between the first byte to a gateway and the last byte of a response. Each must surface as a
// typed error that blames the right side, within its time limit, and leave no socket behind.

const CONNECT_MS = 250;
const ATTEMPTS = 2;
let cert: TestCert;
let targets: { http: MockTarget; https: MockTarget };

beforeAll(async () => {
  cert = await testCert();
  targets = {
    http: await mockTarget({ bodyBytes: 20_000 }),
    https: await mockTarget({ bodyBytes: 20_000, tls: cert }),
  };
});
afterAll(() => Promise.all([targets.http.close(), targets.https.close()]));

type Scheme = 'http' | 'https';
type Way = 'http' | 'https' | 'socks5';

/** Past the time of any test: what waits for it fails by the test's own. */
const NEVER_MS = 60_000;

const managerFor = (gateway: string, connectMs: number = CONNECT_MS, attempts: number = ATTEMPTS) =>
  pacedManager({
    gateway,
    retry: { attempts },
    timeouts: { connectMs },
    requestTls: { ca: cert.ca },
    proxyTls: { ca: cert.ca },
  });

function protocolOf(way: Way): MockGatewayOptions {
  if (way === 'socks5') return { protocol: 'socks5' };
  return way === 'https' ? { tls: cert } : {};
}

/** What a fetch failed with, and the gateway's fault in it. */
async function failureOf(fetching: Promise<unknown>): Promise<{ error: unknown; fault: GatewayError }> {
  const error = await fetching.then(
    () => expect.unreachable('the fetch should have failed'),
    (reason: unknown) => reason,
  );
  const fault = error instanceof RetriesExhaustedError ? error.cause : error;
  expect(fault).toBeInstanceOf(GatewayError);
  return { error, fault: fault as GatewayError };
}

/** Retried errors come wrapped, with the count of the attempts; fatal ones as they are, after one attempt. */
function expectAttempts(error: unknown, asked: number, retried: boolean): void {
  expect(asked).toBe(retried ? ATTEMPTS : 1);
  if (retried) expect(error).toMatchObject({ name: 'RetriesExhaustedError', attempts: ATTEMPTS });
  else expect(error).toBeInstanceOf(GatewayError);
}

const WAYS: [Way, Scheme][] = [
  ['http', 'http'],
  ['http', 'https'],
  ['https', 'http'],
  ['https', 'https'],
  ['socks5', 'http'],
  ['socks5', 'https'],
];

describe.each(WAYS)('a failing %s gateway on the way to an %s target', (way, scheme) => {
  let gateway: MockGateway;
  const url = `${scheme}://shop.test/`;
  let idle: () => Promise<void>;

  beforeEach(async () => {
    targets[scheme].reset();
    idle = resourceBaseline();
    gateway = await mockGateway({
      exits: 4,
      assign: 'round-robin',
      hosts: { 'shop.test:80': targets.http.url, 'shop.test:443': targets.https.url },
      ...protocolOf(way),
    });
  });
  afterEach(async () => {
    await gateway.close();
    await idle();
  });

  /** The fault, all through one fetch: what it failed with, and that nothing is left of it. */
  async function under(fault: Fault, connectMs?: number): Promise<{ error: unknown; fault: GatewayError; ms: number }> {
    gateway.fault({ ...fault, times: Infinity });
    const proxies = managerFor(gateway.url, connectMs);
    const start = performance.now();
    const failure = await failureOf(proxies.fetch(url));
    const ms = performance.now() - start;
    expect(failure.fault.pool).toBe('default');
    expect(targets[scheme].arrivals).toEqual([]);
    await closeClean(proxies, { gateway, target: targets[scheme] });
    return { ...failure, ms };
  }

  const statuses: [number, GatewayErrorKind, boolean][] =
    way === 'socks5'
      ? [
          [403, 'forbidden', false],
          [404, 'exit-failed', true],
          [500, 'exit-failed', true],
          [502, 'exit-failed', true],
          [504, 'exit-failed', true],
        ]
      : [
          [407, 'auth', false],
          [402, 'quota', false],
          [403, 'forbidden', false],
          [400, 'protocol', true],
          [429, 'quota', true],
          [500, 'exit-failed', true],
          [502, 'exit-failed', true],
          [503, 'exit-failed', true],
          [504, 'exit-failed', true],
          [522, 'exit-failed', true],
        ];

  it.each(statuses)(
    'a refusal with %i is a GatewayError of kind %s (tried again: %s)',
    async (status, kind, retried) => {
      // A code of no known family: the status decides.
      const headers = { 'x-brd-err-code': 'own_code' };
      const { error, fault } = await under({ kind: 'status', status, headers });
      expect(fault).toMatchObject({ kind, retryable: retried, fatal: !retried });
      if (way !== 'socks5') expect(fault).toMatchObject({ status, providerCode: 'own_code' });
      expectAttempts(error, gateway.log.length, retried);
    },
  );

  it('wrong credentials are kind auth, and never tried again', async () => {
    const proxies = managerFor(gateway.url.replace(':pass@', ':wrong@'));
    const { error, fault } = await failureOf(proxies.fetch(url));
    expect(fault.kind).toBe('auth');
    expect(`${fault.message} ${fault.stack} ${JSON.stringify(fault)}`).not.toContain('wrong');
    expectAttempts(error, gateway.log.length, false);
    await closeClean(proxies, { gateway });
  });

  it.each<[Fault['kind'], GatewayErrorKind]>([
    ['fin', 'unreachable'],
    ['rst', 'unreachable'],
    ['garbage', 'protocol'],
  ])('%s instead of an answer is kind %s, at once', async (kind, expected) => {
    const { error, fault } = await under({ kind }, NEVER_MS);
    expect(fault.kind).toBe(expected);
    expectAttempts(error, gateway.log.length, true);
  });

  it('no answer at all is kind timeout, at timeouts.connectMs', async () => {
    const { error, fault, ms } = await under({ kind: 'silence' });
    expect(fault.kind).toBe('timeout');
    expect(ms).toBeGreaterThan(ATTEMPTS * CONNECT_MS - 20);
    // Neither the default limit, nor one that begins anew.
    expect(ms).toBeLessThan(5000);
    expectAttempts(error, gateway.log.length, true);
  });

  it.each([
    ['an AbortError', undefined, { name: 'AbortError' }],
    ['the own reason', new Error('enough'), { message: 'enough' }],
    ['a reason that is no Error', 'enough', 'enough'],
  ])('an abort while the gateway is silent ends at once, with %s', async (_, reason, expected) => {
    gateway.fault({ kind: 'silence', times: Infinity });
    const proxies = managerFor(gateway.url, NEVER_MS);
    const controller = new AbortController();
    const fetching = proxies.fetch(url, { signal: controller.signal });
    fetching.catch(() => {});
    await eventually(() => gateway.log.length).toBe(1);
    controller.abort(reason);
    await expect(fetching).rejects.toEqual(typeof expected === 'string' ? expected : expect.objectContaining(expected));
    // Before close: the abort itself lets go of the socket and of the timers.
    await eventually(() => gateway.stats().open).toBe(0);
    expect((await proxies.stats()).pools.default).toMatchObject({ inUse: 0 });
    await closeClean(proxies, { gateway });
  });

  it('a forced close while the gateway is silent frees the socket and the timers', async () => {
    gateway.fault({ kind: 'silence', times: Infinity });
    const proxies = managerFor(gateway.url, NEVER_MS, 1);
    const fetching = proxies.fetch(url);
    fetching.catch(() => {});
    await eventually(() => gateway.log.length).toBe(1);
    await proxies.close({ force: true });
    await expect(fetching).rejects.toThrow();
    await eventually(() => gateway.stats().open).toBe(0);
  });

  it.each([502, 407])("a target's own %i is an answer, never the gateway's fault", async (status) => {
    await using target = await mockTarget({
      handler: () => ({ status, headers: { 'proxy-authenticate': 'Basic' } }),
      ...(scheme === 'https' && { tls: cert }),
    });
    await using other = await mockGateway({ hosts: { 'shop.test': target.url }, ...protocolOf(way) });
    const proxies = managerFor(other.url);
    const { statusCode, body } = await request(url, { dispatcher: proxies.dispatcher });
    await body.dump();
    expect(statusCode).toBe(status);
    if (status === 502) {
      const response = await proxies.fetch(url);
      await response.text();
      expect([response.status, target.arrivals.length]).toEqual([502, 1 + ATTEMPTS]);
    } else {
      // The fetch standard makes a network error of a 407. It is the target's answer all the same: not asked for twice.
      await expect(proxies.fetch(url)).rejects.toThrow(TypeError);
      expect(target.arrivals.length).toBe(2);
    }
    const { outcomes } = (await proxies.stats()).pools.default;
    expect([outcomes['gateway-error'], outcomes['network-error']]).toEqual([0, 0]);
    expect(outcomes['target-error']).toBe(status === 502 ? 1 + ATTEMPTS : 0);
    await closeClean(proxies, { gateway: other, target });
  });

  it.each<[string, Fault]>([
    ['FIN', { kind: 'drop', afterBytes: 17_000 }],
    ['RST', { kind: 'drop', afterBytes: 17_000, reset: true }],
  ])('%s in the middle of a body fails the body, not the process, and frees the tunnel', async (_, fault) => {
    const proxies = managerFor(gateway.url);
    // The first request opens the tunnel, so that bytes are counted from the answer, not from the TLS handshake.
    await (await proxies.fetch(url)).arrayBuffer();
    gateway.fault(fault);
    const response = await proxies.fetch(url);
    await expect(response.text()).rejects.toThrow(TypeError);
    // The way is usable again at once.
    expect((await (await proxies.fetch(url)).text()).length).toBe(20_000);
    expect(targets[scheme].arrivals.length).toBe(3);
    await closeClean(proxies, { gateway, target: targets[scheme] });
  });

  it.each(['fin', 'rst', 'garbage'] as const)(
    '%s in the place of the answer is tried again through another tunnel',
    async (kind) => {
      const proxies = managerFor(gateway.url);
      await (await proxies.fetch(url)).arrayBuffer();
      gateway.fault({ kind, at: 'response' });
      const response = await proxies.fetch(url);
      expect((await response.text()).length).toBe(20_000);
      expect(proxies.exchange(response)).toMatchObject({ attempts: 2, outcome: 'ok' });
      expect((await proxies.stats()).pools.default.outcomes).toMatchObject({ 'network-error': 1, 'gateway-error': 0 });
      await closeClean(proxies, { gateway, target: targets[scheme] });
    },
  );

  it('a POST that may have arrived is not sent twice', async () => {
    const proxies = managerFor(gateway.url);
    await (await proxies.fetch(url)).arrayBuffer();
    gateway.fault({ kind: 'rst', at: 'response', times: Infinity });
    await expect(proxies.fetch(url, { method: 'POST', body: 'x' })).rejects.toThrow(TypeError);
    expect(targets[scheme].arrivals.filter(({ method }) => method === 'POST').length).toBe(1);
    await closeClean(proxies, { gateway, target: targets[scheme] });
  });
});
