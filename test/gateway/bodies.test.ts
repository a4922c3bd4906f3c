import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import type { ProxyManager, Session } from 'paceline';
import { type MockGateway, type MockTarget, mockGateway, mockTarget } from 'paceline/testing';
import { request } from 'undici';
import { describe, expect, it } from 'vitest';
import { closeClean, pacedManager, shopBudget } from '../support/paced.ts';

// A tunnel that comes up on an exit over its budget is dropped, and the request leaves through another. Its body must then be
// sent whole, or the request fail cleanly: never an empty or a half body.

const PAYLOAD = randomBytes(150_000);
const URL_ = 'http://shop.test/upload';

interface World extends AsyncDisposable {
  readonly target: MockTarget;
  readonly gateway: MockGateway;
  readonly proxies: ProxyManager;
  readonly session: Session;
  readonly uploads: { readonly bytes: number; readonly digest: string; readonly type: string | undefined }[];
  readonly refused: () => number;
}

const digestOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** A session whose first tunnel is refused: it comes up on an exit that another session has used up. */
async function aboutToBeRefused(): Promise<World> {
  const uploads: World['uploads'][number][] = [];
  const target = await mockTarget({
    budget: { limit: 1, windowMs: 500 },
    handler: ({ method, body, headers }) => {
      if (method !== 'GET') uploads.push({ bytes: body.length, digest: digestOf(body), type: headers['content-type'] });
      return { body: 'ok' };
    },
  });
  const gateway = await mockGateway({ exits: 1, hosts: { 'shop.test': target.url } });
  const proxies = pacedManager({ gateway: gateway.url, targets: shopBudget(1, 500) });
  await (await proxies.session().fetch('http://shop.test/')).text();
  let refused = 0;
  proxies.on('refuse', () => refused++);
  return {
    target,
    gateway,
    proxies,
    session: proxies.session(),
    uploads,
    refused: () => refused,
    async [Symbol.asyncDispose]() {
      await closeClean(proxies, { gateway, target });
      await Promise.all([target.close(), gateway.close()]);
    },
  };
}

async function* slowly(): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < PAYLOAD.length; at += 16_384) {
    yield PAYLOAD.subarray(at, at + 16_384);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe.concurrent('after a refused exit', () => {
  it.each<[string, () => { body: unknown; duplex?: 'half' }]>([
    ['a buffer', () => ({ body: PAYLOAD })],
    ['a string', () => ({ body: PAYLOAD.toString('latin1') })],
    ['a Blob', () => ({ body: new Blob([PAYLOAD]) })],
    ['a web stream', () => ({ body: Readable.toWeb(Readable.from(slowly())), duplex: 'half' })],
    ['an async generator', () => ({ body: slowly(), duplex: 'half' })],
  ])('fetch sends %s whole, once', async (name, init) => {
    await using w = await aboutToBeRefused();
    const response = await w.session.fetch(URL_, { method: 'POST', ...init() } as RequestInit);
    expect(await response.text()).toBe('ok');
    expect(w.refused()).toBe(1);
    const expected = name === 'a string' ? Buffer.from(PAYLOAD.toString('latin1')) : PAYLOAD;
    expect(w.uploads).toMatchObject([{ bytes: expected.length, digest: digestOf(expected) }]);
  });

  it.each(['undici', 'Node'])("fetch sends a FormData of %s's own whole, once", async (make) => {
    await using w = await aboutToBeRefused();
    const { FormData: Form } = make === 'undici' ? await import('undici') : globalThis;
    const form = new Form() as FormData;
    form.append('name', 'paceline');
    form.append('file', new File([PAYLOAD], 'payload.bin'));
    await (await w.session.fetch(URL_, { method: 'POST', body: form as never })).text();
    expect(w.refused()).toBe(1);
    expect(w.uploads.length).toBe(1);
    expect(w.uploads[0].type).toMatch(/^multipart\/form-data; boundary=/);
    expect(w.uploads[0].bytes).toBeGreaterThan(PAYLOAD.length);
    expect(w.uploads[0].bytes).toBeLessThan(PAYLOAD.length + 1000);
  });
});

describe.concurrent('undici.request through proxies.dispatcher, after a refused exit', () => {
  it.each<[string, () => unknown]>([
    ['a string', () => PAYLOAD.toString('latin1')],
    ['a buffer', () => PAYLOAD],
    ['a Readable', () => Readable.from(slowly())],
    ['a Readable in flowing memory', () => Readable.from([PAYLOAD])],
    ['an async generator', () => slowly()],
  ])('sends %s whole, or fails cleanly', async (name, body) => {
    await using w = await aboutToBeRefused();
    const sending = request(URL_, {
      dispatcher: w.proxies.dispatcher,
      method: 'POST',
      body: body() as never,
    }).then(
      async (response) => `${response.statusCode} ${await response.body.text()}`,
      (error: Error) => error,
    );
    const outcome = await sending;
    expect(w.refused()).toBeGreaterThanOrEqual(1);
    if (outcome instanceof Error) expect(w.uploads).toEqual([]);
    else {
      expect(outcome).toBe('200 ok');
      const expected = name === 'a string' ? Buffer.from(PAYLOAD.toString('latin1')) : PAYLOAD;
      expect(w.uploads).toMatchObject([{ bytes: expected.length, digest: digestOf(expected) }]);
    }
    // It can be sent whole every time, since the refusal comes before the first byte is read of the body.
    expect(outcome).toBe('200 ok');
  });
});

describe('a body that has begun to leave', () => {
  it('is not sent a second time when its tunnel breaks', async () => {
    const seen: number[] = [];
    await using target = await mockTarget({
      handler: ({ body }) => {
        seen.push(body.length);
        return {};
      },
    });
    await using gateway = await mockGateway({ hosts: { 'shop.test': target.url } });
    const proxies = pacedManager({ gateway: gateway.url });
    gateway.fault({ kind: 'rst', at: 'response' });
    await expect(
      proxies.fetch(URL_, { method: 'PUT', body: Readable.toWeb(Readable.from(slowly())) as never, duplex: 'half' }),
    ).rejects.toThrow();
    // A buffer is: PUT may be sent twice, and a buffer can be.
    gateway.fault({ kind: 'rst', at: 'response' });
    expect((await proxies.fetch(URL_, { method: 'PUT', body: PAYLOAD })).status).toBe(200);
    expect(seen).toEqual([PAYLOAD.length, PAYLOAD.length, PAYLOAD.length]);
    await closeClean(proxies, { gateway, target });
  });

  it('that fails by itself fails the request, and leaves no half of it behind', async () => {
    const seen: number[] = [];
    await using target = await mockTarget({ handler: ({ body }) => void seen.push(body.length) });
    await using gateway = await mockGateway({ hosts: { 'shop.test': target.url } });
    const proxies = pacedManager({ gateway: gateway.url, retry: { attempts: 1 } });
    const body = Readable.from(
      (async function* () {
        yield PAYLOAD.subarray(0, 1000);
        throw new Error('the disk is gone');
      })(),
    );
    await expect(request(URL_, { dispatcher: proxies.dispatcher, method: 'POST', body })).rejects.toThrow(
      'the disk is gone',
    );
    expect(seen).toEqual([]);
    expect((await proxies.stats()).pools.default.inUse).toBe(0);
    await closeClean(proxies, { gateway, target });
  });
});
