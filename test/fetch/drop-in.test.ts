import { createHash } from 'node:crypto';
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib';
import type { ProxyManager } from 'paceline';
import { type MockGateway, type MockTarget, mockGateway, mockTarget, type TargetRequest } from 'paceline/testing';
import { FormData, Headers, Request, type Response, fetch as undiciFetch } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pacedManager } from '../support/paced.ts';

// Every request goes twice to the same target: through `proxies.fetch` and through undici's own. Both must come to the same.

let target: MockTarget;
let gateway: MockGateway;
let direct: ProxyManager;
let proxied: ProxyManager;

const PAGE = 'a page, many times over. '.repeat(500);

function answer({ path, method, headers, body }: TargetRequest): object | undefined {
  const { pathname } = new URL(path, 'http://x');
  if (pathname.startsWith('/status/')) return { status: Number(pathname.slice(8)), body: 'as asked' };
  if (pathname === '/gzip') return { headers: { 'content-encoding': 'gzip' }, body: gzipSync(PAGE) };
  if (pathname === '/deflate') return { headers: { 'content-encoding': 'deflate' }, body: deflateSync(PAGE) };
  if (pathname === '/br') return { headers: { 'content-encoding': 'br' }, body: brotliCompressSync(PAGE) };
  if (pathname === '/twice') return { headers: { 'set-cookie': ['a=1', 'b=2'], 'x-list': ['1', '2'] } };
  if (pathname.startsWith('/to/')) return { status: Number(pathname.slice(4)), redirect: '/landed?x=1', body: 'moved' };
  if (pathname === '/choices') return { status: 300, headers: { location: '/a' }, body: 'pick one' };
  const { 'content-type': type, 'content-length': length, 'transfer-encoding': coding } = headers;
  return {
    body: {
      method,
      path,
      // Every form has a boundary of its own.
      type: type?.replace(/boundary=.*/, 'boundary'),
      sized: length !== undefined,
      coding,
      own: headers['x-own'],
      accept: headers.accept,
      agent: headers['user-agent'],
      referer: headers.referer,
      body: type?.startsWith('multipart/') ? body.toString().replace(/-+formdata-undici-\d+/g, '--') : body.toString(),
    },
  };
}

beforeAll(async () => {
  target = await mockTarget({ handler: answer });
  gateway = await mockGateway();
  direct = pacedManager({});
  proxied = pacedManager({ gateway: gateway.url });
});
afterAll(async () => {
  await Promise.all([direct.close(), proxied.close()]);
  await Promise.all([target.close(), gateway.close()]);
});

interface Seen {
  status: number;
  statusText: string;
  url: string;
  redirected: boolean;
  type: string;
  headers: [string, string][];
  body: string;
}

async function seen(response: Response): Promise<Seen> {
  const { status, statusText, url, redirected, type } = response;
  const varying = new Set(['date', 'x-peer-ip']);
  const headers = [...response.headers].filter(([name]) => !varying.has(name));
  return { status, statusText, url, redirected, type, headers, body: await response.text() };
}

type Fetch = (input: never, init: never) => Promise<Response>;

/** What comes back, or the failure: its class, its message and what lies under it. */
async function outcomeOf(fetch: Fetch, make: () => readonly [unknown, object?]): Promise<unknown> {
  try {
    return await seen(await fetch(...(make() as [never, never])));
  } catch (error) {
    const { name, message, cause } = error as Error;
    return { name, message, cause: (cause as Error | undefined)?.message };
  }
}

const form = (): FormData => {
  const data = new FormData();
  data.set('name', 'Ann');
  data.append('file', new File(['content of the file'], 'a.txt', { type: 'text/plain' }));
  data.append('file', new Blob(['a blob']), 'b.bin');
  return data;
};
const digest = createHash('sha256').update('as asked').digest('base64');
const bytes = new TextEncoder().encode('bytes');
const streamOf = (...chunks: string[]): ReadableStream => ReadableStream.from(chunks.map((text) => Buffer.from(text)));

const CASES: Record<string, (url: string) => readonly [unknown, object?]> = {
  'a string': (url) => [`${url}/a?b=c`],
  'a URL': (url) => [new URL(`${url}/a#hash`)],
  'something with toString': (url) => [{ toString: () => `${url}/a` }],
  "undici's Request": (url) => [new Request(`${url}/r`, { method: 'POST', body: 'text', headers: { 'x-own': 'r' } })],
  'a Request and an init that overrides it': (url) => [
    new Request(`${url}/r`, { method: 'POST', body: 'text', headers: { 'x-own': 'r' } }),
    { method: 'PUT', headers: { 'x-own': 'init' }, body: 'other' },
  ],
  'a Request and an init that says nothing': (url) => [
    new Request(`${url}/r`, { method: 'PUT', body: 'text' }),
    { method: undefined, body: undefined, signal: undefined },
  ],
  'a Request as init': (url) => [`${url}/i`, new Request(url, { method: 'DELETE', headers: { 'x-own': 'i' } })],
  'an init of null': (url) => [url, null as never],
  Headers: (url) => [url, { headers: new Headers({ 'X-Own': 'h' }) }],
  "Node's own Headers": (url) => [url, { headers: new globalThis.Headers({ 'X-Own': 'h' }) }],
  'headers as pairs': (url) => [
    url,
    {
      headers: [
        ['x-own', '1'],
        ['x-own', '2'],
      ],
    },
  ],
  'a header of the caller in place of a standard one': (url) => [
    url,
    { headers: { accept: 'text/html', 'user-agent': 'me' } },
  ],
  'a text body': (url) => [url, { method: 'POST', body: 'text' }],
  URLSearchParams: (url) => [url, { method: 'POST', body: new URLSearchParams({ a: '1 2', b: 'ü' }) }],
  'a Blob': (url) => [url, { method: 'POST', body: new Blob(['blob'], { type: 'text/css' }) }],
  'a form with files': (url) => [url, { method: 'POST', body: form() }],
  'an ArrayBuffer': (url) => [url, { method: 'POST', body: bytes.buffer }],
  'a typed array': (url) => [url, { method: 'POST', body: bytes }],
  'a ReadableStream': (url) => [url, { method: 'POST', body: streamOf('one ', 'two'), duplex: 'half' }],
  'a ReadableStream without duplex': (url) => [url, { method: 'POST', body: streamOf('one') }],
  'an async iterable': (url) => [
    url,
    {
      method: 'POST',
      body: (async function* () {
        yield bytes;
      })(),
      duplex: 'half',
    },
  ],
  'a body that is none of these': (url) => [url, { method: 'POST', body: { toString: () => 'object' } }],
  'a body on GET': (url) => [url, { body: 'x' }],
  'a method in lower case': (url) => [url, { method: 'post', body: 'x' }],
  'a method of its own': (url) => [url, { method: 'Purge' }],
  'a forbidden method': (url) => [url, { method: 'CONNECT' }],
  'a method that is no token': (url) => [url, { method: 'GE T' }],
  HEAD: (url) => [url, { method: 'HEAD' }],
  'HEAD of a compressed page': (url) => [`${url}/gzip`, { method: 'HEAD' }],
  OPTIONS: (url) => [url, { method: 'OPTIONS' }],
  204: (url) => [`${url}/status/204`],
  304: (url) => [`${url}/status/304`],
  404: (url) => [`${url}/status/404`],
  500: (url) => [`${url}/status/500`],
  gzip: (url) => [`${url}/gzip`],
  deflate: (url) => [`${url}/deflate`],
  brotli: (url) => [`${url}/br`],
  'headers that come twice': (url) => [`${url}/twice`],
  'a followed 301': (url) => [`${url}/to/301`],
  'a followed 303 after POST': (url) => [`${url}/to/303`, { method: 'POST', body: 'x' }],
  'a followed 307 with its body': (url) => [`${url}/to/307`, { method: 'POST', body: 'again' }],
  'a followed 307 with the body of a Request': (url) => [
    new Request(`${url}/to/307`, { method: 'POST', body: 'again' }),
  ],
  'a 307 whose body is a stream': (url) => [
    `${url}/to/307`,
    { method: 'POST', body: streamOf('once'), duplex: 'half' },
  ],
  'redirect: manual': (url) => [`${url}/to/302`, { redirect: 'manual' }],
  'redirect: error': (url) => [`${url}/to/302`, { redirect: 'error' }],
  'a redirect that is none: 300 with a Location': (url) => [`${url}/choices`],
  'a referrer': (url) => [url, { referrer: 'http://elsewhere.test/page', referrerPolicy: 'unsafe-url' }],
  'integrity that holds': (url) => [`${url}/status/200`, { integrity: `sha256-${digest}` }],
  'integrity that does not': (url) => [`${url}/status/200`, { integrity: 'sha256-AAAA' }],
  'no URL': () => ['not a url'],
  'a relative URL': () => ['/path'],
  'a URL with credentials': (url) => [url.replace('//', '//user:word@')],
  'a URL of another protocol': () => ['ftp://ftp.test/file'],
  'a data: URL': () => ['data:text/plain,hello'],
  'a blocked port': () => ['http://127.0.0.1:25/'],
  'a header name with a line break': (url) => [url, { headers: { 'x\r\ny': '1' } }],
  'a header value with a line break': (url) => [url, { headers: { 'x-own': '1\r\nx-evil: 1' } }],
  'no method but null': (url) => [url, { method: null }],
  'a signal that is none': (url) => [url, { signal: {} }],
};

describe.each(['directly', 'through a gateway'])('%s, proxies.fetch does what fetch does with', (way) => {
  it.for(Object.entries(CASES))('%s', async ([, make]) => {
    const { fetch } = way === 'directly' ? direct : proxied;
    const args = (): readonly [unknown, object?] => make(target.url);
    const expected = await outcomeOf(undiciFetch as Fetch, args);
    const before = target.arrivals.length;
    const got = await outcomeOf(fetch as unknown as Fetch, args);
    expect(got).toEqual(expected);
    // Nothing of this is worth a second attempt.
    expect(target.arrivals.length - before).toBeLessThanOrEqual(2);
  });
});

it('gives Responses of undici, with all they can do', async () => {
  const response = await direct.fetch(`${target.url}/json`);
  expect(response.bodyUsed).toBe(false);
  expect(await response.clone().json()).toMatchObject({ method: 'GET', path: '/json' });
  expect(await response.json()).toMatchObject({ method: 'GET', path: '/json' });
  expect(response.bodyUsed).toBe(true);
});
