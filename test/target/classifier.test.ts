import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../../src/errors.ts';
import { targetClassifier } from '../../src/target/classifier.ts';
import { builtinTiers } from '../../src/target/tiers.ts';
import type { TargetRule } from '../../src/target/types.ts';

const MINUTE = 60_000;

describe('what matches', () => {
  const matches = [
    'example.com',
    '*.example.com',
    'example.com/a',
    'example.com/a/b',
    '*.example.com/w',
    'api.example.com',
    'api.example.com/search',
    'example.com:8443',
    'example.com:8443/a',
    'localhost:8080',
    '127.0.0.1:8080',
    '[::1]:8080',
    '192.0.2.7',
    '*.wild.test',
    'Bücher.example',
    'only-path.test/a%20b/',
    'co.uk',
  ];
  const table: [string, string][] = [
    ['https://example.com/', 'example.com'],
    ['http://example.com', 'example.com'],
    ['https://example.com:9999/', 'example.com'],
    ['https://EXAMPLE.com./x', 'example.com'],
    ['https://www.example.com/', '*.example.com'],
    ['https://a.b.example.com/x?y', '*.example.com'],
    ['https://a.b.example.com/w', '*.example.com/w'],
    ['https://notexample.com/', 'notexample.com'],
    ['https://example.com.evil.test/', 'evil.test'],
    // path prefixes end at a segment
    ['https://example.com/a', 'example.com/a'],
    ['https://example.com/a/', 'example.com/a'],
    ['https://example.com/a?b', 'example.com/a'],
    ['https://example.com/a#b', 'example.com/a'],
    ['https://example.com/a/bc', 'example.com/a'],
    ['https://example.com/a/b', 'example.com/a/b'],
    ['https://example.com/a/b/c', 'example.com/a/b'],
    ['https://example.com/ab', 'example.com'],
    ['https://example.com/A', 'example.com'],
    ['https://example.com/x/../a', 'example.com/a'],
    ['https://example.com/?/a', 'example.com'],
    ['https://only-path.test/a%20b', 'only-path.test/a%20b/'],
    ['https://only-path.test/a b/c', 'only-path.test/a%20b/'],
    ['https://only-path.test/a', 'only-path.test'],
    // the longer host first
    ['https://api.example.com/', 'api.example.com'],
    ['https://v1.api.example.com/', 'api.example.com'],
    ['https://api.example.com/search/code?q', 'api.example.com/search'],
    ['https://api.example.com/searching', 'api.example.com'],
    ['https://api.example.com/a', 'api.example.com'],
    // ports
    ['https://example.com:8443/', 'example.com:8443'],
    ['https://www.example.com:8443/', 'example.com:8443'],
    ['https://example.com:8443/a', 'example.com:8443/a'],
    ['http://localhost:8080/', 'localhost:8080'],
    ['http://localhost:8081/', 'localhost'],
    ['http://localhost/', 'localhost'],
    ['http://127.0.0.1:8080/', '127.0.0.1:8080'],
    ['http://127.1:8080/', '127.0.0.1:8080'],
    ['http://127.0.0.1/', '127.0.0.1'],
    ['http://[::1]:8080/', '[::1]:8080'],
    ['http://[0:0::1]:8080/', '[::1]:8080'],
    ['http://[::1]/', '::1'],
    // an IP has no subdomains
    ['http://192.0.2.7/', '192.0.2.7'],
    ['http://2.7/', '2.0.0.7'],
    // only subdomains
    ['https://x.wild.test/', '*.wild.test'],
    ['https://wild.test/', 'wild.test'],
    // other spellings
    ['https://xn--bcher-kva.example/', 'Bücher.example'],
    ['https://www.BÜCHER.example/', 'Bücher.example'],
    ['https://user:pass@example.com/a', 'example.com/a'],
    [' https://example.com/ ', 'example.com'],
    ['https:\\\\example.com\\a', 'example.com/a'],
    // no rule: the registrable domain
    ['https://www.shop.test/', 'shop.test'],
    ['https://x.y.github.io/', 'y.github.io'],
    ['https://www.shop.co.uk/', 'co.uk'], // a rule may be as wide as that
  ];
  const rules = matches.map((match) => ({ match }));

  test.each(table)('%s → %s', (url, name) => {
    const classifier = targetClassifier({ rules });
    const target = classifier.classify(url);
    expect(target.name).toBe(name);
    expect(classifier.classify(url)).toBe(target); // cached
    expect(classifier.classify(new URL(url))).toBe(target);
    expect(Object.isFrozen(target)).toBe(true);
  });

  test('the order of the rules does not matter', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray(rules, { minLength: rules.length }), (shuffled) => {
        const classifier = targetClassifier({ rules: shuffled });
        for (const [url, name] of table) expect(classifier.classify(url).name).toBe(name);
      }),
      { numRuns: 20 },
    );
  });

  test('the default port is the port', () => {
    const classifier = targetClassifier({ rules: [{ match: 'example.com:443', name: 'tls' }] });
    expect(classifier.classify('https://example.com/').name).toBe('tls');
    expect(classifier.classify('https://example.com:443/').name).toBe('tls');
    expect(classifier.classify('http://example.com/').name).toBe('example.com');
    expect(classifier.classify('http://example.com:443/').name).toBe('tls');
  });

  test('a hot lookup agrees with a cold one for every spelling', () => {
    const part = fc.constantFrom(
      'https://',
      'http://',
      'HTTPS://',
      'example.com',
      'api.',
      'x@',
      ':8443',
      ':443',
      '/',
      '\\',
      '?',
      '#',
      '\t',
      '/a',
      '/search',
      '.',
      '..',
      ' ',
    );
    const hot = targetClassifier({ rules });
    fc.assert(
      fc.property(fc.array(part, { maxLength: 7 }), (parts) => {
        const url = `https://${parts.join('')}`;
        const classify = (classifier: { classify(u: string): { name: string } }): string => {
          try {
            return classifier.classify(url).name;
          } catch (error) {
            expect(error).toBeInstanceOf(ConfigError);
            return 'ConfigError';
          }
        };
        const parsed = URL.parse(url);
        expect(classify(hot)).toBe(classify(targetClassifier({ rules })));
        expect(classify(hot)).toBe(parsed ? hot.classify(parsed).name : 'ConfigError');
      }),
      { numRuns: 1000 },
    );
  });
});

describe('the policy of a target', () => {
  test('nobody said anything: mid, with 15 a minute', () => {
    expect(targetClassifier().classify('https://www.example.com/')).toEqual({
      name: 'example.com',
      tier: 'mid',
      pools: undefined,
      poolType: 'residential',
      budget: { limit: 15, windowMs: MINUTE, spacing: 'even' },
      rates: [],
      concurrency: undefined,
      scope: 'ip',
    });
  });

  test.each([
    ['open', 150, 'datacenter', 'burst'],
    ['mid', 20, 'residential', 'even'],
    ['protected', 8, 'residential', 'burst'],
    ['high-security', 2, 'residential', 'burst'],
  ])('%s is %i a minute, %s, %s', (tier, limit, poolType, spacing) => {
    const target = targetClassifier({ rules: [{ match: 'a.test', tier }] }).classify('https://a.test');
    expect(target).toMatchObject({ tier, poolType, budget: { limit, windowMs: MINUTE, spacing } });
    const byDefault = targetClassifier({ defaultTier: tier }).classify('https://a.test');
    expect(byDefault).toMatchObject({ tier, poolType, budget: { limit, windowMs: MINUTE, spacing } });
  });

  test('a rule says what it says, its tier the rest', () => {
    const rule: TargetRule = {
      match: 'a.test',
      name: 'A',
      tier: 'open',
      pools: ['direct', 'res'],
      budget: { limit: 3, windowMs: 1000 },
      rate: { limit: 10, windowMs: 1000, burst: 2 },
      concurrency: 4,
      scope: 'account',
    };
    expect(targetClassifier({ rules: [rule] }).classify('https://a.test')).toEqual({
      name: 'A',
      tier: 'open',
      pools: ['direct', 'res'],
      poolType: 'datacenter',
      budget: { limit: 3, windowMs: 1000, spacing: 'burst' },
      rates: [{ limit: 10, windowMs: 1000, burst: 2 }],
      concurrency: 4,
      scope: 'account',
    });
    const plain = targetClassifier({ rules: [{ match: 'a.test', concurrency: 1 }] }).classify('https://a.test');
    expect(plain).toMatchObject({ tier: 'mid', budget: { limit: 15 }, concurrency: 1 });
  });

  test('tiers: additions, overrides, parts of overrides', () => {
    const classifier = targetClassifier({
      rules: [
        { match: 'a.test', tier: 'mine' },
        { match: 'b.test', tier: 'open' },
        { match: 'c.test', tier: 'protected' },
      ],
      tiers: {
        mine: { budget: { limit: 1, windowMs: 10 } },
        open: { poolType: 'static' },
        protected: { budget: { limit: 4, windowMs: 20, spacing: 'even' } },
      },
    });
    expect(classifier.classify('http://a.test')).toMatchObject({
      tier: 'mine',
      poolType: 'residential',
      budget: { limit: 1, windowMs: 10, spacing: 'burst' },
    });
    expect(classifier.classify('http://b.test')).toMatchObject({ poolType: 'static', budget: { limit: 150 } });
    expect(classifier.classify('http://c.test').budget).toEqual({ limit: 4, windowMs: 20, spacing: 'even' });
    expect(builtinTiers.open.poolType).toBe('datacenter');
  });

  test('a budget of his own for mid is the default too; a pool type alone leaves it at 15', () => {
    const budgetOf = (mid: object): object => targetClassifier({ tiers: { mid } }).classify('https://x.test/');
    expect(budgetOf({ budget: { limit: 5, windowMs: MINUTE } })).toMatchObject({
      budget: { limit: 5, spacing: 'even' },
    });
    expect(budgetOf({ poolType: 'mobile' })).toMatchObject({ poolType: 'mobile', budget: { limit: 15 } });
  });

  test('what the caller does with his options later changes nothing', () => {
    const pools = ['a'];
    const budget = { limit: 1, windowMs: 1000 };
    const classifier = targetClassifier({ rules: [{ match: 'a.test', pools, budget }] });
    pools.push('b');
    budget.limit = 99;
    expect(classifier.classify('https://a.test')).toMatchObject({ pools: ['a'], budget: { limit: 1 } });
  });
});

describe('identity', () => {
  test('one object for a rule, whatever the host, and one for a domain', () => {
    const classifier = targetClassifier({ rules: [{ match: 'a.test' }] });
    expect(classifier.classify('https://x.a.test/1')).toBe(classifier.classify('http://y.a.test:81/2'));
    expect(classifier.classify('https://x.b.test/1')).toBe(classifier.classify('http://b.test:81/2'));
  });

  test('rules of one name are one target; a domain of that name, too', () => {
    const classifier = targetClassifier({
      rules: [
        { match: 'a.test/x', name: 'c.test', concurrency: 2 },
        { match: 'b.test', name: 'c.test', concurrency: 2 },
      ],
    });
    const target = classifier.classify('https://a.test/x');
    expect(classifier.classify('https://b.test/')).toBe(target);
    expect(classifier.classify('https://www.c.test/')).toBe(target);
  });

  test('the cache is bounded, and rules keep their objects', () => {
    const classifier = targetClassifier({ cacheSize: 4, rules: [{ match: 'a.test' }] });
    const rule = classifier.classify('https://x.a.test/');
    const domain = classifier.classify('https://b.test/');
    for (let i = 0; i < 100; i++) classifier.classify(`https://h${i}.a.test/`);
    for (let i = 0; i < 100; i++) classifier.classify(`https://d${i}.test/`);
    expect(classifier.classify('https://x.a.test/')).toBe(rule);
    expect(classifier.classify('https://b.test/')).not.toBe(domain);
    expect(classifier.classify('https://b.test/')).toEqual(domain);
  });
});

describe('everywhere at an origin', () => {
  const rules = [{ match: 'a.test' }, { match: 'b.test/api' }, { match: 'c.test:8080' }];

  test('is what classify says of any URL there, once one has been asked for', () => {
    const classifier = targetClassifier({ rules });
    for (const origin of [
      'https://x.a.test',
      'http://c.test:8080',
      'http://c.test',
      'https://[::1]:3000',
      'http://d.co.uk',
    ]) {
      expect(classifier.everywhere(origin)).toBeUndefined();
      const target = classifier.classify(`${origin}/some/path?q`);
      expect(classifier.everywhere(origin)).toBe(target);
      expect(new URL(`${origin}/x`).origin).toBe(origin);
    }
  });

  test('is nothing where the path decides, and what is no origin is not known', () => {
    const classifier = targetClassifier({ rules });
    for (const path of ['/', '/api/1']) classifier.classify(`https://b.test${path}`);
    classifier.classify('https://x.a.test/');
    for (const origin of [
      'https://b.test',
      'https://x.a.test/',
      'HTTPS://x.a.test',
      'https://x.a.test:443',
      'x.a.test',
      '',
    ]) {
      expect(classifier.everywhere(origin)).toBeUndefined();
    }
  });
});

describe('what is refused', () => {
  const a = 'a.test';
  const odd = (value: unknown): never => value as never;
  test.each<[string, TargetRule[]]>([
    ['rules[0].match', [{ match: '' }]],
    ['rules[0].match', [{ match: odd(undefined) }]],
    ['rules[0].match', [{ match: odd(/a/) }]],
    ['rules[0].match', [{ match: 'https://a.test' }]],
    ['rules[0].match', [{ match: '*' }]],
    ['rules[0].match', [{ match: '*.' }]],
    ['rules[0].match', [{ match: 'a.*.test' }]],
    ['rules[0].match', [{ match: '/path' }]],
    ['rules[0].match', [{ match: 'a b.test' }]],
    ['rules[0].match', [{ match: ' a.test' }]],
    ['rules[0].match', [{ match: 'a..test' }]],
    ['rules[0].match', [{ match: 'a.test:0' }]],
    ['rules[0].match', [{ match: 'a.test:65536' }]],
    ['rules[0].match', [{ match: 'a.test:http' }]],
    ['rules[0].match', [{ match: 'a.test/x?y' }]],
    ['rules[0].match', [{ match: 'a.test/x#y' }]],
    ['rules[0].match', [{ match: 'user@a.test' }]],
    ['rules[0].match', [{ match: '[::1' }]],
    ['rules[0].match', [{ match: '::1' }]],
    ['rules[0].match', [{ match: '*.127.0.0.1' }]],
    ['rules[0].match', [{ match: '*.[::1]' }]],
    ['rules[0].match', [{ match: '1.2.3.256' }]],
    ['rules[1].match', [{ match: a }, { match: 'A.TEST.' }]],
    ['rules[1].match', [{ match: 'a.test/x' }, { match: 'a.test/x/' }]],
    ['rules[1].match', [{ match: 'a.test:80' }, { match: 'a.test:080', name: 'b' }]],
    ['rules[1].match', [{ match: '127.0.0.1' }, { match: '127.1' }]],
    [
      'rules[1]',
      [
        { match: a, name: 'x' },
        { match: 'b.test', name: 'x', concurrency: 1 },
      ],
    ],
    ['rules[0].name', [{ match: a, name: '' }]],
    ['rules[0].tier', [{ match: a, tier: 'constructor' }]],
    ['rules[0].pools', [{ match: a, pools: [] }]],
    ['rules[0].pools', [{ match: a, pools: [''] }]],
    ['rules[0].pools', [{ match: a, pools: odd('res') }]],
    ['rules[0].budget.limit', [{ match: a, budget: { limit: 0, windowMs: 1 } }]],
    ['rules[0].budget.limit', [{ match: a, budget: { limit: Number.NaN, windowMs: 1 } }]],
    ['rules[0].budget.windowMs', [{ match: a, budget: { limit: 1, windowMs: -1 } }]],
    ['rules[0].budget.spacing', [{ match: a, budget: { limit: 1, windowMs: 1, spacing: odd('wide') } }]],
    ['rules[0].rate.limit', [{ match: a, rate: { limit: -5, windowMs: 1 } }]],
    ['rules[0].rate.windowMs', [{ match: a, rate: { limit: 1, windowMs: Number.NaN } }]],
    ['rules[0].rate.burst', [{ match: a, rate: { limit: 1, windowMs: 1, burst: 2 } }]],
    ['rules[0].rate.burst', [{ match: a, rate: { limit: 1, windowMs: 1, burst: 0 } }]],
    ['rules[0].concurrency', [{ match: a, concurrency: 0 }]],
    ['rules[0].concurrency', [{ match: a, concurrency: 1.5 }]],
    ['rules[0].scope', [{ match: a, scope: odd('site') }]],
    ['rules[0]', [odd(null)]],
    ['rules', odd({ match: a })],
  ])('%s: case %#', (option, rules) => {
    expect(() => targetClassifier({ rules })).toThrow(expect.objectContaining({ code: 'PACELINE_CONFIG', option }));
  });

  test.each([
    ['tiers.mine.budget', { tiers: { mine: {} } }],
    ['tiers.mine', { tiers: { mine: odd(5) } }],
    ['tiers.mid.budget.limit', { tiers: { mid: { budget: { limit: 0, windowMs: 1 } } } }],
    ['tiers.mid.poolType', { tiers: { mid: { poolType: odd('isp') } } }],
    ['defaultTier', { defaultTier: 'none' }],
    ['cacheSize', { cacheSize: 1 }],
    ['cacheSize', { cacheSize: 2.5 }],
  ])('%s', (option, options) => {
    expect(() => targetClassifier(options)).toThrow(expect.objectContaining({ code: 'PACELINE_CONFIG', option }));
  });

  test('an unknown tier: the known ones are listed, and the option has the name the caller knows', () => {
    const make = (): unknown =>
      targetClassifier({
        rules: [{ match: a, tier: 'opne' }],
        tiers: { mine: builtinTiers.open },
        rulesOption: 'targets',
      });
    expect(make).toThrow(/^targets\[0\]\.tier: .*open, mid, protected, high-security, mine.*'opne'/);
  });

  test.each([
    '',
    'example.com',
    '/path',
    'https://',
    'http://a b/',
    'ftp://example.com/',
    'ws://example.com/',
    'data:,x',
    odd(undefined),
    odd({ href: 'https://a.test/' }),
    new URL('file:///etc/hosts'),
  ])('classify(%j)', (url) => {
    expect(() => targetClassifier().classify(url)).toThrow(
      expect.objectContaining({ code: 'PACELINE_CONFIG', option: 'url' }),
    );
  });

  test('no password in the message', () => {
    const message = (url: string): string => {
      try {
        targetClassifier().classify(url);
      } catch (error) {
        return String(error);
      }
      return '';
    };
    expect(message('https://user:hunter2@a b/')).toMatch(/'\*\*\*@a b\/'/);
    expect(message('https://user:hunter2/x@a b/')).not.toMatch(/hunter2/);
    expect(message('ftp://user:hunter2@a.test/')).not.toMatch(/hunter2/);
  });
});
