import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { classifyOutcome, needsBody, type ResponseFacts } from '../src/outcome.ts';
import type { Outcome } from '../src/store/store.ts';

const HTML = { 'content-type': 'text/html; charset=utf-8' };
const LONG = `<html><body>${'<p>An ordinary page.</p>'.repeat(1000)}`;

const facts = (over: Partial<ResponseFacts>): ResponseFacts => ({
  url: 'https://shop.example/item/1',
  method: 'GET',
  status: 200,
  headers: {},
  ...over,
});

type Row = [what: string, exchange: Partial<ResponseFacts>, outcome: Outcome];

/** A body that is enough: with a refusal, and on a page of its own. */
const strong = (what: string, body: string, outcome: Outcome): Row[] => [
  [`${what} with 403`, { status: 403, body }, outcome],
  [`${what} with 200`, { status: 200, headers: HTML, body }, outcome],
];

/** A word that needs company. */
const weak = (word: string, outcome: Outcome): Row[] => [
  [`${word} with 403`, { status: 403, body: `${LONG.slice(0, 4000)}${word}` }, outcome],
  [`${word} with 503`, { status: 503, body: word }, outcome],
  [`${word} on a short page`, { headers: HTML, body: `<title>${word}</title>` }, outcome],
  [`${word} on a long page`, { headers: HTML, body: `<title>${word}</title>${LONG}` }, 'ok'],
  [
    `${word} on a page of unknown length that fills the look`,
    { headers: HTML, body: `${word}${LONG}`.slice(0, 8192) },
    'ok',
  ],
  [
    `${word} on a page of 9 KB`,
    { headers: { ...HTML, 'content-length': '9000' }, body: `${word}${LONG}`.slice(0, 8192) },
    outcome,
  ],
  [`${word} on a page that goes on`, { headers: HTML, body: word, bodyCut: true }, 'ok'],
  [`${word} with 403 on a page that goes on`, { status: 403, body: word, bodyCut: true }, outcome],
  [
    `${word} on a page that goes on to 9 KB`,
    { headers: { ...HTML, 'content-length': '9000' }, body: word, bodyCut: true },
    outcome,
  ],
  [`${word} with 404`, { status: 404, body: word }, 'ok'],
  [`${word} with 401`, { status: 401, body: word }, 'ok'],
  [`${word} with 500`, { status: 500, body: word }, 'target-error'],
];

const rows: Row[] = [
  // enough alone
  ['cf-mitigated: challenge', { status: 403, headers: { 'cf-mitigated': 'challenge' } }, 'challenged'],
  ['x-amzn-waf-action: challenge (202)', { status: 202, headers: { 'x-amzn-waf-action': 'challenge' } }, 'challenged'],
  ['x-amzn-waf-action: captcha (405)', { status: 405, headers: { 'x-amzn-waf-action': 'captcha' } }, 'challenged'],
  ['x-vercel-mitigated: challenge', { status: 429, headers: { 'x-vercel-mitigated': 'challenge' } }, 'challenged'],
  [
    '/sorry/index',
    { status: 429, url: 'https://www.google.com/sorry/index?continue=https://www.google.com/search' },
    'challenged',
  ],
  ['/sorry/index with 200', { url: 'https://www.google.com/sorry/index' }, 'challenged'],
  // redirects to a challenge
  [
    'a redirect to /sorry/index',
    { status: 302, headers: { location: 'https://www.google.com/sorry/index?q=1' } },
    'challenged',
  ],
  [
    'a redirect to a captcha host',
    { status: 302, headers: { location: 'https://geo.captcha-delivery.com/captcha/?x=1' } },
    'challenged',
  ],
  ['a redirect to /captcha', { status: 307, headers: { location: '/captcha?back=%2Fitem%2F1' } }, 'challenged'],
  [
    '/captcha as the last address',
    { url: 'https://shop.example/captcha', requestedUrl: 'https://shop.example/item/1' },
    'challenged',
  ],
  [
    '/captcha that was asked for',
    { url: 'https://shop.example/captcha', requestedUrl: 'https://shop.example/captcha' },
    'ok',
  ],
  ['/captcha without a word on what was asked', { url: 'https://shop.example/captcha' }, 'ok'],
  ['a redirect elsewhere', { status: 302, headers: { location: '/challenges/2025?about=captcha' } }, 'ok'],
  ['a redirect to nowhere', { status: 302, headers: { location: 'http://[captcha' } }, 'ok'],
  // strong in a body
  ...strong('Reference #18.', '<H1>Access Denied</H1> Reference #18.2d351ab8.1557333295.a4e16ab', 'blocked'),
  ...strong('Reference #18. as entities', 'Reference&#32;&#35;18&#46;2d351ab8', 'blocked'),
  ...strong('challenge-form', '<form id="challenge-form" action="/?__cf_chl_f_tk=abc">', 'challenged'),
  ...strong('cf-error-code', '<span class="cf-error-code">1020</span>', 'blocked'),
  ...strong(
    'challenge-platform',
    '<script src="/cdn-cgi/challenge-platform/h/b/orchestrate/chl_page/v1"></script>',
    'challenged',
  ),
  ...strong('_pxAppId', "<script>window._pxAppId = 'PX1';</script>", 'challenged'),
  ...strong('captcha-delivery.com', '<script src="https://ct.captcha-delivery.com/c.js"></script>', 'challenged'),
  ...strong('_Incapsula_Resource', '<iframe src="/_Incapsula_Resource?CWUDNSAI=9"></iframe>', 'challenged'),
  ...strong('Incapsula incident ID', 'Request unsuccessful. Incapsula incident ID: 415000540100118', 'blocked'),
  ...strong('Pardon Our Interruption', '<title>Pardon Our Interruption</title>', 'challenged'),
  ['a guard page with 401', { status: 401, body: 'https://geo.captcha-delivery.com/captcha/' }, 'challenged'],
  ['a guard page with 429', { status: 429, body: '<script src="https://ct.captcha-delivery.com/c.js">' }, 'challenged'],
  [
    'a guard page that is long',
    { headers: HTML, body: `<script src="https://ct.captcha-delivery.com/c.js">${LONG}` },
    'challenged',
  ],
  [
    'cf-error-code 1015 with 403 is a limit',
    { status: 403, body: '<span class="cf-error-code">1015</span>' },
    'rate-limited',
  ],
  ['cf-error-code 1015 is a limit', { status: 429, body: '<span class="cf-error-code">1015</span>' }, 'rate-limited'],
  ['cf-error-code 1016 is the site', { status: 503, body: '<span class="cf-error-code">1016</span>' }, 'target-error'],
  ['cf-error-code 522 is the site', { status: 522, body: '<span class="cf-error-code">522</span>' }, 'target-error'],
  // weak
  ...weak('Access Denied', 'blocked'),
  ...weak('Just a moment', 'challenged'),
  ...weak('Checking your browser', 'challenged'),
  ...weak('g-recaptcha', 'challenged'),
  ...weak('h-captcha', 'challenged'),
  // presence
  ['cf-ray', { headers: { 'cf-ray': '972a33bb3977d246-FRA', server: 'cloudflare' } }, 'ok'],
  ['x-datadome', { headers: { 'x-datadome': 'protected' } }, 'ok'],
  ['X-Iinfo', { headers: { 'x-iinfo': '1-2-3', 'x-cdn': 'Imperva' } }, 'ok'],
  ['vendor cookies', { headers: { 'set-cookie': ['datadome=1', 'cf_clearance=2', '_px3=3'] } }, 'ok'],
  ['the script Cloudflare injects', { body: '<script src="/cdn-cgi/challenge-platform/scripts/jsd/main.js">' }, 'ok'],
  [
    'the script Cloudflare injects, with a zone',
    { body: '<script src="/cdn-cgi/challenge-platform/h/g/scripts/jsd/x/main.js">' },
    'ok',
  ],
  [
    'a sensor on an ordinary page',
    { headers: HTML, body: `window._pxAppId = 'PX1' _Incapsula_Resource ${LONG}` },
    'ok',
  ],
  // by status
  ['200', {}, 'ok'],
  ['204', { status: 204 }, 'ok'],
  ['301', { status: 301, headers: { location: '/item/2' } }, 'ok'],
  ['401', { status: 401 }, 'ok'],
  ['403', { status: 403 }, 'blocked'],
  ['404', { status: 404 }, 'ok'],
  ['407 of a target', { status: 407 }, 'ok'],
  ['429', { status: 429 }, 'rate-limited'],
  ['500', { status: 500 }, 'target-error'],
  ['502', { status: 502 }, 'target-error'],
  ['503', { status: 503 }, 'target-error'],
  ['504', { status: 504 }, 'target-error'],
  // quotas
  [
    '403, nothing remaining (GitHub)',
    {
      status: 403,
      headers: { 'x-ratelimit-limit': '60', 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '1735732800' },
    },
    'rate-limited',
  ],
  [
    '403, Retry-After beside a quota (GitHub, secondary)',
    { status: 403, headers: { 'x-ratelimit-remaining': '58', 'retry-after': '60' } },
    'rate-limited',
  ],
  [
    '403, in words only (GitHub, secondary)',
    { status: 403, body: '{"message":"You have exceeded a secondary rate limit."}' },
    'rate-limited',
  ],
  ['403, plenty remaining', { status: 403, headers: { 'x-ratelimit-remaining': '58' } }, 'blocked'],
  ['403, Retry-After alone', { status: 403, headers: { 'retry-after': '60' } }, 'blocked'],
  ['503, nothing remaining', { status: 503, headers: { ratelimit: '"default";r=0;t=30' } }, 'rate-limited'],
  ['503, Retry-After alone', { status: 503, headers: { 'retry-after': '60' } }, 'target-error'],
  ['200, nothing remaining', { headers: { 'x-ratelimit-remaining': '0' } }, 'ok'],
  [
    '429 with Retry-After, whatever the page says',
    { status: 429, headers: { 'retry-after': '9' }, body: 'g-recaptcha captcha-delivery.com' },
    'rate-limited',
  ],
  ['429 with a weak word', { status: 429, body: 'Access Denied' }, 'rate-limited'],
  // a gateway that reports the target's ban
  ['x-crawlera-error: banned', { status: 503, headers: { 'x-crawlera-error': 'banned' } }, 'blocked'],
];

describe('classifyOutcome', () => {
  it.each(rows)('%s', (_what, exchange, outcome) => {
    expect(classifyOutcome(facts(exchange))).toBe(outcome);
  });

  it.each(
    rows.filter(
      ([, exchange, outcome]) =>
        exchange.body !== undefined && classifyOutcome(facts({ ...exchange, body: undefined })) !== outcome,
    ),
  )('needs the body for: %s', (_what, exchange) => {
    expect(needsBody(facts({ ...exchange, headers: { ...HTML, ...exchange.headers } }), true)).toBe(true);
  });
});

describe('needsBody', () => {
  it.each<[string, Partial<ResponseFacts>, boolean, boolean]>([
    ['403', { status: 403 }, false, true],
    ['403 as JSON', { status: 403, headers: { 'content-type': 'application/problem+json' } }, false, true],
    ['403 as an image', { status: 403, headers: { 'content-type': 'image/png' } }, false, false],
    ['403 without a body', { status: 403, headers: { 'content-length': '0' } }, false, false],
    ['403 to HEAD', { status: 403, method: 'HEAD' }, false, false],
    ['403 that its headers explain', { status: 403, headers: { 'cf-mitigated': 'challenge' } }, false, false],
    ['403 that a quota explains', { status: 403, headers: { 'x-ratelimit-remaining': '0' } }, false, false],
    ['429', { status: 429 }, false, true],
    ['429 with Retry-After', { status: 429, headers: { 'retry-after': '1' } }, false, false],
    ['503', { status: 503 }, false, true],
    ['500', { status: 500 }, false, false],
    ['404', { status: 404 }, true, false],
    ['302', { status: 302 }, true, false],
    ['200 unasked', { headers: HTML }, false, false],
    ['200 asked', { headers: HTML }, true, true],
    ['202 asked', { status: 202, headers: HTML }, true, true],
    ['200 as JSON, asked', { headers: { 'content-type': 'application/json' } }, true, false],
    ['200 of no type, asked', {}, true, false],
  ])('%s', (_what, exchange, asked, needed) => {
    expect(needsBody(facts(exchange), asked)).toBe(needed);
  });
});

describe('whatever a server sends', () => {
  const OUTCOMES = ['ok', 'rate-limited', 'blocked', 'challenged', 'target-error'];
  const names = [
    'cf-mitigated',
    'x-amzn-waf-action',
    'x-vercel-mitigated',
    'location',
    'retry-after',
    'ratelimit',
    'x-ratelimit-remaining',
    'content-type',
    'content-length',
    'x-crawlera-error',
    'date',
  ];
  const bytes = fc.uint8Array({ maxLength: 9000 }).map((data) => Buffer.from(data).toString('latin1'));
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.webUrl(),
    fc.constantFrom(
      'challenge',
      'captcha',
      '0',
      '/sorry/index',
      'cf-error-code'.repeat(600),
      '/cdn-cgi/challenge-platform/'.repeat(290),
      'a'.repeat(9000),
      `https://${'captcha.'.repeat(900)}`,
    ),
  );
  const exchange = fc.record(
    {
      url: fc.oneof(fc.webUrl(), text),
      requestedUrl: fc.oneof(fc.webUrl(), text),
      method: fc.constantFrom('GET', 'POST', 'HEAD', ''),
      status: fc.oneof(fc.integer({ min: 100, max: 599 }), fc.constantFrom(200, 202, 403, 429, 503), fc.integer()),
      headers: fc.dictionary(fc.constantFrom(...names), fc.oneof(text, fc.array(text, { maxLength: 3 }))),
      body: fc.oneof(
        bytes,
        text,
        fc.array(text).map((parts) => parts.join('')),
      ),
    },
    { requiredKeys: ['url', 'method', 'status', 'headers'] },
  );

  it('nothing throws, and the verdict is one of the outcomes', () => {
    fc.assert(
      fc.property(exchange, fc.boolean(), (answer, asked) => {
        expect(OUTCOMES).toContain(classifyOutcome(answer));
        expect(typeof needsBody(answer, asked)).toBe('boolean');
      }),
      { numRuns: 2000 },
    );
  });

  it('a body that was not needed changes nothing', () => {
    const refusal = exchange.filter(({ method, status }) => method === 'GET' && (status < 200 || status > 299));
    fc.assert(
      fc.property(
        refusal,
        fc.oneof(bytes, fc.constantFrom('Access Denied', 'captcha-delivery.com')),
        (answer, body) => {
          const { 'content-length': _length, ...rest } = answer.headers;
          const bare: ResponseFacts = { ...answer, headers: { ...rest, ...HTML }, body: undefined };
          if (!needsBody(bare)) expect(classifyOutcome({ ...bare, body })).toBe(classifyOutcome(bare));
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('takes linear time', () => {
    const ms = (repeats: number): number => {
      const answer = facts({
        status: 403,
        body: 'cf-error-code/cdn-cgi/challenge-platform/'.repeat(repeats),
        url: `https://a.example/${'captcha'.repeat(repeats)}`,
      });
      const from = performance.now();
      classifyOutcome(answer);
      return performance.now() - from;
    };
    ms(10);
    expect(ms(100_000)).toBeLessThan(500);
  });
});
