import { RetriesExhaustedError } from 'paceline';
import { type MockTarget, mockGateway, mockTarget, type TargetReply, type TargetRequest } from 'paceline/testing';
import { FormData } from 'undici';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { failureOf } from '../support/failing.ts';
import { fetchMany, pacedManager } from '../support/paced.ts';
import { eventually } from '../support/resources.ts';

// What is tried again, and what is not. Everything is counted at the target.

let target: MockTarget;
let seen: TargetRequest[] = [];
/** What the target answers first, in turn; afterwards the default page. */
let replies: TargetReply[] = [];

beforeEach(async () => {
  seen = [];
  replies = [];
  target = await mockTarget({
    handler(request) {
      seen.push(request);
      return replies.shift();
    },
  });
});
afterEach(() => target.close());

const gatewayFor = () => mockGateway({ hosts: { 'shop.test': target.url } });
const URL_ = 'http://shop.test/';

describe('tried again is', () => {
  it.each([429, 502, 503, 504])('a %i, until the target answers otherwise', async (status) => {
    replies = [{ status }, { status }];
    await using gateway = await gatewayFor();
    // A budget of a short window, since a 429 rests its egress for one.
    const targets = [{ match: 'shop.test', budget: { limit: 5, windowMs: 50 } }];
    await using proxies = pacedManager({ gateway: gateway.url, targets });
    const response = await proxies.fetch(URL_);
    expect([response.status, proxies.exchange(response)?.attempts]).toEqual([200, 3]);
    expect(target.arrivals.map((arrival) => arrival.status)).toEqual([status, status, 200]);
  });

  it('a connection that the target resets', async () => {
    replies = [{ reset: true }, { reset: true }];
    await using gateway = await gatewayFor();
    await using proxies = pacedManager({ gateway: gateway.url });
    expect((await proxies.fetch(URL_)).status).toBe(200);
    expect(target.arrivals).toHaveLength(3);
  });

  it.each(['rst', 'fin', 'garbage', 'status'] as const)(
    'a CONNECT that ends in %s, on another session',
    async (kind) => {
      await using gateway = await gatewayFor();
      gateway.fault({ kind, times: 2 });
      await using proxies = pacedManager({ gateway: gateway.url });
      expect((await proxies.fetch(URL_, { method: 'POST', body: 'x' })).status).toBe(200);
      // The target never saw the failed ones, so even a POST may go again.
      expect([gateway.log.length, target.arrivals.length]).toEqual([3, 1]);
    },
  );

  it('what `classify` calls limited, whatever its status; not what it calls ok', async () => {
    replies = [{ status: 200, headers: { 'x-soft-block': '1' } }];
    await using gateway = await gatewayFor();
    await using proxies = pacedManager({
      gateway: gateway.url,
      targets: [{ match: 'shop.test', budget: { limit: 5, windowMs: 50 } }],
      classify: ({ status, headers }) => {
        if (headers['x-soft-block']) return 'rate-limited';
        return status === 503 ? 'ok' : undefined;
      },
    });
    expect((await proxies.fetch(URL_)).status).toBe(200);
    expect(target.arrivals).toHaveLength(2);
    replies = [{ status: 503 }];
    expect((await proxies.fetch(URL_)).status).toBe(503);
    expect(target.arrivals).toHaveLength(3);
  });
});

describe('not tried again is', () => {
  it.each([400, 401, 403, 404, 500])('a %i', async (status) => {
    replies = [{ status }];
    await using proxies = pacedManager({});
    expect((await proxies.fetch(target.url)).status).toBe(status);
    expect(target.arrivals).toHaveLength(1);
  });

  it.each(['POST', 'PATCH', 'post'])('a %s that the target has seen', async (method) => {
    replies = [{ status: 503 }];
    await using proxies = pacedManager({});
    expect((await proxies.fetch(target.url, { method, body: 'x' })).status).toBe(503);
    replies = [{ reset: true }];
    expect(await failureOf(proxies.fetch(target.url, { method, body: 'x' }))).toBeInstanceOf(TypeError);
    expect(target.arrivals).toHaveLength(2);
  });

  it('a method that retry.methods leaves out; one that it adds is', async () => {
    await using proxies = pacedManager({ retry: { methods: ['post'] } });
    replies = [{ status: 503 }];
    expect((await proxies.fetch(target.url)).status).toBe(503);
    replies = [{ status: 503 }];
    expect((await proxies.fetch(target.url, { method: 'POST', body: 'x' })).status).toBe(200);
    expect(target.arrivals).toHaveLength(3);
  });

  it('anything with retry.attempts: 1', async () => {
    replies = [{ status: 503 }, { reset: true }];
    await using proxies = pacedManager({ retry: { attempts: 1 } });
    expect((await proxies.fetch(target.url)).status).toBe(503);
    // One attempt: the error is fetch's own, not wrapped.
    expect(await failureOf(proxies.fetch(target.url))).toMatchObject({ name: 'TypeError', message: 'fetch failed' });
    expect(target.arrivals).toHaveLength(2);
  });

  it.each([
    ['a Proxy-Authorization of its own', { headers: { 'proxy-authorization': 'Basic x' } }, 'UND_ERR_INVALID_ARG'],
    ['Expect', { headers: { expect: '100-continue' } }, 'UND_ERR_NOT_SUPPORTED'],
    ['a wrong length', { headers: { 'content-length': '99' }, body: 'x' }, 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH'],
  ])('a request that undici refuses, and nobody is blamed: %s', async (_name, init, code) => {
    await using gateway = await gatewayFor();
    await using proxies = pacedManager({ gateway: gateway.url });
    const error = await failureOf(proxies.fetch(URL_, { method: 'PUT', ...init }));
    expect(error).toMatchObject({ name: 'TypeError', cause: { code } });
    expect([gateway.log.length <= 1, target.arrivals.length]).toEqual([true, 0]);
    const { pools, blocked } = await proxies.stats();
    expect(pools.default.outcomes).toMatchObject({ ignored: 1, 'network-error': 0, 'gateway-error': 0 });
    expect(blocked).toBe(0);
  });
});

describe('in the end', () => {
  it('the last response is handed over as it is, with its body', async () => {
    replies = Array.from({ length: 9 }, (_, i) => ({ status: 503, body: `no. ${i + 1}` }));
    await using proxies = pacedManager({ retry: { attempts: 3 } });
    const response = await proxies.fetch(target.url);
    expect([response.status, await response.text()]).toEqual([503, 'no. 3']);
    expect(target.arrivals).toHaveLength(3);
  });

  it('an error is a RetriesExhaustedError with its cause, the attempts and the last response there was', async () => {
    replies = [{ status: 503 }, { reset: true }, { reset: true }];
    await using proxies = pacedManager({ retry: { attempts: 3 } });
    const error = (await failureOf(proxies.fetch(target.url))) as RetriesExhaustedError;
    expect(error).toBeInstanceOf(RetriesExhaustedError);
    expect(error).toMatchObject({ code: 'PACELINE_RETRIES_EXHAUSTED', attempts: 3, response: { status: 503 } });
    expect(error.cause).toMatchObject({
      name: 'TypeError',
      cause: { code: expect.stringMatching(/ECONNRESET|UND_ERR_SOCKET/) },
    });
  });

  it('attempts are counted over all causes together', async () => {
    replies = [{ status: 502 }, { reset: true }, { status: 503 }, { status: 504 }, { status: 503 }];
    await using gateway = await gatewayFor();
    gateway.fault({ kind: 'rst' });
    await using proxies = pacedManager({ gateway: gateway.url, retry: { attempts: 4 } });
    expect((await proxies.fetch(URL_)).status).toBe(503);
    expect(target.arrivals).toHaveLength(3);
  });
});

describe('the body of a request', () => {
  const bytes = new TextEncoder().encode('whole');
  const form = (): FormData => {
    const data = new FormData();
    data.set('file', new File(['whole'], 'a.txt'));
    return data;
  };
  const BODIES: Record<string, () => unknown> = {
    string: () => 'whole',
    ArrayBuffer: () => bytes.buffer,
    Uint8Array: () => bytes,
    Blob: () => new Blob([bytes]),
    URLSearchParams: () => new URLSearchParams({ body: 'whole' }),
    "undici's FormData": form,
    "Node's own FormData": () => {
      const data = new globalThis.FormData();
      data.set('file', new File(['whole'], 'a.txt'));
      return data;
    },
  };

  it.each(Object.entries(BODIES))('arrives whole on every attempt: %s', async (_name, make) => {
    replies = [{ status: 503 }, { reset: true }, { status: 502 }];
    await using gateway = await gatewayFor();
    await using proxies = pacedManager({ gateway: gateway.url });
    expect((await proxies.fetch(URL_, { method: 'PUT', body: make() as never })).status).toBe(200);
    expect(seen).toHaveLength(4);
    for (const { body } of seen) expect(body.toString()).toContain('whole');
    expect(new Set(seen.map(({ headers }) => headers['content-length'])).size).toBe(1);
  });

  it('is sent once when it is a stream: the answer is handed over, and a failure is final', async () => {
    const stream = (): ReadableStream => ReadableStream.from([bytes, bytes]);
    await using proxies = pacedManager({});
    replies = [{ status: 503 }];
    const response = await proxies.fetch(target.url, { method: 'PUT', body: stream(), duplex: 'half' });
    expect([response.status, seen[0].body.toString()]).toEqual([503, 'wholewhole']);
    replies = [{ reset: true }];
    const failing = proxies.fetch(target.url, { method: 'PUT', body: stream(), duplex: 'half' });
    expect(await failureOf(failing)).toMatchObject({ name: 'TypeError' });
    expect(seen).toHaveLength(2);
  });

  it('is sent once when it is an async iterable', async () => {
    replies = [{ status: 503 }];
    await using proxies = pacedManager({});
    const body = (async function* () {
      yield bytes;
    })();
    expect((await proxies.fetch(target.url, { method: 'PUT', body: body as never, duplex: 'half' })).status).toBe(503);
    expect(seen.map((request) => request.body.toString())).toEqual(['whole']);
  });
});

it('a failed answer that is not long costs no tunnel', async () => {
  replies = Array.from({ length: 3 }, () => ({ status: 503, body: Buffer.alloc(100_000) }));
  await using gateway = await mockGateway({ exits: 1, hosts: { 'shop.test': target.url } });
  await using proxies = pacedManager({ gateway: gateway.url, retry: { baseMs: 20, capMs: 20 } });
  expect((await proxies.fetch(URL_, { pace: { session: 'one' } })).status).toBe(200);
  await eventually(() => proxies.stats().then(({ inFlight }) => inFlight)).toBe(0);
  expect([target.arrivals.length, gateway.stats().connects]).toEqual([4, 1]);
});

it('in an outage, all sends together stay within requests × (1 + ratio) + floor', async () => {
  await using down = await mockTarget({ handler: () => ({ status: 503 }) });
  await using proxies = pacedManager({
    pools: { direct: { direct: true, concurrency: 50 } },
    retry: { ratio: 0.2 },
    breaker: false,
  });
  const requests = 1000;
  const startedAt = performance.now();
  expect(new Set(await fetchMany(proxies, down.url, requests, 50))).toEqual(new Set([503]));
  // The floor is 10 a second, over 10 seconds.
  const seconds = (performance.now() - startedAt) / 1000;
  expect(down.arrivals.length).toBeLessThanOrEqual(requests * 1.2 + 100 + 10 * seconds);
  expect(down.arrivals.length).toBeGreaterThan(requests * 1.2);
});
