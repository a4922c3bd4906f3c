import { createServer as createNetServer } from 'node:net';
import { checkServerIdentity } from 'node:tls';
import type { ProxyManager } from 'paceline';
import { mockGateway, mockTarget } from 'paceline/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { type TestCert, testCert } from '../support/certs.ts';
import { closeClean, fetchMany, pacedManager, shopBudget } from '../support/paced.ts';

// Every way out there is: directly, through lists of proxies, and through gateways over http, https and SOCKS5.

let cert: TestCert;
beforeAll(async () => {
  cert = await testCert();
});

async function bodyOf(
  proxies: ProxyManager,
  url: string,
): Promise<{ status: number; text: string; ip: string | null }> {
  const response = await proxies.fetch(url);
  return { status: response.status, text: await response.text(), ip: response.headers.get('x-peer-ip') };
}

/** Whether this machine has IPv6 on loopback; some containers have not. */
const hasIPv6 = await new Promise<boolean>((resolve) => {
  const probe = createNetServer();
  probe.once('error', () => resolve(false));
  probe.listen(0, '::1', () => probe.close(() => resolve(true)));
});

describe('direct', () => {
  it('is the way when nothing else is given, within the budget of the own address', async () => {
    await using target = await mockTarget({ budget: { limit: 3, windowMs: 150 } });
    const proxies = pacedManager({
      targets: [{ match: '127.0.0.1', budget: { limit: 3, windowMs: 150, spacing: 'burst' } }],
    });
    expect(await fetchMany(proxies, target.url, 9)).toEqual(Array(9).fill(200));
    expect([target.overBudget(), target.ips()]).toEqual([0, ['127.0.0.1']]);
    expect((await proxies.stats()).pools.direct).toMatchObject({ type: 'direct', egress: 'verified' });
    await closeClean(proxies, { target });
  });

  it('reaches https targets of a private authority, and refuses those of an unknown one, once', async () => {
    await using target = await mockTarget({ tls: cert });
    const trusting = pacedManager({ requestTls: { ca: cert.ca } });
    expect((await bodyOf(trusting, target.url)).status).toBe(200);
    await closeClean(trusting, { target });
    const strict = pacedManager({});
    await expect(strict.fetch(target.url)).rejects.toMatchObject({ cause: { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' } });
    expect(target.arrivals.length).toBe(1);
    await closeClean(strict, { target });
  });

  it("gives a target that refuses connections as a network error, not the gateway's", async () => {
    const target = await mockTarget();
    await target.close();
    const proxies = pacedManager({ retry: { attempts: 2 } });
    await expect(proxies.fetch(target.url)).rejects.toMatchObject({
      name: 'RetriesExhaustedError',
      cause: { cause: { code: 'ECONNREFUSED' } },
    });
    expect((await proxies.stats()).pools.direct.outcomes).toMatchObject({ 'network-error': 2, 'gateway-error': 0 });
    await closeClean(proxies, {});
  });
});

describe.concurrent('a list of proxies', () => {
  it('has one budget a proxy, and uses them all', async () => {
    await using target = await mockTarget({ budget: { limit: 2, windowMs: 200 } });
    const gateways = await Promise.all(
      [1, 2, 3].map((n) =>
        mockGateway({
          host: `127.0.7.${n}`,
          exits: [`127.0.7.${n}`],
          egressHeader: false,
          hosts: { 'shop.test': target.url },
        }),
      ),
    );
    const proxies = pacedManager({
      pools: { isp: { proxies: gateways.map(({ rotatingUrl }) => rotatingUrl) } },
      targets: shopBudget(2, 200),
    });
    expect(await fetchMany(proxies, 'http://shop.test/', 18)).toEqual(Array(18).fill(200));
    expect(target.ips().sort()).toEqual(['127.0.7.1', '127.0.7.2', '127.0.7.3']);
    expect([target.overBudget(), target.worst()]).toEqual([0, 2]);
    expect((await proxies.stats()).pools.isp).toMatchObject({ type: 'static', egress: 'assumed' });
    await closeClean(proxies, { target });
    await Promise.all(gateways.map((gateway) => gateway.close()));
  });

  it.each([
    ['by the header on CONNECT', 'x-egress-ip', undefined],
    ['by a probe page', false, { probeUrl: 'http://ip.test/' }],
  ] as const)('that share an exit share its budget, once it is known %s', async (_, egressHeader, egress) => {
    await using target = await mockTarget({ budget: { limit: 2, windowMs: 200 } });
    await using ip = await mockTarget({ handler: (request) => ({ body: request.ip }) });
    const hosts = { 'shop.test': target.url, 'ip.test': ip.url };
    // Two ports of one provider, as lists often have them, and one exit behind both.
    await using one = await mockGateway({ exits: ['127.0.8.1'], egressHeader, hosts });
    await using two = await mockGateway({ exits: ['127.0.8.1'], egressHeader, hosts });
    const proxies = pacedManager({
      pools: {
        isp: {
          proxies: [one, two].map(({ rotatingUrl }) => rotatingUrl.replace('127.0.0.1', 'localhost')),
          ...(egress && { egress }),
        },
      },
      targets: shopBudget(2, 200),
    });
    expect(await fetchMany(proxies, 'http://shop.test/', 8)).toEqual(Array(8).fill(200));
    expect([target.overBudget(), target.ips()]).toEqual([0, ['127.0.8.1']]);
    await closeClean(proxies, { gateway: one, target });
  });

  it('goes on without one that is down, asking it again now and then', async () => {
    await using target = await mockTarget();
    await using up = await mockGateway({ host: '127.0.9.1', hosts: { 'shop.test': target.url } });
    const down = await mockGateway({ host: '127.0.9.2' });
    await down.close();
    const proxies = pacedManager({
      pools: { isp: { proxies: [down.rotatingUrl, up.rotatingUrl] } },
      retry: { attempts: 2 },
    });
    let failed = 0;
    proxies.on('settle', ({ outcome }) => (failed += outcome === 'gateway-error' ? 1 : 0));
    expect(await fetchMany(proxies, 'http://shop.test/', 20, 1)).toEqual(Array(20).fill(200));
    expect(failed).toBe(1);
    await closeClean(proxies, { gateway: up, target });
  });
});

describe('a gateway over https', () => {
  it.each(['http', 'https'])('with a certificate of its own carries %s targets', async (scheme) => {
    await using target = await mockTarget(scheme === 'https' ? { tls: cert } : {});
    await using gateway = await mockGateway({ exits: 3, tls: cert, hosts: { 'shop.test': target.url } });
    const proxies = pacedManager({
      pools: { res: { gateway: gateway.url, proxyTls: { ca: cert.ca } } },
      requestTls: { ca: cert.ca },
    });
    for (let i = 0; i < 3; i++) expect((await bodyOf(proxies, `${scheme}://shop.test/`)).status).toBe(200);
    expect(gateway.stats().connects).toBe(1);
    expect(gateway.exits).toContain(target.ips()[0]);
    await closeClean(proxies, { gateway, target });
  });

  it('is addressed by its name, the target by its own: neither takes the certificate of the other', async () => {
    await using target = await mockTarget();
    await using gateway = await mockGateway({ tls: cert, hosts: { 'shop.test': target.url } });
    const named = pacedManager({ gateway: gateway.url.replace('127.0.0.1', 'localhost'), proxyTls: { ca: cert.ca } });
    expect((await bodyOf(named, 'http://shop.test/')).status).toBe(200);
    await named.close();
    // The certificate is good for *.test, the gateway's name is not: the name of the target must not help.
    const other = pacedManager({
      gateway: gateway.url.replace('127.0.0.1', '127.0.0.2'),
      proxyTls: {
        ca: cert.ca,
        lookup: (_h: string, _o: object, done: (e: null, a: string, f: number) => void) => done(null, '127.0.0.1', 4),
      } as object,
      retry: { attempts: 1 },
    });
    await expect(other.fetch('http://shop.test/')).rejects.toMatchObject({ name: 'GatewayError' });
    await other.close();
  });

  it('with a certificate of an unknown authority is a GatewayError of kind protocol', async () => {
    await using gateway = await mockGateway({ tls: cert });
    const proxies = pacedManager({ gateway: gateway.url, retry: { attempts: 1 } });
    await expect(proxies.fetch('http://shop.test/')).rejects.toMatchObject({ kind: 'protocol', name: 'GatewayError' });
    expect(gateway.log).toEqual([]);
    await proxies.close();
  });
});

describe('a gateway over SOCKS5', () => {
  it.each(['http', 'https'])(
    'with user and password carries %s targets, whose names it resolves itself',
    async (scheme) => {
      await using target = await mockTarget(scheme === 'https' ? { tls: cert, http2: true } : {});
      // shop.test exists for the gateway only.
      await using gateway = await mockGateway({
        exits: 4,
        assign: 'round-robin',
        protocol: 'socks5',
        password: 'p@ss:w%rd/ö',
        hosts: { 'shop.test': target.url },
      });
      const proxies = pacedManager({ gateway: gateway.url, requestTls: { ca: cert.ca } });
      const sessions = [proxies.session(), proxies.session()];
      for (let i = 0; i < 2; i++) {
        for (const session of sessions) {
          const response = await session.fetch(`${scheme}://shop.test/`);
          await response.text();
          expect(response.headers.get('x-peer-ip')).toBe(gateway.exitOf(session.id));
        }
      }
      expect([gateway.stats().connects, target.ips().length]).toEqual([2, 2]);
      expect(gateway.log[0]).toMatchObject({ via: 'socks5', host: `shop.test:${scheme === 'https' ? 443 : 80}` });
      await closeClean(proxies, { gateway, target });
    },
  );

  it('needs no credentials when it asks for none', async () => {
    await using target = await mockTarget();
    await using gateway = await mockGateway({
      protocol: 'socks5',
      password: false,
      hosts: { 'shop.test': target.url },
    });
    const proxies = pacedManager({ pools: { isp: { proxies: [`socks5://127.0.0.1:${gateway.port}`] } } });
    expect((await bodyOf(proxies, 'http://shop.test/')).status).toBe(200);
    await closeClean(proxies, { gateway, target });
  });

  it('keeps the budget of each session', async () => {
    await using target = await mockTarget({ budget: { limit: 3, windowMs: 200 } });
    await using gateway = await mockGateway({
      exits: 20,
      assign: 'round-robin',
      protocol: 'socks5',
      hosts: { 'shop.test': target.url },
    });
    const proxies = pacedManager({
      pools: { res: { gateway: gateway.url, maxSessions: 3 } },
      targets: shopBudget(3, 200),
    });
    expect(await fetchMany(proxies, 'http://shop.test/', 24)).toEqual(Array(24).fill(200));
    expect(target.overBudget()).toBe(0);
    await closeClean(proxies, { gateway, target });
  });
});

/** Node 22 compares the address as it is written with the certificate's long form of it. */
const knowsIPv6Names =
  checkServerIdentity('::1', { subject: {}, subjectaltname: 'IP Address:0:0:0:0:0:0:0:1' } as never) === undefined;

describe.skipIf(!hasIPv6)('a target named by an IPv6 address', () => {
  const ways = [
    ['direct', 'http'],
    ['direct', 'https'],
    ['http', 'http'],
    ['http', 'https'],
    ['socks5', 'http'],
    ['socks5', 'https'],
  ] as const;
  const possible = ways.filter(([, scheme]) => scheme === 'http' || knowsIPv6Names);

  it.each(possible)('is reached through %s, over %s', async (way, scheme) => {
    await using target = await mockTarget({ host: '::1', ...(scheme === 'https' && { tls: cert }) });
    await using gateway = await mockGateway({ exits: 2, ...(way === 'socks5' && { protocol: 'socks5' }) });
    const proxies = pacedManager({
      ...(way !== 'direct' && { gateway: gateway.url }),
      requestTls: { ca: cert.ca },
    });
    expect(target.url).toContain('[::1]');
    expect(await bodyOf(proxies, `${target.url}/x`)).toMatchObject({ status: 200, ip: '::1' });
    if (way !== 'direct') expect(gateway.log[0]).toMatchObject({ host: `[::1]:${target.port}`, status: 200 });
    await closeClean(proxies, { gateway, target });
  });

  it('and a gateway named by one, too', async () => {
    await using target = await mockTarget();
    for (const protocol of ['http', 'socks5'] as const) {
      await using gateway = await mockGateway({ host: '::1', protocol, hosts: { 'shop.test': target.url } });
      const proxies = pacedManager({ gateway: gateway.url });
      expect((await bodyOf(proxies, 'http://shop.test/')).status).toBe(200);
      await closeClean(proxies, { gateway, target });
    }
  });
});

describe('TLS with the target', () => {
  it('is checked against the name in the URL, through any gateway', async () => {
    await using target = await mockTarget({ tls: cert });
    for (const protocol of ['http', 'socks5'] as const) {
      await using gateway = await mockGateway({
        protocol,
        hosts: { 'evil.example': target.url, 'shop.test': target.url },
      });
      const proxies = pacedManager({ gateway: gateway.url, requestTls: { ca: cert.ca }, retry: { attempts: 3 } });
      expect((await bodyOf(proxies, 'https://shop.test/')).status).toBe(200);
      const asked = gateway.log.length;
      const error = await proxies.fetch('https://evil.example/').catch((reason: unknown) => reason);
      expect(error).toMatchObject({ cause: { code: 'ERR_TLS_CERT_ALTNAME_INVALID' } });
      // Not the gateway's fault, and no better next time.
      expect(gateway.log.length - asked).toBe(1);
      await closeClean(proxies, { gateway, target });
    }
  });
});
