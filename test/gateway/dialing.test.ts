import { createServer, type Socket } from 'node:net';
import { inspect } from 'node:util';
import { GatewayError, memoryStore, type Store } from 'paceline';
import { mockGateway, mockTarget, virtualClock } from 'paceline/testing';
import { describe, expect, it } from 'vitest';
import { testCert } from '../support/certs.ts';
import { pacedManager } from '../support/paced.ts';
import { rawGateway } from '../support/raw-gateway.ts';
import { eventually, resourceBaseline } from '../support/resources.ts';

// Gateways at their worst: what a well-behaved mock cannot do.

const once = { attempts: 1 };
const ACCEPTED = 'HTTP/1.1 200 Connection established\r\n\r\n';

/** A port that nobody listens on. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe.each(['http', 'https', 'socks5'])('a gateway at %s://', (scheme) => {
  it.each([
    ['that refuses connections', async () => `127.0.0.1:${await freePort()}`, 'ECONNREFUSED'],
    ['whose name is unknown', async () => 'gateway.invalid:8080', 'ENOTFOUND'],
  ])('%s is kind unreachable, with the reason', async (_, place, code) => {
    const idle = resourceBaseline();
    const proxies = pacedManager({ gateway: `${scheme}://user-{session}:secret@${await place()}`, retry: once });
    const error = await proxies.fetch('http://shop.test/').catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(GatewayError);
    expect(error).toMatchObject({ kind: 'unreachable', pool: 'default', cause: { code } });
    expect(String(error)).not.toContain('secret');
    await proxies.close();
    await idle();
  });
});

describe('a gateway that says 200', () => {
  it.each<[string, (socket: Socket) => void]>([
    ['and closes', (socket) => socket.end(ACCEPTED)],
    ['and resets', (socket) => socket.write(ACCEPTED, () => socket.resetAndDestroy())],
    ['and talks nonsense', (socket) => socket.end(`${ACCEPTED}this is no HTTP, and no TLS either\r\n\r\n`)],
  ])('%s ends in one error after one dial, never in redialling', async (_, answer) => {
    const { ca } = await testCert();
    for (const url of ['http://shop.test/', 'https://shop.test/']) {
      const idle = resourceBaseline();
      {
        await using gateway = await rawGateway(answer);
        const proxies = pacedManager({ gateway: gateway.url, retry: once, requestTls: { ca } });
        await expect(proxies.fetch(url)).rejects.toThrow();
        expect(gateway.asked).toBe(1);
        expect((await proxies.stats()).pools.default).toMatchObject({
          inUse: 0,
          outcomes: { 'network-error': 1, 'gateway-error': 0 },
        });
        await proxies.close();
        await eventually(() => gateway.open).toBe(0);
      }
      await idle();
    }
  });

  it('and then is silent in the TLS handshake is the way to the target failing, at timeouts.connectMs', async () => {
    let said: number | undefined;
    await using gateway = await rawGateway((socket) => {
      socket.once('data', ([first]) => {
        said = first;
      });
      socket.write(ACCEPTED);
    });
    const clock = virtualClock();
    const proxies = pacedManager({ gateway: gateway.url, retry: once, timeouts: { connectMs: 150 }, clock });
    let ended = false;
    const fetching = proxies.fetch('https://shop.test/').finally(() => {
      ended = true;
    });
    fetching.catch(() => {});
    // The first word of TLS.
    await eventually(() => said).toBe(22);
    await clock.advance(149);
    expect(ended).toBe(false);
    await clock.advance(1);
    await expect(fetching).rejects.toMatchObject({ cause: { code: 'ETIMEDOUT' } });
    await eventually(() => gateway.open).toBe(0);
    await proxies.close();
  });

  it('and then is silent in the TLS handshake can be aborted', async () => {
    await using gateway = await rawGateway((socket) => socket.write(ACCEPTED));
    const proxies = pacedManager({ gateway: gateway.url, retry: once });
    const controller = new AbortController();
    const fetching = proxies.fetch('https://shop.test/', { signal: controller.signal });
    fetching.catch(() => {});
    await eventually(() => gateway.asked).toBe(1);
    controller.abort();
    await expect(fetching).rejects.toMatchObject({ name: 'AbortError' });
    await eventually(() => gateway.open).toBe(0);
    await proxies.close();
  });

  it('and resets while a slow store thinks about the exit is an error of the request, not of the process', async () => {
    const store = slowToBind(30);
    await using gateway = await rawGateway((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nx-egress-ip: 127.0.1.1\r\n\r\n`, () => socket.resetAndDestroy());
    });
    for (const url of ['http://shop.test/', 'https://shop.test/']) {
      const before = gateway.asked;
      // At once: no limit ends it within the time of a test.
      const proxies = pacedManager({ gateway: gateway.url, retry: once, store, timeouts: { connectMs: 60_000 } });
      await expect(proxies.fetch(url)).rejects.toThrow();
      expect(gateway.asked - before).toBe(1);
      await proxies.close();
    }
    await eventually(() => gateway.open).toBe(0);
  });
});

/** The memory store as a remote one would answer: `bind` takes its time. */
function slowToBind(ms: number): Store {
  const store = memoryStore();
  return {
    reserve: (...args) => store.reserve(...args),
    settle: (...args) => store.settle(...args),
    cancel: (...args) => store.cancel(...args),
    inspect: (...args) => store.inspect(...args),
    close: () => store.close(),
    bind: (...args) => new Promise((resolve) => setTimeout(() => resolve(store.bind(...args)), ms)),
  };
}

describe('an answer to CONNECT', () => {
  it('that comes a byte at a time is read', async () => {
    await using gateway = await rawGateway((socket) => {
      let at = 0;
      const next = (): void => {
        if (at < ACCEPTED.length) socket.write(ACCEPTED[at++], () => setImmediate(next));
        else
          socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok'));
      };
      next();
    });
    const proxies = pacedManager({ gateway: gateway.url });
    expect(await (await proxies.fetch('http://shop.test/')).text()).toBe('ok');
    await proxies.close();
  });

  it('with the first bytes of the tunnel in the same packet loses none of them', async () => {
    // A target that speaks first: its answer comes along with the gateway's.
    await using gateway = await rawGateway((socket) =>
      socket.write(`${ACCEPTED}HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nearly`),
    );
    const proxies = pacedManager({ gateway: gateway.url, retry: once });
    const outcome = await proxies.fetch('http://shop.test/').then(
      (response) => response.text(),
      () => 'refused',
    );
    // An answer before the question is refused or read whole, never in part.
    expect(['early', 'refused']).toContain(outcome);
    await proxies.close();
  });

  it('with thousands of headers is refused, not read for ever', async () => {
    await using gateway = await rawGateway((socket) => {
      socket.write('HTTP/1.1 200 OK\r\n');
      const flood = (): void => {
        if (!socket.destroyed) socket.write(`x-noise: ${'n'.repeat(4096)}\r\n`, () => setImmediate(flood));
      };
      flood();
    });
    const proxies = pacedManager({ gateway: gateway.url, retry: once });
    await expect(proxies.fetch('http://shop.test/')).rejects.toMatchObject({ kind: 'protocol' });
    await eventually(() => gateway.open).toBe(0);
    await proxies.close();
  });

  it('never shows the password: not in the error, its causes, or what is printed of the manager', async () => {
    await using gateway = await rawGateway((socket) =>
      socket.end('HTTP/1.1 407 hunter2\r\nx-brd-err-code: client_10010\r\ncontent-length: 0\r\n\r\n'),
    );
    const url = gateway.url.replace(':pass@', ':s3cr3t%21@');
    const proxies = pacedManager({ gateway: url, retry: once });
    const error = await proxies.fetch('http://shop.test/').catch((reason: unknown) => reason as GatewayError);
    const shown = [error, proxies, proxies.dispatcher, await proxies.stats()].map((it) =>
      inspect(it, { depth: 20, showHidden: true }),
    );
    expect(shown.join('\n')).not.toMatch(/s3cr3t/);
    expect(error).toMatchObject({ kind: 'auth', status: 407, providerCode: 'client_10010' });
    await proxies.close();
  });
});

describe('the wire', () => {
  it('is counted to the byte, the set-up of the tunnel included', async () => {
    await using target = await mockTarget({ bodyBytes: 5000 });
    await using gateway = await mockGateway({ hosts: { 'shop.test': target.url } });
    const proxies = pacedManager({ gateway: gateway.url });
    const calls = { sent: 0, received: 0 };
    for (let i = 0; i < 3; i++) {
      const response = await proxies.fetch('http://shop.test/');
      await response.text();
      const { bytesSent, bytesReceived } = proxies.exchange(response)!;
      calls.sent += bytesSent;
      calls.received += bytesReceived;
    }
    const { bytesSent, bytesReceived } = (await proxies.stats()).pools.default;
    expect({ bytesSent, bytesReceived }).toEqual({
      bytesSent: gateway.stats().bytesIn,
      bytesReceived: gateway.stats().bytesOut,
    });
    expect(calls).toEqual({ sent: bytesSent, received: bytesReceived });
    await proxies.close();
  });
});
