import { connect as connectH2 } from 'node:http2';
import { connect } from 'node:net';
import { ConfigError } from 'paceline';
import { mockTarget } from 'paceline/testing';
import { Agent, fetch, request } from 'undici';
import { afterEach, describe, expect, it } from 'vitest';
import { testCert } from '../support/certs.ts';

const agents: Agent[] = [];
function agent(options: Agent.Options = {}): Agent {
  const made = new Agent(options);
  agents.push(made);
  return made;
}
afterEach(async () => {
  await Promise.all(agents.splice(0).map((each) => each.destroy()));
});

async function status(url: string, options: Agent.Options = {}): Promise<number> {
  const { statusCode, body } = await request(url, { dispatcher: agent(options) });
  await body.dump();
  return statusCode;
}

describe('mockTarget', () => {
  it('answers a page and logs who asked for it', async () => {
    await using target = await mockTarget({ bodyBytes: 5_000 });
    const before = performance.now();
    const response = await fetch(`${target.url}/a?b=1`, {
      dispatcher: agent({ localAddress: '127.0.3.4' }),
      headers: { host: 'shop.test' },
    });
    expect(response.status).toBe(200);
    expect((await response.bytes()).length).toBe(5_000);
    expect(response.headers.get('x-peer-ip')).toBe('127.0.3.4');
    expect(target.arrivals).toMatchObject([{ ip: '127.0.3.4', method: 'GET', path: '/a?b=1', status: 200 }]);
    expect(target.arrivals[0].at).toBeGreaterThanOrEqual(before);
    expect(target.arrivals[0].at).toBeLessThanOrEqual(performance.now());
    expect(target.ips()).toEqual(['127.0.3.4']);
  });

  it('holds each IP to its budget and says when to come back', async () => {
    await using target = await mockTarget({ budget: { limit: 2, windowMs: 60_000 } });
    const from = (ip: string) => status(target.url, { localAddress: ip });
    expect([await from('127.0.3.1'), await from('127.0.3.1'), await from('127.0.3.1')]).toEqual([200, 200, 429]);
    expect([await from('127.0.3.2'), await from('127.0.3.2')]).toEqual([200, 200]);
    const refused = await fetch(target.url, { dispatcher: agent({ localAddress: '127.0.3.1' }) });
    const wait = Number(refused.headers.get('retry-after'));
    expect([refused.status, Number.isInteger(wait), wait > 55 && wait <= 60]).toEqual([429, true, true]);

    expect([target.worst(), target.overBudget()]).toEqual([4, 2]);
    expect(target.byStatus()).toEqual({ 200: 4, 429: 2 });
    expect(target.ips()).toEqual(['127.0.3.1', '127.0.3.2']);
    expect(target.worst(Number.MIN_VALUE)).toBe(1);

    target.reset();
    expect([target.arrivals.length, target.worst(), target.overBudget()]).toEqual([0, 0, 0]);
    expect(await from('127.0.3.1')).toBe(200);
  });

  it('lets an IP in again when the window has passed', async () => {
    await using target = await mockTarget({ budget: { limit: 1, windowMs: 30 } });
    const statuses: number[] = [];
    while (target.arrivals.length < 200 && statuses.filter((each) => each === 200).length < 3) {
      statuses.push(await status(target.url));
    }
    const allowed = target.arrivals.filter((arrival) => arrival.status === 200).map((arrival) => arrival.at);
    expect(allowed.length).toBe(3);
    expect(allowed[1] - allowed[0]).toBeGreaterThanOrEqual(30);
    expect(allowed[2] - allowed[1]).toBeGreaterThanOrEqual(30);
  });

  it('may stay silent about Retry-After and leave the rejected out of the log', async () => {
    await using target = await mockTarget({
      budget: { limit: 1, windowMs: 60_000 },
      retryAfter: false,
      countRejected: false,
    });
    await status(target.url);
    const refused = await fetch(target.url, { dispatcher: agent() });
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, null]);
    expect([target.arrivals.length, target.worst(), target.overBudget()]).toEqual([1, 1, 0]);
  });

  it('bans an IP that does not listen', async () => {
    await using target = await mockTarget({ budget: { limit: 1, windowMs: 60_000 }, banAfter: 2, banMs: 90_000 });
    const statuses: number[] = [];
    for (let i = 0; i < 5; i++) statuses.push(await status(target.url));
    expect(statuses).toEqual([200, 429, 403, 403, 403]);
    const banned = await fetch(target.url, { dispatcher: agent() });
    expect(banned.headers.get('retry-after')).toBe('90');
    expect(await status(target.url, { localAddress: '127.0.3.9' })).toBe(200);
  });

  it('hands requests to the handler, bodies and all', async () => {
    await using target = await mockTarget({
      handler: ({ method, path, headers, ip, host, body }) => {
        if (path === '/json') return { status: 201, headers: { 'x-a': ['1', '2'] }, body: { method, ip, host } };
        if (path === '/echo') return { body, headers: { 'x-type': headers['content-type'] ?? '' } };
        if (path === '/old') return { redirect: '/echo' };
        if (path === '/gone') return { status: 204, body: 'never sent' };
        if (path === '/throw') throw new Error('broken handler');
        return undefined;
      },
    });
    const dispatcher = agent();
    const json = await fetch(`${target.url}/json`, { dispatcher });
    expect([json.status, json.headers.get('x-a')]).toEqual([201, '1, 2']);
    expect(await json.json()).toEqual({ method: 'GET', ip: '127.0.0.1', host: target.url.slice('http://'.length) });
    const bytes = new Uint8Array(100_000).map((_, i) => i);
    const echo = await fetch(`${target.url}/echo`, { dispatcher, method: 'POST', body: bytes });
    expect(Buffer.from(await echo.bytes()).equals(bytes)).toBe(true);
    const moved = await fetch(`${target.url}/old`, { dispatcher });
    expect([moved.url, moved.redirected]).toEqual([`${target.url}/echo`, true]);
    expect((await fetch(`${target.url}/gone`, { dispatcher })).status).toBe(204);
    const thrown = await fetch(`${target.url}/throw`, { dispatcher });
    expect([thrown.status, await thrown.text()]).toEqual([500, 'handler: Error: broken handler']);
    expect((await fetch(target.url, { dispatcher, method: 'HEAD' })).headers.get('content-length')).toBe('1024');
    expect(await (await fetch(target.url, { dispatcher })).text()).toContain('mock target');
  });

  it('can reset the connection instead of answering', async () => {
    await using target = await mockTarget({ handler: () => ({ reset: true }) });
    await expect(request(target.url, { dispatcher: agent() })).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(target.byStatus()).toEqual({ 0: 1 });
  });

  it('takes its time', async () => {
    await using target = await mockTarget({ latencyMs: [20, 30], handler: () => ({ delayMs: 10 }) });
    await using quick = await mockTarget();
    const timed = async (url: string): Promise<number> => {
      const started = performance.now();
      await status(url);
      return performance.now() - started;
    };
    await timed(quick.url);
    expect(await timed(target.url)).toBeGreaterThanOrEqual(29);
  });

  it('forgets the client that leaves before its answer', async () => {
    await using target = await mockTarget({ latencyMs: 3_600_000 });
    const leaving = new AbortController();
    const asked = request(target.url, { dispatcher: agent(), signal: leaving.signal });
    await target.arrived(1);
    expect(target.connections).toBe(1);
    leaving.abort();
    await expect(asked).rejects.toThrow();
    await expect.poll(() => target.connections).toBe(0);
    expect(target.byStatus()).toEqual({ 0: 1 });
  });

  it('speaks https', async () => {
    const { ca, ...tls } = await testCert();
    await using target = await mockTarget({ tls });
    expect(target.url).toMatch(/^https:/);
    expect(await status(target.url, { connect: { ca }, localAddress: '127.0.3.7' })).toBe(200);
    expect(target.ips()).toEqual(['127.0.3.7']);
    await expect(status(target.url)).rejects.toThrow('self-signed');
  });

  it('speaks HTTP/2 and HTTP/1.1 when asked to', async () => {
    const { ca, ...tls } = await testCert();
    await using target = await mockTarget({
      tls,
      http2: true,
      budget: { limit: 2, windowMs: 60_000 },
      handler: ({ path, host, body }) => (path === '/reset' ? { reset: true } : { body: `${host} ${body}` }),
    });
    const session = connectH2(target.url, { ca });
    session.on('error', () => {});
    const ask = (path: string): Promise<[number, string]> =>
      new Promise((resolve, reject) => {
        const stream = session.request({ ':path': path, ':method': 'POST' });
        let [code, text] = [0, ''];
        stream.setEncoding('utf8');
        stream.on('response', (headers) => (code = headers[':status'] ?? 0));
        stream.on('data', (chunk) => (text += chunk));
        stream.on('end', () => resolve([code, text]));
        stream.on('error', reject);
        stream.end('hello');
      });
    expect(await ask('/')).toEqual([200, `${target.url.slice('https://'.length)} hello`]);
    await expect(ask('/reset')).rejects.toThrow();
    session.destroy();
    expect(await status(target.url, { connect: { ca }, allowH2: false })).toBe(429);
    expect(target.worst()).toBe(3);
  });

  it('survives what is not HTTP', async () => {
    await using target = await mockTarget({ handler: ({ body }) => ({ body }) });
    const send = (text: string): Promise<void> =>
      new Promise((resolve) => {
        const socket = connect(target.port, target.host);
        socket.on('error', () => {});
        socket.on('close', () => resolve());
        socket.on('data', () => {});
        socket.end(text);
      });
    await send('\x16\x03\x01 nonsense\r\n\r\n');
    await send('POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\ntoo short');
    await send('GET / HTTP/1.1\r\nhost: x\r\n');
    expect(await status(target.url)).toBe(200);
  });

  it('resolves arrived() at once when they are there already', async () => {
    await using target = await mockTarget();
    await status(target.url);
    await target.arrived(1);
  });

  it('frees its port and drops its connections on close', async () => {
    // An address of its own, where nobody else can take the port meanwhile.
    const target = await mockTarget({ host: '127.0.77.2' });
    const idle = connect(target.port, target.host);
    idle.on('error', () => {});
    await status(target.url);
    const gone = new Promise((resolve) => idle.on('close', resolve));
    await Promise.all([target.close(), target.close()]);
    await gone;
    expect(target.connections).toBe(0);
    await expect(status(target.url)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await using again = await mockTarget({ host: target.host, port: target.port });
    expect(again.url).toBe(target.url);
  });

  it.each([
    ['budget.limit', { budget: { limit: 0, windowMs: 1 } }],
    ['budget.windowMs', { budget: { limit: 1, windowMs: -1 } }],
    ['latencyMs[1]', { latencyMs: [5, 1] as const }],
    ['latencyMs', { latencyMs: -1 }],
    ['banAfter', { banAfter: 0.5 }],
    ['banMs', { banMs: 0 }],
    ['bodyBytes', { bodyBytes: -1 }],
    ['keepAliveMs', { keepAliveMs: 0 }],
    ['http2', { http2: true }],
    ['host', { host: '0.0.0.0' }],
  ])('refuses a bad %s', async (option, options) => {
    const refused = mockTarget(options);
    await expect(refused).rejects.toThrow(ConfigError);
    await expect(refused).rejects.toMatchObject({ option });
  });
});
