import { request as send } from 'node:http';
import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { ConfigError, systemClock } from 'paceline';
import { type Fault, type MockGateway, type MockTarget, mockGateway, mockTarget, virtualClock } from 'paceline/testing';
import { fetch, ProxyAgent } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { testCert } from '../support/certs.ts';
import { connectVia, readToEnd, sessionUrl } from '../support/proxy-client.ts';

const PAGE = 20_000;
let target: MockTarget;
beforeAll(async () => {
  target = await mockTarget({ bodyBytes: PAGE });
});
afterAll(() => target.close());

const gatewayFor = (options = {}): Promise<MockGateway> =>
  mockGateway({ hosts: { 'shop.test': target.url }, ...options });

/** What becomes of one CONNECT: its status, or the code of the error. */
async function outcome(gateway: MockGateway, session = 'a', place = 'shop.test:80'): Promise<number | string> {
  try {
    const { status, socket } = await connectVia(sessionUrl(gateway, session), place);
    socket.destroy();
    return status;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

/** What becomes of one absolute-form request. */
function forwarded(gateway: MockGateway): Promise<{ status: number; bytes: number; how: string }> {
  const { hostname, port, username, password } = new URL(sessionUrl(gateway, 'a'));
  const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  return new Promise((resolve) => {
    let [status, bytes] = [0, 0];
    const failed = (error: NodeJS.ErrnoException): void => resolve({ status, bytes, how: error.code ?? error.message });
    const sent = send({
      host: hostname,
      port,
      path: 'http://shop.test/',
      headers: { 'proxy-authorization': authorization },
    });
    sent.on('error', failed);
    sent.on('response', (response) => {
      status = response.statusCode!;
      response.on('data', (chunk: Buffer) => (bytes += chunk.length));
      response.on('error', failed);
      response.on('end', () => resolve({ status, bytes, how: 'end' }));
    });
    sent.end();
  });
}

/** A GET through a fresh tunnel: all that came, and how it ended. */
async function tunnelled(gateway: MockGateway): Promise<{ text: string; how: string }> {
  const { socket } = await connectVia(sessionUrl(gateway, 'a'), 'shop.test:80');
  socket.write('GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n');
  return readToEnd(socket);
}

describe('at connect', () => {
  it('status answers anything, with headers and body', async () => {
    await using gateway = await gatewayFor();
    for (const status of [302, 403, 407, 429, 502, 503, 522, 599]) {
      gateway.fault({ kind: 'status', status, headers: { 'x-error': 'CODE' }, body: 'out of traffic' });
      const refused = await connectVia(sessionUrl(gateway, 'a'), 'shop.test:80');
      expect([refused.status, refused.headers['x-error'], refused.body]).toEqual([status, 'CODE', 'out of traffic']);
      gateway.fault({ kind: 'status', status });
      expect(await forwarded(gateway)).toMatchObject({ status, how: 'end' });
    }
    expect(await outcome(gateway)).toBe(200);
    expect(gateway.log[0]).toMatchObject({ fault: 'status', status: 302 });
    expect(gateway.stats()).toMatchObject({ connects: 1, refused: 16 });
  });

  it.each<[Fault['kind'], string]>([
    ['fin', 'ECONNRESET'], // what node:http makes of a close without an answer
    ['rst', 'ECONNRESET'],
    ['garbage', 'HPE_INVALID_CONSTANT'],
  ])('%s ends the connection', async (kind, code) => {
    await using gateway = await gatewayFor();
    gateway.fault({ kind, times: 2 });
    expect(await outcome(gateway)).toBe(code);
    expect((await forwarded(gateway)).how).toBe(code);
    expect(gateway.log).toMatchObject([
      { fault: kind, status: 0 },
      { fault: kind, status: 0 },
    ]);
    expect(await outcome(gateway)).toBe(200);
    await expect.poll(() => gateway.stats().open).toBe(0);
  });

  it('tells fin from rst on the wire', async () => {
    await using gateway = await gatewayFor({ password: false });
    const raw = (): Promise<{ how: string }> => {
      const socket = connect(gateway.port, gateway.host);
      socket.write('CONNECT shop.test:80 HTTP/1.1\r\nhost: x\r\n\r\n');
      return readToEnd(socket);
    };
    gateway.fault({ kind: 'fin' });
    gateway.fault({ kind: 'rst' });
    expect([(await raw()).how, (await raw()).how]).toEqual(['end', 'ECONNRESET']);
  });

  it('silence never answers, and lets go of the client that gives up', async () => {
    await using gateway = await gatewayFor();
    for (const line of ['CONNECT shop.test:80 HTTP/1.1', 'GET http://shop.test/ HTTP/1.1']) {
      gateway.fault({ kind: 'silence' });
      const socket = connect(gateway.port, gateway.host);
      const heard: Buffer[] = [];
      socket.on('data', (chunk) => heard.push(chunk));
      const auth = Buffer.from('user:pass').toString('base64');
      socket.write(`${line}\r\nhost: shop.test\r\nproxy-authorization: Basic ${auth}\r\n\r\n`);
      await expect.poll(() => gateway.log.at(-1)?.fault).toBe('silence');
      expect(gateway.stats().open).toBe(1);
      // Everything else goes on meanwhile.
      expect(await outcome(gateway)).toBe(200);
      socket.end();
      await expect.poll(() => gateway.stats().open).toBe(0);
      expect(heard).toEqual([]);
    }
  });

  it('slow answers after its delay, and every fault can be delayed', async () => {
    const clock = virtualClock();
    await using gateway = await gatewayFor({ clock });
    for (const [fault, ms, expected] of [
      [{ kind: 'slow' }, 1_000, 200],
      [{ kind: 'slow', delayMs: 250 }, 250, 200],
      [{ kind: 'status', status: 429, delayMs: 40 }, 40, 429],
      [{ kind: 'rst', delayMs: 40 }, 40, 'ECONNRESET'],
    ] as const) {
      gateway.fault(fault);
      const pending = outcome(gateway);
      await expect.poll(() => clock.pending).toBe(1);
      clock.advanceSync(ms - 1);
      expect(clock.pending).toBe(1);
      clock.advanceSync(1);
      expect(await pending).toBe(expected);
    }
  });

  it('switch-exit moves the session behind its back', async () => {
    await using gateway = await gatewayFor({ exits: 2 });
    const egress = async (url: string) => {
      const { headers, socket } = await connectVia(url, 'shop.test:80');
      socket.destroy();
      return headers['x-egress-ip'];
    };
    const before = await egress(sessionUrl(gateway, 'a'));
    gateway.fault({ kind: 'switch-exit' });
    const after = await egress(sessionUrl(gateway, 'a'));
    expect(after).not.toBe(before);
    expect([await egress(sessionUrl(gateway, 'a')), gateway.exitOf('a')]).toEqual([after, after]);
    expect(gateway.log[1]).toMatchObject({ fault: 'switch-exit', exit: after, status: 200 });
    gateway.fault({ kind: 'switch-exit' });
    expect(await egress(gateway.rotatingUrl)).toMatch(/^127/);
  });
});

describe('in the midst of a response', () => {
  const head = (text: string): number => text.indexOf('\r\n\r\n') + 4;

  it.each([
    ['closes', { kind: 'drop', afterBytes: 5_000 }, 'end', 5_000],
    ['resets', { kind: 'drop', afterBytes: 5_000, reset: true }, 'ECONNRESET', 5_000],
    ['closes after one byte by default', { kind: 'drop' }, 'end', 1],
    ['resets', { kind: 'rst', at: 'body', afterBytes: 100 }, 'ECONNRESET', 100],
    ['closes', { kind: 'fin', at: 'body', afterBytes: 100 }, 'end', 100],
  ] as const)('%s a tunnel: %o', async (_what, fault, how, bytes) => {
    await using gateway = await gatewayFor();
    gateway.fault(fault);
    const cut = await tunnelled(gateway);
    expect([cut.text.length - head(cut.text), cut.how]).toEqual([bytes, how]);
    const whole = await tunnelled(gateway);
    expect([whole.text.length - head(whole.text), whole.how]).toEqual([PAGE, 'end']);
    await expect.poll(() => [gateway.stats().tunnels, gateway.stats().open]).toEqual([0, 0]);
  });

  it.each([
    ['closes', { kind: 'drop', afterBytes: 5_000 }, 5_000],
    ['resets', { kind: 'drop', afterBytes: 5_000, reset: true }, 5_000],
    ['resets', { kind: 'rst', at: 'body' }, 1],
  ] as const)('%s a forwarded response: %o', async (_what, fault, bytes) => {
    await using gateway = await gatewayFor();
    gateway.fault(fault);
    expect(await forwarded(gateway)).toEqual({ status: 200, bytes, how: 'ECONNRESET' });
    expect(await forwarded(gateway)).toEqual({ status: 200, bytes: PAGE, how: 'end' });
  });

  it.each<[Fault, string, string]>([
    [{ kind: 'rst', at: 'response' }, '', 'ECONNRESET'],
    [{ kind: 'fin', at: 'response' }, '', 'end'],
    [{ kind: 'drop', at: 'response' }, '', 'end'],
    [{ kind: 'garbage', at: 'response' }, '\x00\xff\x13\x37', 'end'],
  ])('strikes before its first byte: %o', async (fault, text, how) => {
    await using gateway = await gatewayFor();
    gateway.fault(fault);
    const cut = await tunnelled(gateway);
    expect([cut.text.slice(0, 4), cut.how]).toEqual([text, how]);
    gateway.fault(fault);
    expect(await forwarded(gateway)).toMatchObject({ status: 0, bytes: 0 });
    expect((await tunnelled(gateway)).text.length).toBeGreaterThan(PAGE);
  });

  it('silence swallows the rest', async () => {
    await using gateway = await gatewayFor();
    gateway.fault({ kind: 'silence', at: 'response' });
    const { socket } = await connectVia(sessionUrl(gateway, 'a'), 'shop.test:80');
    const heard: Buffer[] = [];
    socket.on('data', (chunk) => heard.push(chunk));
    const before = target.arrivals.length;
    socket.write('GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n');
    await target.arrived(before + 1);
    socket.write('GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n');
    await target.arrived(before + 2);
    expect([heard, gateway.stats().tunnels]).toEqual([[], 1]);
    socket.end();
    await expect.poll(() => gateway.stats().tunnels).toBe(0);
    expect(heard).toEqual([]);
  });

  it('silence swallows the end, too', async () => {
    await using gateway = await gatewayFor();
    gateway.fault({ kind: 'silence', at: 'body', afterBytes: 10 });
    const { socket } = await connectVia(sessionUrl(gateway, 'a'), 'shop.test:80');
    let ended = false;
    socket.on('end', () => (ended = true));
    let bytes = 0;
    socket.on('data', (chunk: Buffer) => (bytes += chunk.length));
    const before = target.arrivals.length;
    socket.write('GET / HTTP/1.0\r\nhost: shop.test\r\n\r\n');
    await target.arrived(before + 1);
    await expect.poll(() => target.connections).toBe(0);
    await expect.poll(() => bytes).toBeGreaterThan(10);
    // Whatever had been passed on would be here before the answer to another request is.
    expect(await outcome(gateway, 'b')).toBe(200);
    expect([ended, bytes < 1_000]).toEqual([false, true]);
    await expect.poll(() => gateway.stats().tunnels).toBe(1);
    socket.destroy();
    await expect.poll(() => gateway.stats().tunnels).toBe(0);
  });

  it('slow holds the response back, whole and in order', async () => {
    const clock = virtualClock();
    await using gateway = await gatewayFor({ clock });
    for (const [fault, run] of [
      [{ kind: 'slow', at: 'response' }, tunnelled],
      [{ kind: 'slow', at: 'body', afterBytes: 3_000 }, tunnelled],
    ] as const) {
      gateway.fault(fault);
      const pending = run(gateway);
      await expect.poll(() => clock.pending).toBe(1);
      clock.advanceSync(1_000);
      const { text } = await pending;
      expect(text.length - head(text)).toBe(PAGE);
    }
    for (const at of ['response', 'body'] as const) {
      gateway.fault({ kind: 'slow', at });
      const pending = forwarded(gateway);
      await expect.poll(() => clock.pending).toBe(1);
      clock.advanceSync(1_000);
      expect(await pending).toEqual({ status: 200, bytes: PAGE, how: 'end' });
    }
  });

  it('strikes a tunnel that is open already', async () => {
    await using gateway = await gatewayFor();
    const dispatcher = new ProxyAgent({ uri: sessionUrl(gateway, 'a'), proxyTunnel: true });
    const get = async (): Promise<number> =>
      (await (await fetch('http://shop.test/', { dispatcher })).arrayBuffer()).byteLength;
    expect(await get()).toBe(PAGE);
    gateway.fault({ kind: 'drop', reset: true });
    await expect(get()).rejects.toThrow('terminated');
    expect(await get()).toBe(PAGE);
    expect(gateway.stats().connects).toBe(2);
    await dispatcher.destroy();
  });

  it('cuts a TLS tunnel after so many bytes of it', async () => {
    const { ca, ...tls } = await testCert();
    await using secure = await mockTarget({ tls, bodyBytes: 200_000 });
    await using gateway = await gatewayFor({ hosts: { 'shop.test': secure.url } });
    gateway.fault({ kind: 'drop', afterBytes: 50_000, reset: true });
    const { socket } = await connectVia(sessionUrl(gateway, 'a'), 'shop.test:443');
    const inner = connectTls({ socket, servername: 'shop.test', ca });
    inner.write('GET / HTTP/1.0\r\nhost: shop.test\r\n\r\n');
    const { text } = await readToEnd(inner);
    expect(text).toContain('200 OK');
    expect(text.length).toBeLessThan(50_000);
    await expect.poll(() => secure.connections).toBe(0);
  });

  it('resets through a TLS gateway, too', async () => {
    const { ca, ...tls } = await testCert();
    await using gateway = await gatewayFor({ tls });
    gateway.fault({ kind: 'rst' });
    await expect(connectVia(sessionUrl(gateway, 'a'), 'shop.test:80', { ca })).rejects.toMatchObject({
      code: 'ECONNRESET',
    });
    gateway.fault({ kind: 'drop', reset: true });
    const { socket } = await connectVia(sessionUrl(gateway, 'a'), 'shop.test:80', { ca });
    socket.write('GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n');
    expect((await readToEnd(socket)).how).toBe('ECONNRESET');
    await expect.poll(() => gateway.stats().open).toBe(0);
  });
});

describe('matching', () => {
  it('strikes once by default, as often as told, or until removed', async () => {
    await using gateway = await gatewayFor();
    gateway.fault({ kind: 'status', status: 500 });
    gateway.fault({ kind: 'status', status: 501, times: 2 });
    const remove = gateway.fault({ kind: 'status', status: 503, times: Number.POSITIVE_INFINITY });
    const seen: (number | string)[] = [];
    for (let i = 0; i < 5; i++) seen.push(await outcome(gateway));
    expect(seen).toEqual([500, 501, 501, 503, 503]);
    remove();
    remove();
    expect(await outcome(gateway)).toBe(200);
  });

  it('looks at the session, the exit and the target', async () => {
    await using gateway = await gatewayFor({ exits: 2, assign: 'round-robin' });
    const twice = { kind: 'status', times: 9 } as const;
    gateway.fault({ ...twice, status: 501, session: 'b' });
    gateway.fault({ ...twice, status: 502, exit: '127.0.1.1', target: 'other.test' });
    gateway.fault({ ...twice, status: 503, target: 'shop.test:8080' });
    expect(await outcome(gateway, 'a')).toBe(200);
    expect(await outcome(gateway, 'b')).toBe(501);
    expect([gateway.exitOf('a'), gateway.exitOf('b')]).toEqual(['127.0.1.1', '127.0.1.2']);
    expect(await outcome(gateway, 'a', 'other.test:80')).toBe(502);
    expect(await outcome(gateway, 'a', 'shop.test:8080')).toBe(503);
    expect(await outcome(gateway, 'c', 'other.test:80')).toBe(502);
    expect(await outcome(gateway, 'd', 'other.test:80')).toBe(403);
  });

  it('strikes with its probability, the same way for the same seed', async () => {
    const run = async (seed: number): Promise<string> => {
      await using gateway = await gatewayFor({ seed });
      gateway.fault({ kind: 'status', status: 503, probability: 0.5 });
      const seen: (number | string)[] = [];
      for (let i = 0; i < 20; i++) seen.push(await outcome(gateway));
      expect(new Set(seen)).toEqual(new Set([200, 503]));
      return seen.join();
    };
    const first = await run(1);
    expect(await run(1)).toBe(first);
    expect(await run(2)).not.toBe(first);
  });

  it('applies to socks5 gateways as well', async () => {
    await using gateway = await gatewayFor({ protocol: 'socks5', password: false });
    const ask = async (): Promise<{ text: string; how: string }> => {
      const socket = connect(gateway.port, gateway.host);
      socket.write(Uint8Array.of(5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, target.port >> 8, target.port & 255));
      return readToEnd(socket);
    };
    gateway.fault({ kind: 'fin' });
    gateway.fault({ kind: 'rst' });
    gateway.fault({ kind: 'garbage' });
    expect(await ask()).toEqual({ text: '\x05\x00', how: 'end' });
    expect(await ask()).toEqual({ text: '\x05\x00', how: 'ECONNRESET' });
    expect((await ask()).text.slice(0, 6)).toBe('\x05\x00\x00\xff\x13\x37');
    await expect.poll(() => gateway.stats().open).toBe(0);
  });

  it.each<[string, object]>([
    ['fault.kind', { kind: 'flood' }],
    ['fault.at', { kind: 'rst', at: 'never' }],
    ['fault.at', { kind: 'status', at: 'response' }],
    ['fault.at', { kind: 'switch-exit', at: 'body' }],
    ['fault.at', { kind: 'drop', at: 'connect' }],
    ['fault.times', { kind: 'rst', times: 0 }],
    ['fault.probability', { kind: 'rst', probability: 1.1 }],
    ['fault.status', { kind: 'status', status: 200 }],
    ['fault.delayMs', { kind: 'slow', delayMs: -1 }],
    ['fault.afterBytes', { kind: 'drop', afterBytes: Number.NaN }],
  ])('refuses a bad %s: %o', async (option, fault) => {
    await using gateway = await gatewayFor({ clock: systemClock });
    expect(() => gateway.fault(fault as Fault)).toThrow(ConfigError);
    expect(() => gateway.fault(fault as Fault)).toThrow(option);
  });
});
