import { execFile } from 'node:child_process';
import { type AddressInfo, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type MockGateway, mockGateway, mockTarget, virtualClock } from 'paceline/testing';
import { fetch, ProxyAgent } from 'undici';
import { describe, expect, it } from 'vitest';
import { connectVia, readToEnd, sessionUrl } from '../support/proxy-client.ts';

/** How a CONNECT ends that is never answered. */
async function failure(gateway: MockGateway, session: string): Promise<string | undefined> {
  return connectVia(sessionUrl(gateway, session), 'shop.test:80').then(
    () => 'answered',
    (error: NodeJS.ErrnoException) => error.code,
  );
}

describe('close', () => {
  it('frees every socket and timer of a gateway, whatever is going on', async () => {
    await using target = await mockTarget({ latencyMs: 3_600_000 });
    const clock = virtualClock();
    const gateway = await mockGateway({ host: '127.0.77.3', clock, hosts: { 'shop.test': target.url } });
    gateway.fault({ kind: 'silence', session: 'silent' });
    gateway.fault({ kind: 'slow', session: 'slow' });
    const unanswered = [failure(gateway, 'silent'), failure(gateway, 'slow')];
    const { socket: idle } = await connectVia(sessionUrl(gateway, 'idle'), 'shop.test:80');
    const { socket: busy } = await connectVia(sessionUrl(gateway, 'busy'), 'shop.test:80');
    busy.write('GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n');
    const dispatcher = new ProxyAgent({ uri: gateway.rotatingUrl, proxyTunnel: false });
    const forwarded = fetch('http://shop.test/', { dispatcher }).catch((error: Error) => error.message);
    await target.arrived(2);
    await expect.poll(() => gateway.stats().open).toBe(5);
    expect([clock.pending, target.connections]).toEqual([1, 3]);

    const over = Promise.all([readToEnd(idle), readToEnd(busy)]);
    await Promise.all([gateway.close(), gateway.close()]);
    expect([gateway.stats().open, gateway.stats().tunnels, clock.pending]).toEqual([0, 0, 0]);
    expect(await Promise.all(unanswered)).toEqual(['ECONNRESET', 'ECONNRESET']);
    expect(await forwarded).toBe('fetch failed');
    await over;
    await dispatcher.destroy();
    await expect.poll(() => target.connections).toBe(0);
    await expect(connectVia(gateway.rotatingUrl, 'shop.test:80')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  it('frees a tunnel whose client has said all it had to say', async () => {
    // A target that never answers and never closes.
    const target = createServer({ allowHalfOpen: true });
    const heardOut = new Promise<void>((resolve) => {
      target.on('connection', (socket) =>
        socket
          .on('error', () => {})
          .on('end', resolve)
          .resume(),
      );
    });
    await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
    const gateway = await mockGateway();
    const { port } = target.address() as AddressInfo;
    const { socket } = await connectVia(gateway.rotatingUrl, `127.0.0.1:${port}`);
    socket.end('that is all');
    await heardOut;
    expect(gateway.stats().tunnels).toBe(1);
    await gateway.close();
    expect(gateway.stats().tunnels).toBe(0);
    socket.destroy();
    target.close();
  });

  it('ends the load of a gateway in full use', async () => {
    await using target = await mockTarget();
    const gateway = await mockGateway();
    const dispatcher = new ProxyAgent({ uri: gateway.rotatingUrl, proxyTunnel: true });
    const asked = Promise.allSettled(Array.from({ length: 200 }, () => fetch(target.url, { dispatcher })));
    await expect.poll(() => gateway.stats().connects).toBeGreaterThan(5);
    await gateway.close();
    await dispatcher.destroy();
    await asked;
    expect(gateway.stats()).toMatchObject({ open: 0, tunnels: 0 });
    await expect.poll(() => target.connections).toBe(0);
  });

  it('leaves nothing that keeps a process alive', async () => {
    const index = new URL('../../src/testing/index.ts', import.meta.url).href;
    const client = new URL('../support/proxy-client.ts', import.meta.url).href;
    const script = `
      import { mockGateway, mockTarget } from ${JSON.stringify(index)};
      import { connectVia } from ${JSON.stringify(client)};
      const target = await mockTarget({ latencyMs: 3_600_000 });
      const gateway = await mockGateway({ hosts: { 'shop.test': target.url } });
      const slow = await mockGateway({ connectDelayMs: 3_600_000 });
      const { socket } = await connectVia(gateway.rotatingUrl, 'shop.test:80');
      socket.on('close', () => {});
      socket.write('GET / HTTP/1.1\\r\\nhost: shop.test\\r\\n\\r\\n');
      connectVia(slow.rotatingUrl, '127.0.0.1:' + target.port).catch(() => {});
      await target.arrived(1);
      while (slow.log.length === 0) await new Promise((resolve) => setImmediate(resolve));
      await Promise.all([gateway.close(), slow.close(), target.close()]);
      console.log('closed');
    `;
    // Ends by itself, or is killed and so rejects.
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
      cwd: fileURLToPath(new URL('../..', import.meta.url)),
      timeout: 15_000,
    });
    expect(stdout).toBe('closed\n');
  });
});
