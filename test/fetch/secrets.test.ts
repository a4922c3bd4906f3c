import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { inspect } from 'node:util';
import { type PacelineEventName, ProxyManager, type ProxyManagerOptions } from 'paceline';
import { type Fault, type MockGateway, type MockTarget, mockGateway, mockTarget } from 'paceline/testing';
import { interceptors, request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { testCert } from '../support/certs.ts';
import { failureOf, thrownBy } from '../support/failing.ts';
import { pacedManager } from '../support/paced.ts';

// The gateway's credentials appear in nothing that a program may log: neither the password, in whatever dress, nor the
// customer's user name.

const USER = 'customer-acme77';
const PASSWORD = 's3cret@pw';
/** The password in the dresses a header can wear. */
const ECHOES = [
  `http://x:${PASSWORD}@gw`,
  encodeURIComponent(PASSWORD),
  encodeURIComponent(PASSWORD).toLowerCase(),
  Buffer.from(`${USER}-session-abc:${PASSWORD}`).toString('base64'),
  `${USER}-session-abc`,
];
const EVENTS: PacelineEventName[] = [
  'admit',
  'settle',
  'retry',
  'cooldown',
  'egress',
  'refuse',
  'session',
  'store-error',
  'store-back',
];

let target: MockTarget;
let gateway: MockGateway;

beforeAll(async () => {
  target = await mockTarget({
    handler: ({ path }) => {
      if (path === '/503') return { status: 503 };
      if (path === '/late') return { delayMs: 3_600_000 };
      return path === '/reset' ? { reset: true } : undefined;
    },
  });
  gateway = await mockGateway({ username: USER, password: PASSWORD, hosts: { 'shop.test': target.url } });
});
afterAll(() => Promise.all([target.close(), gateway.close()]));

/** Everything that a value shows when it is printed, thrown or sent on. */
function shown(value: unknown): string {
  const parts: string[] = [];
  for (const showHidden of [true, false]) parts.push(inspect(value, { depth: 10, showHidden, maxStringLength: null }));
  parts.push(inspect(value, { depth: 10, showHidden: true, showProxy: true, getters: true }));
  try {
    parts.push(String(value), JSON.stringify(value) ?? '');
  } catch {
    // Circular: a program cannot send it either.
  }
  for (let error: unknown = value; error instanceof Error; error = error.cause) {
    parts.push(error.message, error.stack ?? '', JSON.stringify({ ...error, message: error.message }));
  }
  if (typeof value === 'object' && value !== null) {
    for (const key of Object.keys(value)) {
      const own = (value as Record<string, unknown>)[key];
      if (typeof own !== 'function') parts.push(inspect(own, { depth: 10, showHidden: true }));
    }
  }
  return parts.join('\n');
}

function expectClean(value: unknown): void {
  const text = shown(value);
  // Base64 of `user:password`, whatever the session: its beginning does not depend on it.
  const encoded = Buffer.from(`${USER}-session-x`).toString('base64').slice(0, 18);
  for (const secret of ['s3cret', USER, encodeURIComponent(PASSWORD), encoded]) {
    const at = text.indexOf(secret);
    expect(at < 0 ? '' : text.slice(Math.max(0, at - 300), at + 60)).toBe('');
  }
}

const managerFor = (options: ProxyManagerOptions = {}): ProxyManager =>
  pacedManager({
    gateway: gateway.url,
    retry: { attempts: 2 },
    timeouts: { connectMs: 150, headersMs: 150 },
    ...options,
  });

it('the test would find them', () => {
  for (const leak of [
    { url: gateway.url },
    new Error(`failed: ${gateway.url}`),
    new Error('outer', {
      cause: { header: `Basic ${Buffer.from(`${USER}-session-abc:${PASSWORD}`).toString('base64')}` },
    }),
    Object.defineProperty({}, 'hidden', { value: { deep: { password: PASSWORD } } }),
  ]) {
    expect(() => expectClean(leak)).toThrow();
  }
});

describe('no credentials are shown', () => {
  it('by the manager, its sessions, dispatchers, stats and responses', async () => {
    await using proxies = managerFor({ headers: { 'user-agent': 'mine' } });
    const session = proxies.session();
    const response = await proxies.fetch('http://shop.test/');
    const wrapped = await proxies.wrap(globalThis.fetch)('http://shop.test/');
    const own = await session.fetch('http://shop.test/');
    const { dispatcher } = proxies;
    const composed = dispatcher.compose(interceptors.redirect());
    const plain = await request('http://shop.test/', { dispatcher: composed });
    for (const value of [
      ...[proxies, session, dispatcher, composed, response, wrapped, own, plain, proxies.fetch],
      ...[proxies.exchange(response), await proxies.stats(), proxies.toJSON(), response.body, plain.body],
    ]) {
      expectClean(value);
    }
    await Promise.all([response.text(), wrapped.text(), own.text(), plain.body.dump()]);
  });

  it('by any event, on the manager or on its channel', async () => {
    await using proxies = managerFor();
    const events: unknown[] = [];
    const listen = (message: unknown): void => void events.push(message);
    for (const name of EVENTS) {
      proxies.on(name, listen);
      subscribe(`paceline:${name}`, listen);
    }
    gateway.fault({ kind: 'rst', times: 1 });
    await proxies.fetch('http://shop.test/503');
    await failureOf(proxies.fetch('http://shop.test/reset'));
    for (const name of EVENTS) unsubscribe(`paceline:${name}`, listen);
    expect(events.length).toBeGreaterThan(10);
    for (const event of events) expectClean(event);
  });

  const FAULTS: Fault[] = [
    { kind: 'status', status: 407 },
    { kind: 'status', status: 502, headers: { 'x-brd-err-code': 'peer_failed' } },
    // A gateway that repeats what it was sent.
    { kind: 'status', status: 407, headers: { 'x-error-description': `no ${USER} with ${PASSWORD}` } },
    { kind: 'status', status: 407, headers: { 'x-brd-err-msg': USER, 'x-brd-err-code': USER } },
    { kind: 'status', status: 502, headers: { 'x-error-description': ECHOES.join(' and ') } },
    { kind: 'status', status: 429, headers: { 'proxy-status': `gw;error=${USER};details="${ECHOES.join(' ')}"` } },
    { kind: 'rst' },
    { kind: 'fin' },
    { kind: 'garbage' },
    { kind: 'silence' },
    { kind: 'silence', at: 'response' },
    { kind: 'rst', at: 'response' },
    { kind: 'garbage', at: 'response' },
  ];

  it.each(FAULTS)('by the error of $kind $status $at', async (fault) => {
    await using proxies = managerFor();
    const disarm = gateway.fault({ ...fault, times: Infinity });
    const sends = [
      proxies.fetch('http://shop.test/'),
      proxies.fetch('https://shop.test/'),
      proxies.wrap(globalThis.fetch)('http://shop.test/'),
      request('http://shop.test/', { dispatcher: proxies.dispatcher }),
    ];
    for (const failure of await Promise.all(sends.map(failureOf))) expectClean(failure);
    disarm();
  });

  it('by the error of a gateway that refuses them, is not there, or is none', async () => {
    const bad = [
      gateway.url.replace('s3cret', 's3cret-old'),
      gateway.url.replace(String(gateway.port), '9'),
      gateway.url.replace('127.0.0.1', 'no-such-gateway.invalid'),
      gateway.url.replace('http:', 'https:'),
      gateway.url.replace('http:', 'socks5:'),
      gateway.url.replace('127.0.0.1', '127.0.0.1').replace(String(gateway.port), String(target.port)),
    ];
    for (const url of bad) {
      await using proxies = managerFor({ gateway: url });
      expectClean(await failureOf(proxies.fetch('http://shop.test/')));
      expectClean(proxies);
    }
  });

  it('by a failed TLS handshake with the target, or with the gateway', async () => {
    const cert = await testCert();
    await using secure = await mockTarget({ tls: cert });
    await using tls = await mockGateway({
      username: USER,
      password: PASSWORD,
      tls: cert,
      hosts: { 'shop.test': secure.url },
    });
    await using untrusting = managerFor({ gateway: tls.url });
    expectClean(await failureOf(untrusting.fetch('https://shop.test/')));
    await using half = managerFor({ gateway: tls.url, proxyTls: { ca: cert.ca } });
    expectClean(await failureOf(half.fetch('https://shop.test/')));
  });

  it('by the errors of aborts, limits, waits and a closed manager', async () => {
    const budget = { limit: 1, windowMs: 60_000 };
    const proxies = managerFor({
      targets: [{ match: 'shop.test', budget, concurrency: 1 }],
      timeouts: { totalMs: 100 },
    });
    const { fetch } = proxies.session({ id: 'mine' });
    await (await fetch('http://shop.test/')).text();
    expectClean(await failureOf(fetch('http://shop.test/', { pace: { maxWaitMs: 10 } })));
    expectClean(await failureOf(fetch('http://shop.test/')));
    expectClean(await failureOf(proxies.fetch('http://shop.test/late', { signal: AbortSignal.timeout(10) })));
    await proxies.close();
    expectClean(await failureOf(proxies.fetch('http://shop.test/')));
  });

  it('by what is said of bad options', () => {
    const auth = `${USER}-{session}:${encodeURIComponent(PASSWORD)}`;
    const gateways = [
      ...[`http://${auth}@`, `${auth}@gw.test:80`, `ftp://${auth}@gw.test`, `http://${auth}%zz@gw.test`],
      ...[`http://${auth}@gw.test:99999`, `//${auth}@gw.test`, `http://${auth}@gw test`, `http://${auth}@gw.test/{x}`],
      ...[
        `http://${auth}%0d%0a@gw.test`,
        `http://${auth.replace('{session}', 'x')}@gw.test`,
        `${USER}:80`,
        `${USER}://x`,
      ],
    ];
    const all: unknown[] = gateways.flatMap((url) => [
      { gateway: url },
      { pools: { a: { gateway: url } } },
      { pools: { a: { gateway: url, rotation: 'per-request', poolSize: 1 } } },
    ]);
    all.push(...gateways.map((url) => ({ pools: { a: { proxies: url } } })));
    all.push({ gateway: [`http://${auth}@gw.test`] }, { gateway: new URL(`http://${auth}@gw.test`) });
    all.push({ gateway: `http://${auth}@gw.test`, pools: `http://${auth}@gw.test` });
    let refused = 0;
    for (const options of all) {
      try {
        new ProxyManager(options as ProxyManagerOptions);
      } catch (error) {
        refused++;
        expectClean(error);
      }
    }
    expect(refused).toBeGreaterThan(30);
  });

  it('by a gateway function that fails', async () => {
    const secret = `http://${USER}:${encodeURIComponent(PASSWORD)}@`;
    await using proxies = managerFor({ gateway: () => secret });
    expectClean(await failureOf(proxies.fetch('http://shop.test/')));
    expectClean(thrownBy(() => proxies.session()));
  });
});
