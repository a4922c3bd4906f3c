import { createHash, randomBytes } from 'node:crypto';
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import type { ProxyManager, ResponseFacts } from 'paceline';
import { type MockGateway, type MockTarget, mockGateway, mockTarget, type TargetReply } from 'paceline/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Outcome } from '../../src/store/store.ts';
import { closeClean, pacedManager } from '../support/paced.ts';

// What a real response is taken for, body included. One attempt each: what comes back is what was judged.

const HTML = { 'content-type': 'text/html; charset=utf-8' };
const LONG = `<html><body>${'<p>An ordinary page.</p>'.repeat(1000)}`;
const NO_RETRY = { attempts: 1 };

let target: MockTarget;
let gateway: MockGateway;
let looking: ProxyManager;
let plain: ProxyManager;
const replies = new Map<string, TargetReply>();

beforeAll(async () => {
  target = await mockTarget({ handler: ({ path }) => replies.get(path) ?? { body: 'landed' } });
  gateway = await mockGateway({ hosts: { 'shop.test': target.url } });
  // Its refusals are no matter here, and a session must not wait for the end of an ejection.
  plain = pacedManager({ gateway: gateway.url, retry: NO_RETRY, health: false });
  looking = pacedManager({ gateway: gateway.url, retry: NO_RETRY, health: false, inspectBody: true });
});
afterAll(async () => {
  for (const proxies of [plain, looking]) {
    expect((await proxies.stats()).inFlight).toBe(0);
    await proxies.close();
  }
  await closeClean(plain, { gateway, target });
  await Promise.all([target.close(), gateway.close()]);
});

const digestOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

let count = 0;

/** Sends the answer through the gateway, and gives what it was taken for. */
async function outcomeOf(
  reply: TargetReply & { path?: string },
  proxies: ProxyManager = plain,
  init: Parameters<ProxyManager['fetch']>[1] = {},
): Promise<Outcome | undefined> {
  const path = reply.path ?? `/${count++}`;
  replies.set(path, reply);
  const response = await proxies.fetch(`http://shop.test${path}`, init);
  const outcome = proxies.exchange(response)?.outcome;
  await response.arrayBuffer();
  return outcome;
}

/** The strong signals, each with a 403, and on a page of its own. */
const STRONG: [what: string, body: string, outcome: Outcome][] = [
  ['Reference #18.', '<H1>Access Denied</H1> Reference #18.2d351ab8.1557333295.a4e16ab', 'blocked'],
  ['challenge-form', '<form id="challenge-form" action="/?__cf_chl_f_tk=abc">', 'challenged'],
  ['cf-error-code', '<span class="cf-error-code">1020</span>', 'blocked'],
  ['cf-error-code 1015', '<span class="cf-error-code">1015</span>', 'rate-limited'],
  [
    '/cdn-cgi/challenge-platform/',
    '<script src="/cdn-cgi/challenge-platform/h/b/orchestrate/x"></script>',
    'challenged',
  ],
  ['window._pxAppId =', "<script>window._pxAppId = 'PX1';</script>", 'challenged'],
  ['captcha-delivery.com', '<script src="https://ct.captcha-delivery.com/c.js"></script>', 'challenged'],
  ['_Incapsula_Resource', '<iframe src="/_Incapsula_Resource?CWUDNSAI=9"></iframe>', 'challenged'],
  ['Incapsula incident ID', 'Request unsuccessful. Incapsula incident ID: 415000540100118', 'blocked'],
  ['Pardon Our Interruption', '<title>Pardon Our Interruption</title>', 'challenged'],
];

const WEAK: [word: string, outcome: Outcome][] = [
  ['Access Denied', 'blocked'],
  ['Just a moment', 'challenged'],
  ['Checking your browser', 'challenged'],
  ['g-recaptcha', 'challenged'],
  ['h-captcha', 'challenged'],
];

describe('the table of block signals', () => {
  it.each<[string, TargetReply & { path?: string }]>([
    ['cf-mitigated: challenge', { status: 403, headers: { 'cf-mitigated': 'challenge' } }],
    ['x-amzn-waf-action: challenge', { status: 202, headers: { 'x-amzn-waf-action': 'challenge' } }],
    ['x-amzn-waf-action: captcha', { status: 405, headers: { 'x-amzn-waf-action': 'captcha' } }],
    ['x-vercel-mitigated: challenge', { status: 403, headers: { 'x-vercel-mitigated': 'challenge' } }],
    ['/sorry/index', { path: '/sorry/index?continue=x', status: 429, body: 'unusual traffic' }],
    ['a redirect to /sorry/index', { redirect: '/sorry/index?q=1' }],
  ])('enough alone: %s', async (_what, reply) => {
    expect(await outcomeOf(reply)).toBe('challenged');
  });

  it('a redirect to a captcha page is a challenge; the page itself, asked for, is a page', async () => {
    expect(await outcomeOf({ redirect: '/captcha?back=1' })).toBe('challenged');
    expect(await outcomeOf({ path: '/captcha', body: 'a plugin for captchas' })).toBe('ok');
  });

  it.each(STRONG)('strong in a body: %s', async (_what, body, outcome) => {
    const reply = { headers: HTML, body };
    expect(await outcomeOf({ ...reply, status: 403 })).toBe(outcome);
    expect(await outcomeOf(reply, looking)).toBe(outcome);
    expect(await outcomeOf(reply, plain)).toBe('ok');
  });

  it.each(WEAK)('weak: %s', async (word, outcome) => {
    expect(await outcomeOf({ status: 403, headers: HTML, body: `${LONG.slice(0, 4000)}${word}` })).toBe(outcome);
    expect(await outcomeOf({ status: 503, headers: HTML, body: word })).toBe(outcome);
    expect(await outcomeOf({ status: 429, headers: HTML, body: word })).toBe('rate-limited');
    expect(await outcomeOf({ status: 404, headers: HTML, body: word }, looking)).toBe('ok');
    expect(await outcomeOf({ headers: HTML, body: word }, looking)).toBe(outcome);
    expect(await outcomeOf({ headers: HTML, body: `${word}${LONG}` }, looking)).toBe('ok');
  });

  it.each<[status: number, outcome: Outcome]>([
    [200, 'ok'],
    [204, 'ok'],
    [304, 'ok'],
    [401, 'ok'],
    [403, 'blocked'],
    [404, 'ok'],
    [429, 'rate-limited'],
    [500, 'target-error'],
    [502, 'target-error'],
    [503, 'target-error'],
    [504, 'target-error'],
  ])('by status: %i', async (status, outcome) => {
    for (const proxies of [plain, looking]) {
      expect(await outcomeOf({ status, headers: HTML, body: 'nothing to see' }, proxies)).toBe(outcome);
    }
  });
});

describe('the right blame', () => {
  it("a target's own 503 page is its trouble", async () => {
    const body = '<h1>503 Service Unavailable</h1><p>No server is available to handle this request.</p>';
    expect(await outcomeOf({ status: 503, headers: HTML, body }, looking)).toBe('target-error');
  });

  it.each([
    ['PerimeterX', "<script>window._pxAppId = 'PX1';</script>"],
    ['Imperva', '<script src="/_Incapsula_Resource?SWJIYLWA=1"></script>'],
    ['Cloudflare', '<script src="/cdn-cgi/challenge-platform/scripts/jsd/main.js"></script>'],
    ['a contact form', '<div class="g-recaptcha"></div>'],
  ])('that the script of %s is on an ordinary page is no block', async (_vendor, script) => {
    expect(await outcomeOf({ headers: HTML, body: script + LONG }, looking)).toBe('ok');
  });
});

describe('every coding', () => {
  it.each<[string, (data: string) => Uint8Array]>([
    ['gzip', gzipSync],
    ['x-gzip', gzipSync],
    ['deflate', deflateSync],
    ['deflate', deflateRawSync],
    ['br', brotliCompressSync],
    ['zstd', zstdCompressSync],
    ['gzip, br', (data) => brotliCompressSync(gzipSync(data))],
  ])('%s: a 503 with a challenge is one, and is read as it was sent', async (coding, encode) => {
    const page = `<form id="challenge-form" action="/?__cf_chl_f_tk=abc">${LONG}`;
    const body = encode(page);
    replies.set('/coded', { status: 503, headers: { ...HTML, 'content-encoding': coding }, body });
    const response = await plain.fetch('http://shop.test/coded');
    expect(plain.exchange(response)?.outcome).toBe('challenged');
    expect(await response.text()).toBe(page);
  });

  it('what is not in the coding it claims is judged by its status', async () => {
    const body = 'Access Denied, captcha-delivery.com';
    const headers = { ...HTML, 'content-encoding': 'zstd' };
    replies.set('/broken', { status: 503, headers, body });
    const response = await plain.fetch('http://shop.test/broken');
    expect(plain.exchange(response)?.outcome).toBe('target-error');
    await response.text().catch(() => {});
  });
});

describe('what is not looked at', () => {
  const GUARD = '<script src="https://ct.captcha-delivery.com/c.js"></script>';

  it('an answer to HEAD', async () => {
    expect(await outcomeOf({ status: 403, headers: { 'content-length': '9' } }, plain, { method: 'HEAD' })).toBe(
      'blocked',
    );
  });

  it('an image', async () => {
    expect(await outcomeOf({ status: 403, headers: { 'content-type': 'image/png' }, body: GUARD })).toBe('blocked');
  });

  it('JSON with 200; with 400 it is', async () => {
    const headers = { 'content-type': 'application/json' };
    expect(await outcomeOf({ headers, body: GUARD }, looking)).toBe('ok');
    expect(await outcomeOf({ status: 400, body: { error: 'field "name" is missing' } }, looking)).toBe('ok');
    expect(await outcomeOf({ status: 400, body: { url: 'https://geo.captcha-delivery.com/' } })).toBe('challenged');
  });
});

describe('pages that look like a success', () => {
  const reply = { headers: HTML, body: '<title>Just a moment...</title>' };

  it('are looked at where the manager is told to, unless the request says otherwise', async () => {
    expect(await outcomeOf(reply, looking)).toBe('challenged');
    expect(await outcomeOf(reply, looking, { pace: { inspectBody: false } })).toBe('ok');
  });

  it('are looked at where the request asks, unless nobody does', async () => {
    expect(await outcomeOf(reply, plain)).toBe('ok');
    expect(await outcomeOf(reply, plain, { pace: { inspectBody: true } })).toBe('challenged');
  });
});

describe("the caller's own classify", () => {
  it('is asked once, with the body where that was looked at', async () => {
    const asked: ResponseFacts[] = [];
    await using proxies = pacedManager({
      gateway: gateway.url,
      retry: NO_RETRY,
      classify: (facts) => {
        asked.push(facts);
        return facts.body?.includes('teapot') ? 'blocked' : undefined;
      },
    });
    expect(await outcomeOf({ status: 418, headers: HTML, body: 'a teapot' }, proxies)).toBe('blocked');
    expect(await outcomeOf({ status: 418, headers: HTML, body: 'a kettle' }, proxies)).toBe('ok');
    expect(await outcomeOf({ headers: HTML, body: 'a teapot' }, proxies)).toBe('ok');
    expect(asked.map(({ status, body, bodyCut }) => [status, body, bodyCut])).toEqual([
      [418, 'a teapot', false],
      [418, 'a kettle', false],
      [200, undefined, undefined],
    ]);
  });

  it('is asked with 8,192 characters of a long one', async () => {
    let facts: ResponseFacts | undefined;
    await using proxies = pacedManager({
      gateway: gateway.url,
      retry: NO_RETRY,
      classify: (exchange) => void (facts = exchange),
    });
    await outcomeOf({ status: 403, headers: HTML, body: LONG }, proxies);
    expect(facts).toMatchObject({ body: LONG.slice(0, 8192), bodyCut: true });
  });
});

it.each([1, 8191, 8192, 8193, 65_535, 65_536, 65_537, 1_000_000])('a body of %i bytes comes whole', async (length) => {
  const body = randomBytes(length);
  replies.set('/large', { status: 403, headers: HTML, body });
  const opened: number[] = [];
  for (let i = 0; i < 2; i++) {
    const response = await plain.fetch('http://shop.test/large', { pace: { session: `large${length}` } });
    const received = Buffer.from(await response.arrayBuffer());
    expect(digestOf(received)).toBe(digestOf(body));
    opened.push(gateway.stats().connects);
  }
  expect(opened[1], 'the tunnel is used again').toBe(opened[0]);
});

it('whatever a target sends with whatever status, it is judged and comes whole', async () => {
  const text = fc.constantFrom(
    'Access Denied',
    'cf-error-code',
    '/cdn-cgi/challenge-platform/',
    'captcha-delivery.com',
    '\0',
  );
  const body = fc.oneof(
    fc.uint8Array({ maxLength: 20_000 }),
    fc.array(fc.oneof(text, fc.string()), { maxLength: 50 }).map((parts) => Buffer.from(parts.join(' '))),
  );
  const status = fc.constantFrom(200, 202, 400, 401, 403, 405, 429, 503);
  const type = fc.constantFrom('text/html', 'text/plain; charset=utf-16le', 'application/json', 'text/html; charset="');
  await fc.assert(
    fc.asyncProperty(status, type, body, async (code, contentType, bytes) => {
      replies.set('/any', { status: code, headers: { 'content-type': contentType }, body: bytes });
      const response = await looking.fetch('http://shop.test/any');
      expect(looking.exchange(response)?.outcome).toBeTypeOf('string');
      expect(Buffer.from(await response.arrayBuffer()).equals(Buffer.from(bytes))).toBe(true);
    }),
    { numRuns: 150 },
  );
});
