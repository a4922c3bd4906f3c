import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { quotaSpacing } from '../../src/headers/quota-spacing.ts';
import { parseRateLimit } from '../../src/headers/rate-limit.ts';
import type { RateLimitInfo } from '../../src/headers/rate-limit-info.ts';

const NOW = Date.UTC(2025, 0, 1, 12, 0, 0);
const EPOCH = NOW / 1000;
const YEAR = 365 * 86_400_000;

type Row = [what: string, headers: Record<string, string | string[] | undefined>, infos: RateLimitInfo[]];

const rows: Row[] = [
  // the IETF's draft
  [
    'IETF list',
    { ratelimit: '"default";r=50;t=30' },
    [{ name: 'default', remaining: 50, resetMs: 30_000, source: 'ratelimit' }],
  ],
  [
    'IETF list with its policies',
    {
      ratelimit: '"burst";r=3;t=20',
      'ratelimit-policy': '"burst";q=100;w=60, "daily";q=1000;w=86400;qu="content-bytes"',
    },
    [
      { name: 'burst', remaining: 3, resetMs: 20_000, limit: 100, windowMs: 60_000, source: 'ratelimit' },
      { name: 'daily', limit: 1000, windowMs: 86_400_000, unit: 'content-bytes', source: 'ratelimit-policy' },
    ],
  ],
  [
    'IETF policy alone',
    { 'ratelimit-policy': '"burst";q=100;w=60' },
    [{ name: 'burst', limit: 100, windowMs: 60_000, source: 'ratelimit-policy' }],
  ],
  [
    'IETF list, token for a name, no reset',
    { ratelimit: 'default;r=0' },
    [{ name: 'default', remaining: 0, source: 'ratelimit' }],
  ],
  [
    'IETF list over two fields',
    { ratelimit: ['"a";r=1;t=2', '"b";r=3'] },
    [
      { name: 'a', remaining: 1, resetMs: 2000, source: 'ratelimit' },
      { name: 'b', remaining: 3, source: 'ratelimit' },
    ],
  ],
  [
    'IETF dictionary (revision 07)',
    { ratelimit: 'limit=100, remaining=50, reset=30', 'ratelimit-policy': '100;w=60, 5000;w=3600' },
    [{ limit: 100, remaining: 50, resetMs: 30_000, windowMs: 60_000, source: 'ratelimit' }],
  ],
  ['IETF malformed', { ratelimit: '"default";r=50;t=' }, []],
  ['IETF negative', { ratelimit: '"default";r=-1;t=30' }, []],
  ['IETF inner list', { ratelimit: '("a" "b");r=1' }, []],
  // the older drafts
  [
    'older draft, seconds from now',
    { 'ratelimit-limit': '100', 'ratelimit-remaining': '40', 'ratelimit-reset': '30' },
    [{ limit: 100, remaining: 40, resetMs: 30_000, source: 'ratelimit' }],
  ],
  [
    'older draft, with windows in the limit',
    { 'ratelimit-limit': '100, 100;w=60, 1000;w=3600', 'ratelimit-remaining': '40', 'ratelimit-reset': '30' },
    [{ limit: 100, remaining: 40, resetMs: 30_000, windowMs: 60_000, source: 'ratelimit' }],
  ],
  [
    'GitLab, epoch seconds under the same name',
    {
      'ratelimit-limit': '600',
      'ratelimit-name': 'throttle_authenticated_api',
      'ratelimit-observed': '1',
      'ratelimit-remaining': '599',
      'ratelimit-reset': String(EPOCH + 40),
    },
    [{ name: 'throttle_authenticated_api', limit: 600, remaining: 599, resetMs: 40_000, source: 'ratelimit' }],
  ],
  [
    'both drafts at once: the current one',
    {
      ratelimit: '"default";r=50;t=30',
      'ratelimit-limit': '100',
      'ratelimit-remaining': '50',
      'ratelimit-reset': '30',
    },
    [{ name: 'default', remaining: 50, resetMs: 30_000, source: 'ratelimit' }],
  ],
  // vendors
  [
    'GitHub, epoch seconds',
    {
      'x-ratelimit-limit': '5000',
      'x-ratelimit-remaining': '0',
      'x-ratelimit-used': '5000',
      'x-ratelimit-resource': 'core',
      'x-ratelimit-reset': String(EPOCH + 1800),
    },
    [{ name: 'core', limit: 5000, remaining: 0, resetMs: 1_800_000, source: 'x-ratelimit' }],
  ],
  [
    'GitHub, a clock that is 100 s ahead of ours',
    { date: 'Wed, 01 Jan 2025 12:01:40 GMT', 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': String(EPOCH + 130) },
    [{ remaining: 0, resetMs: 30_000, source: 'x-ratelimit' }],
  ],
  [
    'Okta and X, epoch seconds',
    { 'x-rate-limit-limit': '600', 'x-rate-limit-remaining': '598', 'x-rate-limit-reset': String(EPOCH + 60) },
    [{ limit: 600, remaining: 598, resetMs: 60_000, source: 'x-rate-limit' }],
  ],
  [
    'Reddit, seconds from now, a float, no limit',
    { 'x-ratelimit-remaining': '95.0', 'x-ratelimit-used': '5', 'x-ratelimit-reset': '297' },
    [{ limit: 100, remaining: 95, resetMs: 297_000, source: 'x-ratelimit' }],
  ],
  [
    'Discord, the relative reset before the absolute one',
    {
      'x-ratelimit-limit': '5',
      'x-ratelimit-remaining': '0',
      'x-ratelimit-reset': String(EPOCH + 999.5),
      'x-ratelimit-reset-after': '64.57',
      'x-ratelimit-bucket': 'abcd1234',
      'x-ratelimit-scope': 'user',
    },
    [{ name: 'abcd1234', limit: 5, remaining: 0, resetMs: 64_570, scope: 'account', source: 'x-ratelimit' }],
  ],
  [
    'Discord, epoch with decimals alone',
    { 'x-ratelimit-reset': String(EPOCH + 1.5) },
    [{ resetMs: 1500, source: 'x-ratelimit' }],
  ],
  [
    'OpenAI, Go durations, requests and tokens',
    {
      'x-ratelimit-limit-requests': '60',
      'x-ratelimit-remaining-requests': '59',
      'x-ratelimit-reset-requests': '12ms',
      'x-ratelimit-limit-tokens': '150000',
      'x-ratelimit-remaining-tokens': '149984',
      'x-ratelimit-reset-tokens': '6m0s',
    },
    [
      { name: 'requests', limit: 60, remaining: 59, resetMs: 12, scope: 'account', source: 'x-ratelimit-requests' },
      {
        name: 'tokens',
        limit: 150_000,
        remaining: 149_984,
        resetMs: 360_000,
        unit: 'tokens',
        scope: 'account',
        source: 'x-ratelimit-tokens',
      },
    ],
  ],
  [
    'Azure OpenAI, seconds; -1 and 0 say nothing',
    {
      'x-ratelimit-limit-requests': '-1',
      'x-ratelimit-remaining-requests': '-1',
      'x-ratelimit-reset-requests': '10',
      'x-ratelimit-limit-tokens': '0',
      'x-ratelimit-remaining-tokens': '-1',
      'x-ratelimit-reset-tokens': '-1',
    },
    [{ name: 'requests', resetMs: 10_000, scope: 'account', source: 'x-ratelimit-requests' }],
  ],
  [
    'Anthropic, RFC 3339',
    {
      'anthropic-ratelimit-requests-limit': '1000',
      'anthropic-ratelimit-requests-remaining': '999',
      'anthropic-ratelimit-requests-reset': '2025-01-01T12:00:01Z',
      'anthropic-ratelimit-input-tokens-remaining': '80000',
      'anthropic-ratelimit-input-tokens-reset': '2025-01-01T11:59:59Z',
    },
    [
      {
        name: 'requests',
        limit: 1000,
        remaining: 999,
        resetMs: 1000,
        scope: 'account',
        source: 'anthropic-ratelimit-requests',
      },
      {
        name: 'input-tokens',
        remaining: 80_000,
        resetMs: 0,
        unit: 'tokens',
        scope: 'account',
        source: 'anthropic-ratelimit-input-tokens',
      },
    ],
  ],
  [
    'Shopify, used/limit',
    { 'x-shopify-shop-api-call-limit': '32/40' },
    [{ limit: 40, remaining: 8, scope: 'account', source: 'x-shopify-shop-api-call-limit' }],
  ],
  [
    'Atlassian, ISO 8601 to the minute: until that minute is over',
    { 'x-ratelimit-reset': '2025-01-01T12:05Z' },
    [{ resetMs: 360_000, source: 'x-ratelimit' }],
  ],
  // telling units apart
  ['epoch milliseconds', { 'x-ratelimit-reset': String(NOW + 90) }, [{ resetMs: 90, source: 'x-ratelimit' }]],
  [
    'an HTTP-date',
    { 'x-ratelimit-reset': 'Wed, 01 Jan 2025 12:00:45 GMT' },
    [{ resetMs: 45_000, source: 'x-ratelimit' }],
  ],
  ['a reset in the past', { 'x-ratelimit-reset': String(EPOCH - 90) }, [{ resetMs: 0, source: 'x-ratelimit' }]],
  ['a reset beyond belief', { 'x-ratelimit-reset': '99999999' }, [{ resetMs: YEAR, source: 'x-ratelimit' }]],
  [
    'what Date.parse would take',
    { 'x-ratelimit-remaining': '-5', 'x-ratelimit-reset': '-5', 'x-ratelimit-limit': 'January 1, 2026' },
    [],
  ],
  [
    'two layers: the least remains, the later reset',
    { 'x-ratelimit-remaining': '5, 3', 'x-ratelimit-reset': '10, 20' },
    [{ remaining: 3, resetMs: 20_000, source: 'x-ratelimit' }],
  ],
  ['none', { 'content-type': 'text/html', 'retry-after': '30' }, []],
];

describe('parseRateLimit', () => {
  it.each(rows)('%s', (_what, headers, infos) => {
    expect(parseRateLimit(headers, NOW)).toEqual(infos);
  });

  it('reads a Headers object too, and caps the reset', () => {
    const headers = new Headers({ 'RateLimit-Remaining': '0', 'RateLimit-Reset': '7200' });
    expect(parseRateLimit(headers, NOW, 3_600_000)).toEqual([
      { remaining: 0, resetMs: 3_600_000, source: 'ratelimit' },
    ]);
  });
});

describe('quotaSpacing', () => {
  const info: RateLimitInfo = { limit: 100, remaining: 5, resetMs: 10_000, source: 'ratelimit' };
  it.each<[string, RateLimitInfo, ReturnType<typeof quotaSpacing>]>([
    ['spreads the rest below a tenth', info, { spacingMs: 2000, untilMs: 11_000, exhausted: false }],
    ['leaves a tenth alone', { ...info, remaining: 10 }, undefined],
    ['waits with nothing left', { ...info, remaining: 0 }, { spacingMs: 10_000, untilMs: 11_000, exhausted: true }],
    [
      'waits with half a request left',
      { ...info, remaining: 0.5 },
      { spacingMs: 10_000, untilMs: 11_000, exhausted: true },
    ],
    ['counts whole requests', { ...info, remaining: 1.5 }, { spacingMs: 10_000, untilMs: 11_000, exhausted: false }],
    [
      'waits without a known limit',
      { ...info, limit: undefined, remaining: 0 },
      { spacingMs: 10_000, untilMs: 11_000, exhausted: true },
    ],
    ['knows no share without a limit', { ...info, limit: undefined }, undefined],
    [
      'takes the window for want of a reset',
      { ...info, resetMs: undefined, windowMs: 60_000 },
      { spacingMs: 12_000, untilMs: 61_000, exhausted: false },
    ],
    ['has nothing to spread over without either', { ...info, resetMs: undefined }, undefined],
    ['is over at the reset', { ...info, remaining: 0, resetMs: 0 }, undefined],
    ['does not spread tokens over requests', { ...info, unit: 'tokens' }, undefined],
    [
      'waits when the tokens are gone',
      { ...info, unit: 'tokens', remaining: 0 },
      { spacingMs: 10_000, untilMs: 11_000, exhausted: true },
    ],
    ['leaves concurrency alone', { ...info, unit: 'concurrent-requests', remaining: 0 }, undefined],
    ['says nothing of an announced policy', { limit: 100, windowMs: 60_000, source: 'ratelimit-policy' }, undefined],
  ])('%s', (_what, quota, spacing) => {
    expect(quotaSpacing(quota, 1000)).toEqual(spacing);
  });

  it('takes the share from its options', () => {
    expect(quotaSpacing({ ...info, remaining: 40 }, 0, { below: 0.5 })).toMatchObject({ spacingMs: 250 });
  });
});

describe('whatever a server sends', () => {
  const NAMES = [...new Set(rows.flatMap(([, headers]) => Object.keys(headers))), 'date', 'ratelimit-policy'];
  const snippet = fc.constantFrom(
    '-1',
    '0',
    '5',
    '1e999',
    '99999999999999999',
    'NaN',
    'Infinity',
    '-5',
    '"a";r=1;t=2',
    '"a";q=5;w=0',
    'limit=1, reset=-1',
    '6m0s',
    'PT30S',
    '2025-01-01T12:05Z',
    '9999-12-31T23:59Z',
    'Wed, 01 Jan 2025 12:00:45 GMT',
    '40/40',
    '0/0',
    '99/1',
    ';'.repeat(2000),
    '('.repeat(3000),
    '1,'.repeat(2000),
  );
  const value = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string(),
    fc.integer().map(String),
    fc.double().map(String),
    snippet,
    fc.tuple(snippet, snippet).map((pair) => pair.join(', ')),
  );
  const headersOf = fc.dictionary(fc.constantFrom(...NAMES), fc.oneof(value, fc.array(value, { maxLength: 3 })), {
    maxKeys: 12,
  });
  const now = fc.oneof(fc.integer(), fc.double(), fc.constant(NOW));

  it('nothing throws, and no number is negative, NaN or above its cap', () => {
    fc.assert(
      fc.property(headersOf, now, fc.integer({ min: 0, max: YEAR }), (headers, nowMs, capMs) => {
        for (const info of parseRateLimit(headers, nowMs, capMs)) {
          expect(info.resetMs ?? 0).toBeGreaterThanOrEqual(0);
          expect(info.resetMs ?? 0).toBeLessThanOrEqual(capMs);
          expect(info.remaining ?? 0).toBeGreaterThanOrEqual(0);
          expect(info.limit ?? 1).toBeGreaterThan(0);
          expect(info.windowMs ?? 1).toBeGreaterThan(0);
          const spacing = quotaSpacing(info, 0);
          if (spacing === undefined) continue;
          expect(spacing.spacingMs).toBeGreaterThan(0);
          expect(spacing.untilMs).toBeLessThan(Infinity);
          expect(spacing.spacingMs).toBeLessThanOrEqual(spacing.untilMs);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
