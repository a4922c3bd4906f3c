import { ConfigError, type ProxyManager } from 'paceline';
import { type MockGateway, type MockTarget, mockGateway, mockTarget, type TargetRequest } from 'paceline/testing';
import { FormData as UndiciFormData, Headers as UndiciHeaders, Request as UndiciRequest } from 'undici';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { failureOf } from '../support/failing.ts';
import { pacedManager } from '../support/paced.ts';

// What Node itself provides (its Request, Headers, FormData, fetch) is of another make than undici's. Both must be welcome
// everywhere: in proxies.fetch, and in Node's own fetch when it is wrapped.

let target: MockTarget;
let gateway: MockGateway;
let proxies: ProxyManager;
let got: TargetRequest[] = [];

beforeAll(async () => {
  target = await mockTarget({
    handler(request) {
      got.push(request);
      if (request.path === '/307') return { status: 307, redirect: '/after' };
      if (request.path === '/flaky' && got.length < 3) return { status: 503 };
      return { body: `${request.method} ${request.path}` };
    },
  });
  gateway = await mockGateway({ hosts: { 'shop.test': target.url } });
  proxies = pacedManager({ gateway: gateway.url, headers: { 'x-default': 'yes' } });
});
beforeEach(() => {
  got = [];
});
afterAll(async () => {
  await proxies.close();
  await Promise.all([target.close(), gateway.close()]);
});

const URL_ = 'http://shop.test';
const file = (): File => new File(['content'], 'a.txt', { type: 'text/plain' });

const FETCHES = {
  'proxies.fetch': () => proxies.fetch as typeof globalThis.fetch,
  'proxies.wrap(globalThis.fetch)': () => proxies.wrap(globalThis.fetch) as typeof globalThis.fetch,
};

describe.each(Object.entries(FETCHES))('%s takes', (_name, make) => {
  it("Node's own Request: method, headers, body and its length", async () => {
    const request = new Request(`${URL_}/r?q=1`, { method: 'POST', body: 'körper', headers: { 'x-own': '1' } });
    const response = await make()(request);
    expect([response.status, response.url, await response.text()]).toEqual([200, `${URL_}/r?q=1`, 'POST /r?q=1']);
    expect(request.bodyUsed).toBe(true);
    expect(got[0].headers).toMatchObject({ 'x-own': '1', 'x-default': 'yes', 'content-length': '7' });
    expect(got[0].headers['content-type']).toBe('text/plain;charset=UTF-8');
    expect(got[0].body.toString()).toBe('körper');
  });

  it("undici's Request", async () => {
    const request = new UndiciRequest(`${URL_}/u`, { method: 'PUT', body: 'text', headers: { 'x-own': 'u' } });
    await make()(request as never);
    expect(got[0]).toMatchObject({ method: 'PUT', path: '/u', headers: { 'x-own': 'u', 'content-length': '4' } });
    expect(got[0].body.toString()).toBe('text');
  });

  it('a Request and an init on top', async () => {
    const request = new Request(`${URL_}/r`, { method: 'POST', body: 'text', headers: { 'x-own': '1' } });
    await make()(request, { method: 'PUT', headers: { 'x-other': '2' } });
    expect(got[0].method).toBe('PUT');
    expect(got[0].headers).toMatchObject({ 'x-other': '2', 'x-default': 'yes' });
    expect(got[0].headers).not.toHaveProperty('x-own');
    expect(got[0].body.toString()).toBe('text');
  });

  it('Headers of either make', async () => {
    await make()(URL_, { headers: new Headers({ 'x-own': 'node' }) });
    await make()(URL_, { headers: new UndiciHeaders({ 'x-own': 'undici' }) as never });
    expect(got.map(({ headers }) => headers['x-own'])).toEqual(['node', 'undici']);
  });

  it("Node's own FormData, with a file", async () => {
    const form = new FormData();
    form.set('field', 'value');
    form.set('file', file(), 'renamed.txt');
    await make()(URL_, { method: 'POST', body: form });
    expect(got[0].headers['content-type']).toMatch(/^multipart\/form-data; boundary=/);
    const text = got[0].body.toString();
    expect(text).toContain('name="field"\r\n\r\nvalue');
    expect(text).toMatch(/name="file"; filename="renamed.txt"\r\nContent-Type: text\/plain\r\n\r\ncontent/i);
  });

  it('a Request with a form in it', async () => {
    const form = new FormData();
    form.set('file', file());
    await make()(new Request(URL_, { method: 'POST', body: form }));
    const boundary = /boundary=(.+)$/.exec(got[0].headers['content-type']!)![1];
    expect(got[0].body.toString()).toMatch(new RegExp(`^--${boundary}[^]+content\r\n--${boundary}--`));
  });

  it('streams, half duplex, longer than what is held', async () => {
    const chunk = new Uint8Array(100_000).fill(7);
    const body = (): ReadableStream => ReadableStream.from(Array.from({ length: 30 }, () => chunk));
    await make()(URL_, { method: 'POST', body: body(), duplex: 'half' } as RequestInit);
    await make()(new Request(URL_, { method: 'POST', body: body(), duplex: 'half' } as RequestInit));
    await make()(new UndiciRequest(URL_, { method: 'POST', body: body(), duplex: 'half' }) as never);
    expect(got.map(({ body }) => body.length)).toEqual([3_000_000, 3_000_000, 3_000_000]);
    expect(got.every(({ body }) => body.every((byte) => byte === 7))).toBe(true);
  });

  it('a signal inside the Request, and passes its reason on', async () => {
    const reason = { why: 'not an Error' };
    const request = new Request(URL_, { signal: AbortSignal.abort(reason) });
    expect(await failureOf(make()(request))).toBe(reason);
    expect(got).toEqual([]);
  });

  it('an init whose signal takes the place of the one in the Request', async () => {
    const aborted = new Request(URL_, { signal: AbortSignal.abort() });
    expect((await make()(aborted, { signal: new AbortController().signal })).status).toBe(200);
    expect((await make()(aborted, { signal: null })).status).toBe(200);
  });

  it('a body in a Request again, for a redirect that keeps the method', async () => {
    await make()(new Request(`${URL_}/307`, { method: 'POST', body: 'once more' }));
    expect(got.map(({ path, body }) => [path, body.toString()])).toEqual([
      ['/307', 'once more'],
      ['/after', 'once more'],
    ]);
  });

  it('a body in a Request again, for each attempt', async () => {
    const response = await make()(new Request(`${URL_}/flaky`, { method: 'PUT', body: 'whole' }));
    expect(response.status).toBe(200);
    expect(got.map(({ body }) => body.toString())).toEqual(['whole', 'whole', 'whole']);
  });

  it('no Request whose body is used already', async () => {
    const used = new Request(URL_, { method: 'POST', body: 'x' });
    await used.text();
    expect(await failureOf(make()(used))).toBeInstanceOf(TypeError);
    expect(got).toEqual([]);
  });

  it('no dispatcher besides the manager', async () => {
    const error = await failureOf(make()(URL_, { dispatcher: proxies.dispatcher } as RequestInit));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error).toMatchObject({ option: 'dispatcher' });
  });

  it('pace options', async () => {
    const response = await make()(URL_, { pace: { session: 'mine' } } as RequestInit);
    expect(proxies.exchange(response)?.session).toBe('mine');
    expect(got[0].ip).toBe(gateway.exitOf('mine'));
  });
});

it("proxies.fetch takes undici's FormData", async () => {
  const form = new UndiciFormData();
  form.set('file', file());
  await proxies.fetch(URL_, { method: 'POST', body: form });
  expect(got[0].headers['content-type']).toMatch(/^multipart\/form-data/);
});

it("the wrapped fetch gives that fetch's own Responses", async () => {
  const response = await proxies.wrap(globalThis.fetch)(URL_);
  expect(response).toBeInstanceOf(globalThis.Response);
  expect(proxies.exchange(response)).toMatchObject({ target: 'shop.test', attempts: 1, outcome: 'ok' });
});

it('wrap refuses what is no function', () => {
  expect(() => proxies.wrap('fetch' as never)).toThrow(ConfigError);
});

it('fetch and a wrapped fetch need no `this`', async () => {
  const { fetch } = proxies;
  expect((await fetch(URL_)).status).toBe(200);
});
