import { connect, type Socket } from 'node:net';
import { type MockGateway, type MockTarget, mockGateway, mockTarget } from 'paceline/testing';
import { fetch, Socks5ProxyAgent } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { testCert } from '../support/certs.ts';
import { readToEnd, sessionUrl } from '../support/proxy-client.ts';

let target: MockTarget;
beforeAll(async () => {
  target = await mockTarget();
});
afterAll(() => target.close());

const gatewayFor = (options = {}): Promise<MockGateway> =>
  mockGateway({ protocol: 'socks5', hosts: { 'shop.test': target.url }, ...options });

/** The next `bytes` bytes as numbers; fewer when the other end closes. */
function take(socket: Socket, bytes: number): Promise<number[]> {
  return new Promise((resolve) => {
    const attempt = (): void => {
      const chunk: Buffer | null = socket.readableLength >= bytes || socket.readableEnded ? socket.read(bytes) : null;
      if (chunk !== null) resolve([...chunk]);
      else socket.once('readable', attempt);
    };
    socket.once('end', () => resolve([]));
    attempt();
  });
}

const text = (value: string): number[] => [value.length, ...Buffer.from(value)];

/** A client at the point where it says where to. */
async function greeted(gateway: MockGateway, user = 'user-session-a'): Promise<Socket> {
  const socket = connect(gateway.port, gateway.host);
  socket.on('error', () => {});
  socket.write(Uint8Array.of(5, 2, 0, 2));
  expect(await take(socket, 2)).toEqual([5, 2]);
  socket.write(Uint8Array.of(1, ...text(user), ...text('pass')));
  expect(await take(socket, 2)).toEqual([1, 0]);
  return socket;
}

const V4 = [1, 127, 0, 0, 1];
const MAPPED = [4, ...Array(10).fill(0), 0xff, 0xff, 127, 0, 0, 1];
const V6 = [4, ...Array(15).fill(0), 1];

async function replyTo(gateway: MockGateway, address: readonly number[], port: number, command = 1): Promise<number[]> {
  const socket = await greeted(gateway);
  socket.write(Uint8Array.of(5, command, 0, ...address, port >> 8, port & 255));
  const reply = await take(socket, 10);
  socket.destroy();
  return reply;
}

describe('a socks5 gateway', () => {
  it('serves undici, http and https, by session', async () => {
    const { ca, ...tls } = await testCert();
    await using secure = await mockTarget({ tls });
    await using gateway = await gatewayFor({ hosts: { 'shop.test:80': target.url, 'shop.test:443': secure.url } });
    expect(gateway.url).toBe(`socks5://user-session-{session}:pass@127.0.0.1:${gateway.port}`);
    for (const url of ['http://shop.test/', 'https://shop.test/']) {
      for (const session of ['a', 'b']) {
        const dispatcher = new Socks5ProxyAgent(sessionUrl(gateway, session), { requestTls: { ca } });
        const response = await fetch(url, { dispatcher });
        expect([response.status, response.headers.get('x-peer-ip')]).toEqual([200, gateway.exitOf(session)]);
        await response.arrayBuffer();
        await dispatcher.destroy();
      }
    }
    expect(gateway.log[0]).toMatchObject({ via: 'socks5', session: 'a', host: 'shop.test:80', status: 200 });
    expect(gateway.stats()).toMatchObject({ connects: 4, refused: 0 });
  });

  it('takes addresses of every type, and tells where it leaves from', async () => {
    await using gateway = await gatewayFor({ exits: ['127.0.9.5'] });
    const ok = [5, 0, 0, 1, 127, 0, 9, 5];
    for (const address of [V4, MAPPED, [3, ...text('127.0.0.1')]]) {
      expect((await replyTo(gateway, address, target.port)).slice(0, 8)).toEqual(ok);
    }
    expect((await replyTo(gateway, [3, ...text('shop.test')], 80)).slice(0, 8)).toEqual(ok);
    expect(gateway.log.map(({ host }) => host.split(':')[0])).toEqual([
      '127.0.0.1',
      '127.0.0.1',
      '127.0.0.1',
      'shop.test',
    ]);
  });

  it('reaches IPv6 loopback', async (context) => {
    const v6 = await mockTarget({ host: '::1' }).catch(() => undefined);
    if (v6 === undefined) return context.skip('no IPv6 here');
    await using listening = v6;
    await using gateway = await gatewayFor();
    expect((await replyTo(gateway, V6, listening.port))[1]).toBe(0);
    expect(gateway.log[0].host).toBe(`[::1]:${listening.port}`);
  });

  it('words its refusals in reply codes', async () => {
    await using gateway = await gatewayFor();
    const code = async (...how: Parameters<typeof replyTo>): Promise<number> => (await replyTo(...how))[1];
    expect(await code(gateway, [3, ...text('example.com')], 80)).toBe(2);
    expect(await code(gateway, V4, 1)).toBe(5);
    expect(await code(gateway, V4, target.port, 2)).toBe(7);
    expect(await code(gateway, [9, 0, 0, 0, 0], 80)).toBe(8);
    for (const [status, expected] of [
      [403, 2],
      [407, 2],
      [429, 1],
      [404, 4],
      [502, 5],
      [503, 1],
      [504, 6],
    ]) {
      gateway.fault({ kind: 'status', status });
      expect([status, await code(gateway, V4, target.port)]).toEqual([status, expected]);
    }
    expect(gateway.log.at(-1)).toMatchObject({ status: 504, fault: 'status' });
  });

  it.each([
    ['wrong password', [5, 1, 2], [1, ...text('user'), ...text('wrong')], [5, 2, 1, 1]],
    ['wrong user', [5, 1, 2], [1, ...text('nobody'), ...text('pass')], [5, 2, 1, 1]],
    ['no common method', [5, 1, 0], [], [5, 0xff]],
    ['another version', [4, 1, 0], [], []],
    ['nothing', [], [], []],
  ])('turns away: %s', async (_name, hello, auth, answer) => {
    await using gateway = await gatewayFor();
    const socket = connect(gateway.port, gateway.host);
    socket.end(Uint8Array.from([...hello, ...auth]));
    expect([...Buffer.from((await readToEnd(socket)).text, 'latin1')]).toEqual(answer);
    await expect.poll(() => gateway.stats().open).toBe(0);
    expect(gateway.stats().connects).toBe(0);
  });

  it('lets everybody in with password: false', async () => {
    await using gateway = await gatewayFor({ password: false });
    const socket = connect(gateway.port, gateway.host);
    socket.write(Uint8Array.of(5, 1, 0));
    expect(await take(socket, 2)).toEqual([5, 0]);
    socket.write(Uint8Array.of(5, 1, 0, ...V4, target.port >> 8, target.port & 255));
    expect((await take(socket, 10))[1]).toBe(0);
    socket.end('GET / HTTP/1.0\r\n\r\n');
    expect((await readToEnd(socket)).text).toContain('200 OK');
    await (await greeted(gateway, 'whoever-session-q')).destroy();
  });

  it('reads a handshake that comes byte by byte, with the request right behind it', async () => {
    await using gateway = await gatewayFor();
    const socket = connect(gateway.port, gateway.host);
    socket.setNoDelay(true);
    const bytes = [5, 1, 2, 1, ...text('user'), ...text('pass'), 5, 1, 0, 3, ...text('shop.test'), 0, 80];
    for (const byte of bytes) await new Promise((resolve) => socket.write(Uint8Array.of(byte), resolve));
    socket.write('GET /early HTTP/1.0\r\n\r\n');
    expect((await readToEnd(socket)).text).toContain('200 OK');
    expect(target.arrivals.at(-1)?.path).toBe('/early');
  });
});
