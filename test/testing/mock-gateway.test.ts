import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { ConfigError } from 'paceline';
import { type MockGatewayOptions, type MockTarget, mockGateway, mockTarget, virtualClock } from 'paceline/testing';
import { fetch, ProxyAgent } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { testCert } from '../support/certs.ts';
import { connectVia, nextChunk, readToEnd, sessionUrl } from '../support/proxy-client.ts';

let target: MockTarget;
beforeAll(async () => {
  target = await mockTarget();
});
afterAll(() => target.close());

/** One GET through a fresh tunnel; the egress IP that the target saw. */
async function egress(proxy: string, url = 'http://shop.test/'): Promise<string | null> {
  const dispatcher = new ProxyAgent({ uri: proxy, proxyTunnel: true });
  try {
    const response = await fetch(url, { dispatcher });
    await response.arrayBuffer();
    return response.headers.get('x-peer-ip');
  } finally {
    await dispatcher.destroy();
  }
}

const gatewayFor = (options: MockGatewayOptions = {}) =>
  mockGateway({ hosts: { 'shop.test': target.url }, ...options });

describe('tunnels', () => {
  it('leave from the exit that the CONNECT response names', async () => {
    await using gateway = await gatewayFor({ exits: ['127.0.9.1'] });
    const { status, headers, socket } = await connectVia(sessionUrl(gateway, 'a'), 'shop.test:80');
    expect([status, headers['x-egress-ip']]).toEqual([200, '127.0.9.1']);
    socket.end('GET /page HTTP/1.0\r\nhost: shop.test\r\n\r\n');
    const { text } = await readToEnd(socket);
    expect(text).toContain('x-peer-ip: 127.0.9.1');
    expect(target.arrivals.at(-1)).toMatchObject({ ip: '127.0.9.1', path: '/page', host: 'shop.test' });
    expect(gateway.log).toMatchObject([
      { via: 'connect', session: 'a', exit: '127.0.9.1', host: 'shop.test:80', status: 200 },
    ]);
  });

  it('carry megabytes both ways, unharmed', async () => {
    await using echo = await mockTarget({ handler: ({ body }) => ({ body }) });
    await using gateway = await mockGateway();
    const dispatcher = new ProxyAgent({ uri: gateway.rotatingUrl, proxyTunnel: true });
    const sent = Buffer.alloc(8_000_000, 'paceline!');
    const response = await fetch(echo.url, { dispatcher, method: 'POST', body: sent });
    expect(sent.equals(await response.bytes())).toBe(true);
    await dispatcher.destroy();
    const { bytesIn, bytesOut } = gateway.stats();
    expect(bytesIn).toBeGreaterThan(8_000_000);
    expect(bytesOut).toBeGreaterThan(8_000_000);
  });

  it('hold the sender back while the reader rests', async () => {
    const page = 48_000_000;
    await using big = await mockTarget({ bodyBytes: page });
    await using gateway = await mockGateway();
    const { socket } = await connectVia(gateway.rotatingUrl, big.url.slice('http://'.length));
    socket.pause();
    socket.write('GET / HTTP/1.0\r\n\r\n');
    // What is queued counts as sent: it grows until the buffers between are full, and not on to the whole page.
    let sent = -1;
    await expect.poll(() => sent === (sent = gateway.stats().bytesOut) && sent > 100_000, { interval: 100 }).toBe(true);
    expect(sent).toBeLessThan(page / 2);
    let read = 0;
    socket.on('data', (chunk: Buffer) => (read += chunk.length));
    socket.resume();
    await new Promise((resolve) => socket.on('end', resolve));
    expect(read).toBeGreaterThan(page);
  });

  it('count the very bytes that the client counts', async () => {
    await using gateway = await gatewayFor();
    const { socket } = await connectVia(gateway.rotatingUrl, 'shop.test:80');
    socket.end('GET / HTTP/1.0\r\n\r\n');
    await readToEnd(socket);
    const { bytesIn, bytesOut } = gateway.stats();
    expect([bytesIn, bytesOut]).toEqual([socket.bytesWritten, socket.bytesRead]);
  });

  it('relay what comes right behind the CONNECT', async () => {
    await using gateway = await gatewayFor({ password: false, connectDelayMs: 5 });
    const socket = connect(gateway.port, gateway.host);
    socket.write('CONNECT shop.test:80 HTTP/1.1\r\nhost: shop.test\r\n\r\nGET /early HTTP/1.0\r\n\r\n');
    const { text } = await readToEnd(socket);
    expect(text).toMatch(/^HTTP\/1.1 200 Connection established\r\n[\s\S]+200 OK/);
    expect(target.arrivals.at(-1)?.path).toBe('/early');
  });

  it('end on both sides when one end breaks', async () => {
    await using slow = await mockTarget({ latencyMs: 3_600_000 });
    await using gateway = await mockGateway();
    const { socket } = await connectVia(gateway.rotatingUrl, slow.url.slice('http://'.length));
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
    await slow.arrived(1);
    expect([gateway.stats().tunnels, slow.connections]).toEqual([1, 1]);
    socket.resetAndDestroy();
    await expect.poll(() => [gateway.stats().tunnels, gateway.stats().open, slow.connections]).toEqual([0, 0, 0]);
  });

  it('pass on the reset of a target', async () => {
    await using rude = await mockTarget({ handler: () => ({ reset: true }) });
    await using gateway = await mockGateway();
    const { socket } = await connectVia(gateway.rotatingUrl, rude.url.slice('http://'.length));
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
    expect((await readToEnd(socket)).how).toBe('ECONNRESET');
  });

  it('are refused with 502 when nobody listens', async () => {
    // An address of its own, where nobody else can take the port meanwhile.
    const gone = await mockTarget({ host: '127.0.77.1' });
    await gone.close();
    await using gateway = await mockGateway();
    const { status, body } = await connectVia(gateway.rotatingUrl, `127.0.77.1:${gone.port}`);
    expect([status, body]).toEqual([502, expect.stringContaining('no connection')]);
    expect(gateway.stats()).toMatchObject({ connects: 0, refused: 1 });
  });

  it('are cut by closeTunnels, one session or all', async () => {
    await using gateway = await gatewayFor();
    const open = async (session: string) => (await connectVia(sessionUrl(gateway, session), 'shop.test:80')).socket;
    const [a, b, c] = [await open('a'), await open('b'), await open('c')];
    gateway.closeTunnels('a');
    await readToEnd(a);
    await expect.poll(() => gateway.stats().tunnels).toBe(2);
    gateway.closeTunnels();
    await Promise.all([readToEnd(b), readToEnd(c)]);
    await expect.poll(() => gateway.stats().tunnels).toBe(0);
  });
});

describe('destinations', () => {
  it('stay on this machine', async () => {
    await using gateway = await gatewayFor({ hosts: {} });
    for (const place of [
      'example.com:443',
      '10.0.0.1:80',
      '0.0.0.0:80',
      '[::]:80',
      '127.1:80',
      '[2001:db8::1]:80',
      'localhost.com:80',
    ]) {
      const { status, body } = await connectVia(gateway.rotatingUrl, place);
      expect([place, status, body]).toEqual([place, 403, expect.stringContaining('neither mapped nor loopback')]);
    }
    for (const place of ['nonsense', 'shop.test:0', 'shop.test:70000', 'user@shop.test:80']) {
      expect([place, (await connectVia(gateway.rotatingUrl, place)).status]).toEqual([place, 400]);
    }
  });

  it('are found by name, by name and port, and by wildcard', async () => {
    await using other = await mockTarget();
    const port = target.port;
    await using gateway = await mockGateway({
      hosts: {
        'shop.test': target.url,
        'SHOP.test:8080': other.url,
        '*.shop.test': { host: '127.0.0.1', port },
        'port.test': '127.0.0.1',
        'both.test': `127.0.0.1:${port}`,
      },
    });
    const seen = async (url: string): Promise<MockTarget | undefined> => {
      await egress(gateway.rotatingUrl, url);
      const host = new URL(url).host;
      return [target, other].find((each) => each.arrivals.at(-1)?.host === host);
    };
    expect(await seen('http://shop.test/')).toBe(target);
    expect(await seen('http://Shop.test:8080/')).toBe(other);
    expect(await seen('http://a.b.shop.test/')).toBe(target);
    expect(await seen('http://both.test/')).toBe(target);
    expect(await seen(`http://port.test:${port}/`)).toBe(target);
    expect(await seen(`http://localhost:${port}/`)).toBe(target);
    expect(await seen(`http://app.localhost:${port}/`)).toBe(target);
    expect(await seen(`http://[::ffff:127.0.0.1]:${port}/`)).toBe(target);
  });
});

describe('credentials', () => {
  it('must be right', async () => {
    await using gateway = await gatewayFor({ username: 'acme', password: 'p@ss:word' });
    expect(gateway.url).toBe(`http://acme-session-{session}:p%40ss%3Aword@127.0.0.1:${gateway.port}`);
    expect((await connectVia(sessionUrl(gateway, 'a'), 'shop.test:80')).status).toBe(200);
    expect((await connectVia(gateway.rotatingUrl, 'shop.test:80')).status).toBe(200);
    const at = `127.0.0.1:${gateway.port}`;
    for (const wrong of ['acme:wrong@', 'acme2:p%40ss%3Aword@', 'other-session-a:p%40ss%3Aword@', '']) {
      const { status, headers } = await connectVia(`http://${wrong}${at}`, 'shop.test:80');
      expect([wrong, status, headers['proxy-authenticate']]).toEqual([wrong, 407, 'Basic realm="mock gateway"']);
    }
    expect(gateway.stats()).toMatchObject({ connects: 2, refused: 4 });
    expect(gateway.log.at(-1)).toMatchObject({ status: 407, exit: '', host: 'shop.test:80' });
  });

  it('carry a session and whatever else', async () => {
    await using gateway = await gatewayFor();
    const url = (user: string) => `http://${user}:pass@127.0.0.1:${gateway.port}`;
    await connectVia(url('user-country-us-session-abc123-city'), 'shop.test:80');
    expect(gateway.log[0]).toMatchObject({ session: 'abc123', params: { country: 'us', city: '' } });
    expect(gateway.exitOf('abc123')).toBe(gateway.log[0].exit);
  });

  it('are not asked for with password: false, but heard', async () => {
    await using gateway = await gatewayFor({ password: false });
    expect(gateway.url).toBe(`http://user-session-{session}@127.0.0.1:${gateway.port}`);
    expect((await connectVia(`http://127.0.0.1:${gateway.port}`, 'shop.test:80')).status).toBe(200);
    await connectVia(sessionUrl(gateway, 'a'), 'shop.test:80');
    await connectVia(`http://whoever-session-b:x@127.0.0.1:${gateway.port}`, 'shop.test:80');
    expect(gateway.log.map(({ session }) => session)).toEqual([undefined, 'a', 'b']);
  });

  it("follow a provider's own syntax with authenticate, which may throw", async () => {
    await using gateway = await gatewayFor({
      authenticate: (user, password) => {
        const session = /_session-(\w+)/.exec(password)![1];
        return user === 'acme' ? { session, params: {} } : undefined;
      },
    });
    const via = (auth: string) => connectVia(`http://${auth}@127.0.0.1:${gateway.port}`, 'shop.test:80');
    expect((await via('acme:key_session-abc')).status).toBe(200);
    expect((await via('acme:key')).status).toBe(407);
    expect((await via('other:key_session-abc')).status).toBe(407);
    expect(gateway.log[0].session).toBe('abc');
  });
});

describe('rotation', () => {
  it('holds the exit of a session, and gives every connection without one another', async () => {
    await using gateway = await gatewayFor({ exits: 4, assign: 'round-robin' });
    const sticky = sessionUrl(gateway, 's');
    expect([await egress(sticky), await egress(sticky), await egress(sticky)]).toEqual(Array(3).fill('127.0.1.1'));
    const rotating: (string | null)[] = [];
    for (let i = 0; i < 4; i++) rotating.push(await egress(gateway.rotatingUrl));
    expect(rotating).toEqual(['127.0.1.2', '127.0.1.3', '127.0.1.4', '127.0.1.1']);
    expect(await egress(sticky)).toBe('127.0.1.1');
    expect(gateway.stats()).toMatchObject({
      connections: 8,
      connects: 8,
      perExit: { '127.0.1.1': 5, '127.0.1.2': 1, '127.0.1.3': 1, '127.0.1.4': 1 },
      sessions: { s: '127.0.1.1' },
    });
  });

  it.each(['per-connection', 'per-request'] as const)('%s pays no heed to sessions', async (rotation) => {
    await using gateway = await gatewayFor({ exits: 3, assign: 'round-robin', rotation });
    const url = sessionUrl(gateway, 's');
    expect([await egress(url), await egress(url), await egress(url)]).toEqual(['127.0.1.1', '127.0.1.2', '127.0.1.3']);
    expect(gateway.exitOf('s')).toBeUndefined();
  });

  it('draws exits the same way for the same seed', async () => {
    const draws = async (options: MockGatewayOptions): Promise<string> => {
      await using gateway = await gatewayFor({ exits: 100, ...options });
      const drawn: string[] = [];
      for (let i = 0; i < 8; i++) drawn.push(gateway.rotate(`s${i}`));
      return drawn.join();
    };
    expect(await draws({ seed: 5 })).toBe(await draws({ seed: 5 }));
    expect(await draws({ seed: 5 })).not.toBe(await draws({ seed: 6 }));
    expect(await draws({ seed: 5, assign: 'hash' })).toBe(await draws({ seed: 6, assign: 'hash' }));
  });

  it('moves a session when its time is over, or when told to', async () => {
    const clock = virtualClock();
    for (const assign of ['random', 'round-robin', 'hash'] as const) {
      await using gateway = await gatewayFor({ exits: 2, assign, sessionTtlMs: 60_000, clock });
      const url = sessionUrl(gateway, 's');
      const first = await egress(url);
      clock.advanceSync(59_999);
      expect([await egress(url), gateway.exitOf('s')]).toEqual([first, first]);
      clock.advanceSync(1);
      expect([gateway.exitOf('s'), gateway.stats().sessions]).toEqual([undefined, {}]);
      const second = await egress(url);
      expect(second).not.toBe(first);
      expect(gateway.rotate('s')).toBe(first);
      expect([gateway.exitOf('s'), await egress(url)]).toEqual([first, first]);
    }
  });

  it('numbers thousands of exits past .254 and past the third octet', async () => {
    await using gateway = await gatewayFor({ exits: 70_000 });
    const { exits } = gateway;
    expect([exits[0], exits[253], exits[254], exits[255 * 254]]).toEqual([
      '127.0.1.1',
      '127.0.1.254',
      '127.0.2.1',
      '127.1.0.1',
    ]);
    expect(new Set(exits).size).toBe(70_000);
    expect(exits.filter((ip) => /\.(0|255)$/.test(ip))).toEqual([]);
  });
});

describe('options', () => {
  it('name the egress header otherwise, or not at all', async () => {
    await using named = await gatewayFor({ egressHeader: 'x-brd-ip' });
    await using silent = await gatewayFor({ egressHeader: false });
    const seen = (await connectVia(named.rotatingUrl, 'shop.test:80')).headers;
    expect(seen['x-brd-ip']).toMatch(/^127\.0\.1\./);
    expect((await connectVia(silent.rotatingUrl, 'shop.test:80')).headers).toEqual({});
  });

  it('delay the dial and the first bytes, on the given clock', async () => {
    const clock = virtualClock();
    await using gateway = await gatewayFor({ connectDelayMs: [100, 200], latencyMs: 50, clock });
    const pending = connectVia(gateway.rotatingUrl, 'shop.test:80');
    await expect.poll(() => clock.pending).toBe(1);
    clock.advanceSync(99);
    expect([clock.pending, gateway.stats().connects]).toEqual([1, 0]);
    clock.advanceSync(101);
    const { socket } = await pending;

    const before = target.arrivals.length;
    socket.write('GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n');
    await expect.poll(() => clock.pending).toBe(1);
    expect(target.arrivals.length).toBe(before);
    clock.advanceSync(50);
    await target.arrived(before + 1);
    await expect.poll(() => clock.pending).toBe(1);
    const answer = nextChunk(socket);
    clock.advanceSync(50);
    expect(await answer).toContain('200 OK');

    // Only the first bytes wait.
    socket.write('GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n');
    expect(await nextChunk(socket)).toContain('200 OK');
  });

  it('leave no timer behind for a client that gives up', async () => {
    const clock = virtualClock();
    await using gateway = await gatewayFor({ connectDelayMs: 60_000, clock });
    const dispatcher = new ProxyAgent({ uri: gateway.rotatingUrl, proxyTunnel: true });
    const pending = fetch('http://shop.test/', { dispatcher }).catch((error: Error) => error.message);
    await expect.poll(() => clock.pending).toBe(1);
    await dispatcher.destroy();
    expect(await pending).toBe('fetch failed');
    await expect.poll(() => [clock.pending, gateway.stats().open]).toEqual([0, 0]);
  });

  it('make the way to the gateway https', async () => {
    const { ca, ...tls } = await testCert();
    await using secure = await mockTarget({ tls });
    await using gateway = await gatewayFor({ tls, hosts: { 'shop.test': secure.url } });
    expect(gateway.url).toMatch(/^https:/);

    const dispatcher = new ProxyAgent({
      uri: sessionUrl(gateway, 'a'),
      proxyTls: { ca, servername: 'localhost' },
      requestTls: { ca },
    });
    const response = await fetch('https://shop.test/', { dispatcher });
    expect([response.status, response.headers.get('x-peer-ip')]).toEqual([200, gateway.exitOf('a')]);
    await response.arrayBuffer();
    await dispatcher.destroy();

    // Half-close works through TLS, and the bytes are those on the wire.
    const before = gateway.stats();
    const { socket, headers } = await connectVia(sessionUrl(gateway, 'a'), `127.0.0.1:${target.port}`, { ca });
    expect(headers['x-egress-ip']).toBe(gateway.exitOf('a'));
    socket.end('GET / HTTP/1.0\r\n\r\n');
    expect((await readToEnd(socket)).text).toContain('200 OK');
    const after = gateway.stats();
    expect(after.bytesIn - before.bytesIn).toBeGreaterThan(socket.bytesWritten);
    expect(after.bytesOut - before.bytesOut).toBeGreaterThan(socket.bytesRead);
    await expect.poll(() => gateway.stats().open).toBe(0);
  });

  it('carry TLS to the target, end to end', async () => {
    const { ca, ...tls } = await testCert();
    await using secure = await mockTarget({ tls, http2: true });
    await using gateway = await gatewayFor({ hosts: { 'shop.test': secure.url } });
    const { socket } = await connectVia(gateway.rotatingUrl, 'shop.test:443');
    const inner = connectTls({ socket, servername: 'shop.test', ca });
    inner.end('GET / HTTP/1.0\r\nhost: shop.test\r\n\r\n');
    expect((await readToEnd(inner)).text).toContain('200 OK');
  });

  it.each([
    ['exits', { exits: 0 }],
    ['exits', { exits: 1.5 }],
    ['exits', { exits: [] }],
    ['exits[1]', { exits: ['127.0.1.1', '10.0.0.1'] }],
    ['protocol', { protocol: 'ftp' }],
    ['rotation', { rotation: 'never' }],
    ['assign', { assign: 'best' }],
    ['sessionTtlMs', { sessionTtlMs: 0 }],
    ['connectDelayMs', { connectDelayMs: [1] }],
    ['latencyMs[0]', { latencyMs: [-1, 1] }],
    ['host', { host: '192.168.0.1' }],
    ["hosts['a.test']", { hosts: { 'a.test': '93.184.215.14:80' } }],
    ["hosts['a.test']", { hosts: { 'a.test': { host: '127.0.0.1', port: 0 } } }],
    ['tls', { protocol: 'socks5', tls: { key: '', cert: '' } }],
  ])('refuse a bad %s', async (option, options) => {
    const refused = mockGateway(options as MockGatewayOptions);
    await expect(refused).rejects.toThrow(ConfigError);
    await expect(refused).rejects.toMatchObject({ option });
  });
});

describe('what is not HTTP', () => {
  it('does the gateway no harm', async () => {
    await using gateway = await gatewayFor();
    const send = async (text: string): Promise<void> => {
      const socket = connect(gateway.port, gateway.host);
      const over = readToEnd(socket);
      socket.end(text);
      await over;
    };
    await send('\x05\x01\x00');
    await send('CONNECT \r\n\r\n');
    await send('CONNECT shop.test:80 HTTP/1.1\r\nproxy-authorization: Basic !!!\r\n\r\n');
    await send('GET /origin-form HTTP/1.1\r\nhost: x\r\n\r\n');
    await send('GET http:// HTTP/1.1\r\nhost: x\r\n\r\n');
    expect(await egress(gateway.rotatingUrl)).toMatch(/^127\.0\.1\./);
  });
});
