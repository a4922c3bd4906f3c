import { GatewayError, type ProxyManagerOptions } from 'paceline';
import { describe, expect, it } from 'vitest';
import { failureOf } from '../support/failing.ts';
import { pacedManager } from '../support/paced.ts';
import { rawGateway } from '../support/raw-gateway.ts';

// A gateway that says when to come back is left alone until then; and only its answer to CONNECT is the gateway's.

/** A gateway that refuses the first `refusals` CONNECTs, and then answers for the target. */
async function refusing(refusals: number, head: string) {
  const asks: { at: number; line: string }[] = [];
  const gateway = await rawGateway((socket, data, nth) => {
    asks.push({ at: performance.now(), line: data.toString('latin1').split('\r\n')[0] });
    if (nth <= refusals) {
      socket.write(`HTTP/1.1 ${head}\r\ncontent-length: 0\r\n\r\n`);
      return;
    }
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n'));
  });
  return Object.assign(gateway, { asks });
}

/** What a fetch comes to; the pauses it makes are added to `pauses`. */
const fetchVia = async (
  url: string,
  options: ProxyManagerOptions = {},
  init = {},
  pauses: number[] = [],
): Promise<unknown> => {
  await using proxies = pacedManager({ gateway: url, ...options });
  proxies.on('retry', ({ delayMs }) => pauses.push(delayMs));
  return await proxies.fetch('http://shop.test/', init).then(
    ({ status }) => status,
    (error: unknown) => error,
  );
};

describe.concurrent("a gateway's own Retry-After", () => {
  it.each([
    ['429 Too Many Requests\r\nretry-after: 1', 1000],
    ['503 Service Unavailable\r\nretry-after: 1', 1000],
    ['503 Service Unavailable\r\nretry-after-ms: 300', 300],
    ['429 Too Many Requests\r\nretry-after: 1\r\nx-error-description: too many threads', 1000],
  ])('on %j is waited for, once', async (head, ms) => {
    await using gateway = await refusing(1, head);
    const pauses: number[] = [];
    expect(await fetchVia(gateway.url, {}, {}, pauses)).toBe(200);
    expect(pauses).toEqual([ms]);
    expect(gateway.asks.length).toBe(2);
    expect(gateway.asks[1].at - gateway.asks[0].at).toBeGreaterThanOrEqual(ms - 5);
  });

  it('is waited for where a POST was not sent, too', async () => {
    await using gateway = await refusing(1, '429 No\r\nretry-after-ms: 200');
    expect(await fetchVia(gateway.url, {}, { method: 'POST', body: 'x' })).toBe(200);
    expect(gateway.asks[1].at - gateway.asks[0].at).toBeGreaterThanOrEqual(195);
  });

  it('beyond retry.maxRetryAfterMs ends it, with the error', async () => {
    await using gateway = await refusing(9, '503 No\r\nretry-after: 61');
    const error = await fetchVia(gateway.url, { retry: { maxRetryAfterMs: 60_000 } });
    expect(error).toBeInstanceOf(GatewayError);
    expect(error).toMatchObject({ kind: 'exit-failed', fatal: false, status: 503, retryAfterMs: 61_000 });
    expect(gateway.asks.length).toBe(1);
  });

  it('of an age is a year', async () => {
    await using gateway = await refusing(9, '429 No\r\nretry-after: 1600000000');
    const year = 365 * 86_400_000;
    expect(await fetchVia(gateway.url)).toMatchObject({ kind: 'quota', retryAfterMs: year });
  });

  it.each(['soon', '-1', '1, 2, x', '\x80\xff'])('that nobody can read (%j) is none', async (value) => {
    await using gateway = await refusing(1, `503 No\r\nretry-after: ${value}`);
    const pauses: number[] = [];
    expect(await fetchVia(gateway.url, {}, {}, pauses)).toBe(200);
    // No more than the backoff.
    expect(pauses).toEqual([expect.toSatisfy((ms: number) => ms <= 2)]);
  });

  it('is nothing to wait for where the fault is fatal', async () => {
    await using gateway = await refusing(9, '407 No\r\nretry-after: 1');
    expect(await fetchVia(gateway.url)).toMatchObject({ kind: 'auth', fatal: true, retryAfterMs: 1000 });
    expect(gateway.asks.length).toBe(1);
  });

  it('is cut short by an abort', async () => {
    await using gateway = await refusing(9, '429 No\r\nretry-after: 60');
    const error = await fetchVia(gateway.url, {}, { signal: AbortSignal.timeout(100) });
    expect(error).toMatchObject({ name: 'TimeoutError' });
  });
});

it('too many connections at a time are no reason to try at once: the first pause is a backoff', async () => {
  const delays: number[] = [];
  for (const head of ['429 No', '407 THREADS_EXHAUSTED', '502 No']) {
    await using gateway = await refusing(1, head);
    await using proxies = pacedManager({ gateway: gateway.url, retry: { baseMs: 40, capMs: 40 }, random: () => 0.9 });
    proxies.on('retry', ({ delayMs }) => delays.push(delayMs));
    expect((await proxies.fetch('http://shop.test/')).status).toBe(200);
  }
  expect(delays).toEqual([36, 36, 0]);
});

describe.each(['http', 'https'])(
  'only the answer to CONNECT is the gateway’s, on the way to an %s target',
  (scheme) => {
    it('which is asked for a tunnel, never to forward', async () => {
      await using gateway = await refusing(9, '593 No');
      await using proxies = pacedManager({ gateway: gateway.url, retry: { attempts: 2 } });
      const error = (await failureOf(proxies.fetch(`${scheme}://shop.test/page`))) as Error;
      expect(error.cause).toMatchObject({ kind: 'exit-failed', status: 593, providerCode: '593' });
      const port = scheme === 'http' ? 80 : 443;
      expect(gateway.asks.map(({ line }) => line)).toEqual(Array(2).fill(`CONNECT shop.test:${port} HTTP/1.1`));
    });
  },
);

it.each([
  [590, {}],
  [593, {}],
  [597, {}],
  [599, {}],
  [407, { 'x-brd-err-code': 'client_10000' }],
  [502, { 'x-brd-err-code': 'client_10100' }],
  [502, { 'proxy-status': 'gw;error=http_request_denied' }],
])("a target's own %i with %j through the tunnel is the target's", async (status, headers) => {
  await using gateway = await rawGateway((socket) => {
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    const fields = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.on('data', () => socket.write(`HTTP/1.1 ${status} No\r\n${fields.join('')}content-length: 0\r\n\r\n`));
  });
  await using proxies = pacedManager({ gateway: gateway.url, retry: { attempts: 2 } });
  const ending = await proxies.fetch('http://shop.test/').catch((error: unknown) => error);
  // The fetch standard makes a network error of a 407.
  if (status === 407) expect(ending).toBeInstanceOf(TypeError);
  else expect(ending).toMatchObject({ status });
  const { outcomes } = (await proxies.stats()).targets['shop.test'];
  expect([outcomes['gateway-error'], outcomes['network-error']]).toEqual([0, 0]);
  expect(outcomes['target-error']).toBe(status === 502 ? 2 : 0);
  expect(outcomes.ok).toBe(status === 502 ? 0 : 1);
});
