import { Agent, request as send } from 'node:http';
import { type MockGateway, type MockTarget, mockGateway, mockTarget } from 'paceline/testing';
import { fetch, ProxyAgent } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sessionUrl } from '../support/proxy-client.ts';

let target: MockTarget;
beforeAll(async () => {
  target = await mockTarget({
    handler: ({ path, headers, body, method }) => {
      if (path === '/headers') return { body: headers };
      if (path === '/echo') return { body, headers: { 'x-method': method } };
      if (path === '/busy') return { status: 503, body: 'busy' };
      return undefined;
    },
  });
});
afterAll(() => target.close());

interface Answer {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly text: string;
}

/** One absolute-form request. */
function ask(proxy: string, url: string, agent: Agent | false = false, body?: string): Promise<Answer> {
  const { hostname, port, username, password } = new URL(proxy);
  const auth = Buffer.from(`${username}:${password}`).toString('base64');
  return new Promise((resolve, reject) => {
    const sent = send({
      host: hostname,
      port,
      path: url,
      agent,
      method: body === undefined ? 'GET' : 'POST',
      headers: {
        host: new URL(url).host,
        'proxy-authorization': `Basic ${auth}`,
        'proxy-connection': 'keep-alive',
        'x-mine': 'kept',
        ...(agent ? {} : { connection: 'close, x-hop', 'x-hop': 'dropped' }),
      },
    });
    sent.on('error', reject);
    sent.on('response', async (response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of response) chunks.push(chunk as Buffer);
      resolve({ status: response.statusCode!, headers: response.headers, text: Buffer.concat(chunks).toString() });
    });
    sent.end(body);
  });
}

const gatewayFor = (options = {}): Promise<MockGateway> =>
  mockGateway({ hosts: { 'shop.test': target.url }, ...options });

describe('absolute-form requests', () => {
  it('leave from an exit, and the response names it', async () => {
    await using gateway = await gatewayFor();
    const answer = await ask(sessionUrl(gateway, 'a'), 'http://shop.test/page?x=1');
    expect(answer.status).toBe(200);
    expect(answer.headers['x-peer-ip']).toBe(gateway.exitOf('a'));
    expect(answer.headers['x-egress-ip']).toBe(gateway.exitOf('a'));
    expect(target.arrivals.at(-1)).toMatchObject({ path: '/page?x=1', host: 'shop.test', ip: gateway.exitOf('a') });
    expect(gateway.log).toMatchObject([{ via: 'forward', session: 'a', host: 'shop.test:80', status: 200 }]);
    expect(gateway.stats()).toMatchObject({ forwarded: 1, connects: 0, refused: 0 });
  });

  it('keep their own headers and lose those of the hop', async () => {
    await using gateway = await gatewayFor();
    const { text } = await ask(gateway.rotatingUrl, 'http://shop.test/headers');
    const seen = JSON.parse(text);
    expect(seen).toMatchObject({ host: 'shop.test', 'x-mine': 'kept' });
    for (const name of ['proxy-authorization', 'proxy-connection', 'x-hop']) expect(seen).not.toHaveProperty(name);
  });

  it('carry bodies, with a length or in chunks', async () => {
    await using gateway = await gatewayFor();
    expect((await ask(gateway.rotatingUrl, 'http://shop.test/echo', false, 'hello')).text).toBe('hello');
    const dispatcher = new ProxyAgent({ uri: gateway.rotatingUrl, proxyTunnel: false });
    const body = new ReadableStream({
      start(controller) {
        for (let i = 0; i < 50; i++) controller.enqueue(new Uint8Array(20_000).fill(i));
        controller.close();
      },
    });
    const response = await fetch('http://shop.test/echo', { dispatcher, method: 'PUT', body, duplex: 'half' });
    expect([response.headers.get('x-method'), (await response.bytes()).length]).toEqual(['PUT', 1_000_000]);
    await dispatcher.destroy();
  });

  it('rotate with each request of a kept connection, with the connection, or with the session', async () => {
    const exits = async (rotation: string, session?: string): Promise<(string | undefined)[]> => {
      await using gateway = await gatewayFor({ rotation, exits: 3, assign: 'round-robin' });
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      const url = session === undefined ? gateway.rotatingUrl : sessionUrl(gateway, session);
      const seen: (string | undefined)[] = [];
      for (let i = 0; i < 3; i++)
        seen.push((await ask(url, 'http://shop.test/', agent)).headers['x-peer-ip'] as string);
      expect(gateway.stats().connections).toBe(1);
      agent.destroy();
      return seen;
    };
    const [one, two, three] = ['127.0.1.1', '127.0.1.2', '127.0.1.3'];
    expect(await exits('per-request')).toEqual([one, two, three]);
    expect(await exits('per-request', 's')).toEqual([one, two, three]);
    expect(await exits('per-connection', 's')).toEqual([one, one, one]);
    expect(await exits('sticky')).toEqual([one, one, one]);
    expect(await exits('sticky', 's')).toEqual([one, one, one]);
  });

  it('need credentials, an http URL, and a destination on this machine', async () => {
    await using gateway = await gatewayFor();
    const wrong = await ask(gateway.rotatingUrl.replace('pass', 'wrong'), 'http://shop.test/');
    expect([wrong.status, wrong.headers['proxy-authenticate']]).toEqual([407, 'Basic realm="mock gateway"']);
    expect((await ask(gateway.rotatingUrl, 'http://example.com/')).status).toBe(403);
    expect((await ask(gateway.rotatingUrl, 'ftp://shop.test/')).status).toBe(400);
    expect((await ask(gateway.rotatingUrl, 'http://127.0.0.1:1/')).status).toBe(502);
    expect(gateway.stats()).toMatchObject({ forwarded: 0, refused: 4 });
  });

  it("pass the target's own errors on as they are", async () => {
    await using gateway = await gatewayFor({ egressHeader: false });
    const answer = await ask(gateway.rotatingUrl, 'http://shop.test/busy');
    expect([answer.status, answer.text, answer.headers['x-egress-ip']]).toEqual([503, 'busy', undefined]);
    expect(gateway.log[0].status).toBe(503);
  });

  it('close their connections to targets with the client', async () => {
    await using own = await mockTarget();
    await using gateway = await mockGateway();
    const agent = new Agent({ keepAlive: true });
    await ask(gateway.rotatingUrl, `${own.url}/`, agent);
    expect(own.connections).toBe(1);
    agent.destroy();
    await expect.poll(() => [gateway.stats().open, own.connections]).toEqual([0, 0]);
  });

  it('are given up with the client that leaves', async () => {
    await using slow = await mockTarget({ latencyMs: 3_600_000 });
    await using gateway = await mockGateway();
    const agent = new Agent();
    const lost = ask(gateway.rotatingUrl, `${slow.url}/`, agent).catch((error: Error) => error.message);
    await slow.arrived(1);
    agent.destroy();
    expect(await lost).toBe('socket hang up');
    await expect.poll(() => [gateway.stats().open, slow.connections]).toEqual([0, 0]);
  });
});
