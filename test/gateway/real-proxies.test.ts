import { GatewayError } from 'paceline';
import { type MockTarget, mockGateway, mockTarget } from 'paceline/testing';
import { Server as ChainServer, RequestError } from 'proxy-chain';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TestCert, testCert } from '../support/certs.ts';
import { fetchMany, pacedManager, shopBudget } from '../support/paced.ts';
import { isMissing, type RealServer, startSquid } from '../support/real-servers.ts';
import { eventually } from '../support/resources.ts';

// Proxies that were not written for these tests.

let cert: TestCert;
let http: MockTarget;
let https: MockTarget;
beforeAll(async () => {
  cert = await testCert();
  http = await mockTarget();
  https = await mockTarget({ tls: cert, http2: true });
});
afterAll(() => Promise.all([http.close(), https.close()]));

const faultOf = (fetching: Promise<unknown>): Promise<GatewayError> =>
  fetching.then(
    () => expect.unreachable('the fetch should have failed'),
    (error: Error) => (error instanceof GatewayError ? error : (error.cause as GatewayError)),
  );

describe.skipIf(isMissing('squid'))('squid', () => {
  let squid: RealServer;
  let denied: MockTarget;
  beforeAll(async () => {
    denied = await mockTarget();
    squid = await startSquid(denied.port);
  }, 30_000);
  afterAll(async () => {
    await squid[Symbol.asyncDispose]();
    await denied.close();
  });

  const managerFor = (user = 'user-session-{session}', password = 'pass') =>
    pacedManager({
      gateway: `http://${user}:${password}@127.0.0.1:${squid.port}`,
      requestTls: { ca: cert.ca },
      retry: { attempts: 2 },
    });

  it('carries http and https through CONNECT, one tunnel for many requests', async () => {
    const proxies = managerFor();
    expect(await fetchMany(proxies, http.url, 10, 1)).toEqual(Array(10).fill(200));
    expect(await fetchMany(proxies, https.url, 10, 1)).toEqual(Array(10).fill(200));
    await proxies.close();
    await expect
      .poll(() => squid.read('access.log'), { timeout: 5000, interval: 20 })
      .toMatch(/CONNECT 127\.0\.0\.1:\d+ user-session-/);
    const tunnels = (await squid.read('access.log')).split('\n').filter((line) => line.includes('CONNECT'));
    expect(tunnels.length).toBeLessThanOrEqual(2);
    // squid closes its own ends in its own time.
    await eventually(() => https.connections + http.connections).toBe(0);
  });

  it('that refuses the credentials is kind auth, once', async () => {
    const proxies = managerFor('user-{session}', 'wrong');
    expect(await faultOf(proxies.fetch(http.url))).toMatchObject({ kind: 'auth', status: 407 });
    await proxies.close();
  });

  it('whose rules refuse the target is kind forbidden', async () => {
    const proxies = managerFor();
    expect(await faultOf(proxies.fetch(denied.url))).toMatchObject({ kind: 'forbidden', status: 403 });
    expect(denied.arrivals).toEqual([]);
    await proxies.close();
  });

  it('that cannot reach the target is kind exit-failed, tried again', async () => {
    const gone = await mockTarget();
    await gone.close();
    const proxies = managerFor();
    expect(await faultOf(proxies.fetch(gone.url))).toMatchObject({ kind: 'exit-failed', status: 503 });
    expect((await proxies.stats()).pools.default.outcomes['gateway-error']).toBe(2);
    await proxies.close();
  });
});

describe('proxy-chain', () => {
  type Options = NonNullable<ConstructorParameters<typeof ChainServer>[0]>;
  type Prepare = NonNullable<Options['prepareRequestFunction']>;

  /** A server whose answer to each user is `prepare`'s. */
  async function chain(prepare: Prepare): Promise<{ server: ChainServer; url: string } & AsyncDisposable> {
    const server = new ChainServer({ port: 0, host: '127.0.0.1', prepareRequestFunction: prepare });
    await server.listen();
    return {
      server,
      url: `http://user-session-{session}:pass@127.0.0.1:${server.port}`,
      [Symbol.asyncDispose]: () => server.close(true),
    };
  }

  it('in front of a rotating gateway: sessions, exits and budgets as through the gateway itself', async () => {
    const [limit, windowMs] = [3, 200];
    await using target = await mockTarget({ budget: { limit, windowMs } });
    await using upstream = await mockGateway({
      exits: 4,
      assign: 'round-robin',
      egressHeader: false,
      hosts: { 'shop.test': target.url },
    });
    await using proxy = await chain(({ username, password }) => ({
      requestAuthentication: password !== 'pass',
      upstreamProxyUrl: upstream.url.replace('{session}', username.split('-').at(-1)!),
    }));
    const proxies = pacedManager({
      pools: { res: { gateway: proxy.url, maxSessions: 4 } },
      targets: shopBudget(limit, windowMs),
    });
    expect(await fetchMany(proxies, 'http://shop.test/', 36)).toEqual(Array(36).fill(200));
    expect([target.overBudget(), target.worst(), target.ips().length]).toEqual([0, limit, 4]);
    expect((await proxies.stats()).pools.res.egress).toBe('assumed');
    await proxies.close();
    await expect.poll(() => proxy.server.getConnectionIds().length).toBe(0);
  });

  it('carries https, without resuming TLS or tunnels across sessions', async () => {
    await using proxy = await chain(() => ({}));
    const proxies = pacedManager({ gateway: proxy.url, requestTls: { ca: cert.ca } });
    expect(await fetchMany(proxies, https.url, 12, 3)).toEqual(Array(12).fill(200));
    expect(proxy.server.stats.connectRequestCount).toBeLessThanOrEqual(3);
    await proxies.close();
    await expect.poll(() => proxy.server.getConnectionIds().length).toBe(0);
  });

  it.each([
    [407, 'auth', 1],
    [502, 'exit-failed', 2],
    [403, 'forbidden', 1],
    [429, 'quota', 2],
  ] as const)('that answers %i of its own is kind %s, asked %i times', async (status, kind, times) => {
    let asked = 0;
    await using proxy = await chain(() => {
      asked++;
      throw new RequestError('no', status);
    });
    const proxies = pacedManager({ gateway: proxy.url, retry: { attempts: 2 } });
    expect(await faultOf(proxies.fetch(http.url))).toMatchObject({ kind, status, pool: 'default' });
    expect(asked).toBe(times);
    await proxies.close();
  });

  it('whose upstream refuses the credentials is kind auth, and exit-failed when it is gone', async () => {
    const before = http.arrivals.length;
    const upstream = await mockGateway({ password: 'another' });
    await using proxy = await chain(() => ({ upstreamProxyUrl: upstream.rotatingUrl.replace(':another@', ':pass@') }));
    const proxies = pacedManager({ gateway: proxy.url, retry: { attempts: 1 } });
    expect(await faultOf(proxies.fetch(http.url))).toMatchObject({ kind: 'auth', status: 597, fatal: true });
    await upstream.close();
    expect(await faultOf(proxies.fetch(http.url))).toMatchObject({ kind: 'exit-failed', status: 594, fatal: false });
    expect(http.arrivals.length).toBe(before);
    await proxies.close();
  });
});
