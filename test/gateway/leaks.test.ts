import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { memoryStore } from 'paceline';
import { mockGateway, mockTarget, virtualClock } from 'paceline/testing';
import { request } from 'undici';
import { beforeAll, describe, expect, it } from 'vitest';
import { type TestCert, testCert } from '../support/certs.ts';
import { pacedManager, UNPACED } from '../support/paced.ts';
import { eventually, resourceBaseline } from '../support/resources.ts';

// P7: nothing leaks, whatever becomes of the requests.

let cert: TestCert;
beforeAll(async () => {
  cert = await testCert();
});

describe.each([
  ['http', 'https'],
  ['https', 'https'],
  ['socks5', 'http'],
])('through %s to %s', (way, scheme) => {
  it.each([false, true])(
    'no socket, timer, permit or exchange is left after every kind of end (forced: %s)',
    async (force) => {
      const idle = resourceBaseline();
      const store = memoryStore();
      {
        await using target = await mockTarget({
          bodyBytes: 300_000,
          ...(scheme === 'https' && { tls: cert }),
          handler: ({ path }) => {
            if (path === '/slow') return { delayMs: 60_000 };
            if (path === '/429') return { status: 429, headers: { 'retry-after': '1' } };
            if (path === '/500') return { status: 500 };
            if (path === '/hop') return { redirect: '/ok' };
            if (path === '/reset') return { reset: true };
            return undefined;
          },
        });
        await using gateway = await mockGateway({
          exits: 8,
          hosts: { 'shop.test': target.url },
          ...(way === 'socks5' ? { protocol: 'socks5' as const } : way === 'https' ? { tls: cert } : {}),
        });
        const proxies = pacedManager({
          store,
          gateway: gateway.url,
          targets: [
            {
              match: 'shop.test',
              budget: { limit: 40, windowMs: 60_000, spacing: 'burst' },
              rate: { limit: 500, windowMs: 1000 },
              concurrency: 25,
            },
          ],
          retry: { attempts: 2 },
          timeouts: { connectMs: 400, headersMs: 1000, totalMs: 4000 },
          requestTls: { ca: cert.ca },
          proxyTls: { ca: cert.ca },
        });
        const url = (path: string): string => `${scheme}://shop.test${path}`;
        for (const kind of ['fin', 'rst', 'garbage', 'silence'] as const) gateway.fault({ kind, probability: 0.04 });
        gateway.fault({ kind: 'status', status: 502, probability: 0.04 });
        gateway.fault({ kind: 'rst', at: 'response', probability: 0.04 });
        gateway.fault({ kind: 'drop', afterBytes: 50_000, probability: 0.04 });

        const abortAfter = (ms: number): AbortSignal => {
          const controller = new AbortController();
          setTimeout(() => controller.abort(), ms).unref();
          return controller.signal;
        };
        const ends: (() => Promise<unknown>)[] = [
          async () => (await proxies.fetch(url('/ok'))).text(),
          async () => (await proxies.fetch(url('/hop'))).text(),
          async () => (await proxies.fetch(url('/429'))).text(),
          async () => (await proxies.fetch(url('/500'))).text(),
          async () => (await proxies.fetch(url('/reset'))).text(),
          async () => proxies.fetch(url('/slow'), { signal: abortAfter(40) }),
          async () => proxies.fetch(url('/ok'), { signal: AbortSignal.abort() }),
          async () => proxies.fetch(url('/ok'), { signal: abortAfter(1) }),
          async () => (await proxies.fetch(url('/ok'), { signal: abortAfter(8) })).text(),
          async () => (await proxies.fetch(url('/ok'))).body!.cancel(),
          async () => proxies.fetch(url('/ok'), { pace: { maxWaitMs: 0 } }),
          async () => (await proxies.fetch(url('/ok'), { method: 'POST', body: 'x'.repeat(100_000) })).text(),
          async () => {
            const { body } = await request(url('/ok'), { dispatcher: proxies.dispatcher });
            body.on('error', () => {}).destroy();
          },
          async () => {
            const reader = (await proxies.fetch(url('/ok'))).body!.getReader();
            await reader.read();
            await reader.cancel();
          },
        ];
        // A body that nobody reads, for close() to cut.
        if (force) ends.push(() => proxies.fetch(url('/ok')));
        const settled = Promise.allSettled(Array.from({ length: 70 }, (_, i) => ends[i % ends.length]()));
        // Cut in the midst of it, or after all of it.
        await (force ? Promise.race([settled, target.arrived(10)]) : settled);
        await proxies.close({ force });
        await settled;

        await eventually(() => [gateway.stats().open, gateway.stats().tunnels, target.connections]).toEqual([0, 0, 0]);
        const { waiting, inFlight, pools } = await proxies.stats();
        expect([waiting, inFlight, pools.default.inUse]).toEqual([0, 0, 0]);
        const [state] = store.inspect('shop.test').targets;
        expect([state.active, state.egresses.reduce((sum, { busy }) => sum + busy, 0)]).toEqual([0, 0]);
      }
      await idle();
    },
  );
});

describe('an unread body', () => {
  it('is cut by close() after a second, and its tunnel with it', async () => {
    await using target = await mockTarget({ bodyBytes: 5_000_000 });
    await using gateway = await mockGateway({ hosts: { 'shop.test': target.url } });
    const clock = virtualClock();
    const proxies = pacedManager({ gateway: gateway.url, timeouts: { bodyMs: 60_000 }, clock });
    const response = await proxies.fetch('http://shop.test/');
    let closed = false;
    const closing = proxies.close().then(() => {
      closed = true;
    });
    await clock.advance(999);
    expect(closed).toBe(false);
    // A second in which nothing came: what fits on the way may still be coming.
    await eventually(async () => {
      await clock.advance(1000);
      return closed;
    }).toBe(true);
    await closing;
    await eventually(() => [gateway.stats().open, target.connections]).toEqual([0, 0]);
    await expect(response.text()).rejects.toThrow();
    expect((await proxies.stats()).pools.default.inUse).toBe(0);
  });

  it('that is being read is not: close() waits for its end', async () => {
    await using target = await mockTarget({ bodyBytes: 3_000_000 });
    await using gateway = await mockGateway({ latencyMs: 50, hosts: { 'shop.test': target.url } });
    const proxies = pacedManager({ gateway: gateway.url });
    const reading = proxies.fetch('http://shop.test/').then((response) => response.text());
    await target.arrived(1);
    await proxies.close();
    expect((await reading).length).toBe(3_000_000);
    await eventually(() => [gateway.stats().open, target.connections]).toEqual([0, 0]);
  });
});

describe('a program', () => {
  /** Sooner than anything would end it that keeps it alive: the limit on a dial, the keep-alive of a tunnel. */
  const SOON_MS = 10_000;
  const src = fileURLToPath(new URL('../../src/index.ts', import.meta.url));

  /** Runs `body` for a manager of each way out there is, in one program; the milliseconds from its end to that of the process. */
  async function run(body: string): Promise<number> {
    await using http = await mockTarget({ bodyBytes: 2_000_000 });
    await using https = await mockTarget({ bodyBytes: 2_000_000, tls: cert });
    const hosts = { 'shop.test:80': http.url, 'shop.test:443': https.url };
    await using plain = await mockGateway({ hosts });
    await using secure = await mockGateway({ hosts, tls: cert });
    await using socks = await mockGateway({ hosts, protocol: 'socks5' });
    const ways = [
      [{}, [http.url, https.url]],
      ...[plain, secure, socks].map(({ url }) => [{ gateway: url }, ['http://shop.test/', 'https://shop.test/']]),
    ];
    const script = `
      import { ProxyManager } from ${JSON.stringify(src)};
      const tls = { ca: ${JSON.stringify(cert.ca)} };
      const targets = ${JSON.stringify(UNPACED)};
      globalThis.kept = [];
      await Promise.all(${JSON.stringify(ways)}.map(async ([options, urls]) => {
        const proxies = new ProxyManager({ ...options, requestTls: tls, proxyTls: tls, targets, timeouts: { connectMs: 60_000 } });
        for (const url of urls) { ${body} }
      }));
      const end = performance.now();
      process.on('exit', () => console.log('ended', Math.round(performance.now() - end)));`;
    const child = spawn(process.execPath, ['--no-warnings', '--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let out = '';
    child.stdout.on('data', (chunk) => (out += chunk));
    child.stderr.on('data', (chunk) => (out += chunk));
    const timer = setTimeout(() => child.kill('SIGKILL'), 15_000);
    const code = await new Promise<number | null>((resolve) => child.on('exit', resolve));
    clearTimeout(timer);
    expect([code, out]).toEqual([0, expect.stringMatching(/^ended \d+\n$/)]);
    return Number(out.split(' ')[1]);
  }

  it.concurrent('that has read its bodies ends by itself, without close(), whatever the way out', async () => {
    const ms = await run(`
      for (let i = 0; i < 2; i++) await (await proxies.fetch(url)).text();
      const controller = new AbortController();
      proxies.fetch(url, { signal: controller.signal }).catch(() => {});
      controller.abort();`);
    expect(ms).toBeLessThan(SOON_MS);
  });

  it.concurrent('that calls close() ends, though bodies are unread', async () => {
    const ms = await run(
      'globalThis.kept.push(await proxies.fetch(url)); if (url.startsWith("https")) await proxies.close();',
    );
    expect(ms).toBeLessThan(SOON_MS);
  });
});
