import { ConfigError, ProxyManager } from 'paceline';
import { describe, expect, it } from 'vitest';
import { thrownBy } from '../support/failing.ts';

// What makes no sense is a ConfigError at construction: it names the option, what was expected, and what came.

const GATEWAY = 'http://customer-{session}:hunter2@gw.example.com:10000';
const budget = { limit: 1, windowMs: 1 };
const rule = (own: object) => ({ targets: [{ match: 'a.test', ...own }] });
const pool = (own: object) => ({ pools: { res: own } });

/** Options, the path that the error must name, and a word of what was expected or came. */
type Case = [options: unknown, option: string, expected: RegExp];

const BAD: Record<string, Case[]> = {
  'no options at all': [
    [null, 'options', /an object, got null/],
    ['http://gw', 'options', /an object/],
    [[], 'options', /an object/],
    [{ gatway: GATEWAY }, 'gatway', /one of gateway, .*an unknown option/],
  ],
  'a gateway': [
    [{ gateway: 5 }, 'gateway', /a URL template or a function, got 5/],
    [{ gateway: '' }, 'gateway', /a gateway URL/],
    [{ gateway: '  ' }, 'gateway', /a gateway URL/],
    [{ gateway: 'gw.example.com' }, 'gateway', /unparsable/],
    [{ gateway: 'gw.example.com:8000' }, 'gateway', /http:\/\/, https:\/\/ or socks5:\/\//],
    [{ gateway: 'customer-{session}:hunter2@gw.test:1' }, 'gateway', /got another/],
    [{ gateway: 'http://' }, 'gateway', /unparsable/],
    [{ gateway: 'http://customer-{session}:hunter2@:10000' }, 'gateway', /unparsable/],
    [{ gateway: 'socks5://customer-{session}:hunter2@:1080' }, 'gateway', /host|unparsable/],
    [{ gateway: 'ftp://{session}@gw.test' }, 'gateway', /got another/],
    [{ gateway: 'http://{session}:a%zz@gw.test' }, 'gateway', /stray '%'/],
    [{ gateway: 'http://{session}:a%0D%0A@gw.test' }, 'gateway', /without control characters/],
    [{ gateway: 'http://{session}@gw.test:99999' }, 'gateway', /unparsable/],
    [{ gateway: 'http://customer:hunter2@gw.test' }, 'gateway', /\{session\}/],
    [{ gateway: 'http://u-{session}-{country}@gw.test' }, 'gateway', /a value for \{country\}/],
    [{ gateway: GATEWAY, params: 'de' }, 'params', /an object/],
    [{ gateway: GATEWAY, params: { country: 5 } }, 'params.country', /a string, got 5/],
    [{ params: { country: 'de' } }, 'params', /none without gateway/],
  ],
  pools: [
    [{ pools: [] }, 'pools', /an object/],
    [{ pools: 'res' }, 'pools', /an object/],
    [{ pools: { 'a b': { direct: true } } }, 'pools', /names of/],
    [{ pools: { res: null } }, 'pools.res', /an object, got null/],
    [pool({}), 'pools.res', /exactly one of gateway, proxies and direct, got 0/],
    [pool({ direct: true, gateway: GATEWAY }), 'pools.res', /exactly one/],
    [pool({ direct: true, size: 3 }), 'pools.res.size', /an unknown option/],
    [{ gateway: GATEWAY, pools: { default: { direct: true } } }, 'pools.default', /another name/],
    [pool({ proxies: [] }), 'pools.res.proxies', /at least one proxy URL/],
    [pool({ proxies: 'http://customer:hunter2@gw.test' }), 'pools.res.proxies', /an array/],
    [pool({ proxies: ['http://a.test', 'nonsense'] }), 'pools.res.proxies[1]', /unparsable/],
    [pool({ gateway: GATEWAY, type: 'home' }), 'pools.res.type', /residential/],
    [pool({ gateway: GATEWAY, rotation: 'often' }), 'pools.res.rotation', /'session' or 'per-request'/],
    [pool({ gateway: GATEWAY, rotation: 'per-request', poolSize: 1 }), 'pools.res.gateway', /no \{session\}/],
    [pool({ gateway: 'http://gw.test', rotation: 'per-request' }), 'pools.res.poolSize', /number of exits/],
    [pool({ direct: true, rotation: 'per-request' }), 'pools.res.rotation', /'session' for/],
    [pool({ gateway: GATEWAY, egress: 'header' }), 'pools.res.egress', /\{ header \}/],
    [pool({ gateway: GATEWAY, egress: { header: 'a b' } }), 'pools.res.egress.header', /a header name/],
    [pool({ gateway: GATEWAY, egress: { probeUrl: '/ip' } }), 'pools.res.egress.probeUrl', /http or https/],
    [pool({ gateway: GATEWAY, params: { country: null } }), 'pools.res.params.country', /a string/],
  ],
  targets: [
    [{ targets: {} }, 'targets', /an array/],
    [{ targets: [null] }, 'targets[0]', /an object/],
    [{ targets: [{}] }, 'targets[0].match', /a domain/],
    [rule({ match: 'http://a.test/' }), 'targets[0].match', /a domain/],
    [rule({ match: 'a test' }), 'targets[0].match', /a domain/],
    [{ targets: [{ match: 'a.test' }, { match: 'a.test' }] }, 'targets[1].match', /no two rules/],
    [rule({ tier: 'extreme' }), 'targets[0].tier', /one of the tiers open, mid/],
    [rule({ pools: ['nowhere'] }), 'targets[0].pools', /names among direct/],
    [rule({ pools: [] }), 'targets[0].pools', /one pool or more/],
    [rule({ budgt: budget }), 'targets[0].budgt', /an unknown option/],
    [rule({ budget: { ...budget, burst: 2 } }), 'targets[0].budget.burst', /an unknown option/],
    [rule({ rate: { ...budget, spacing: 'even' } }), 'targets[0].rate.spacing', /an unknown option/],
    [rule({ budget: { ...budget, spacing: 'odd' } }), 'targets[0].budget.spacing', /even, burst/],
    [rule({ rate: { ...budget, burst: 2 } }), 'targets[0].rate.burst', /at most limit/],
    [rule({ scope: 'user' }), 'targets[0].scope', /ip, account/],
  ],
  tiers: [
    [{ tiers: { mine: {} } }, 'tiers.mine.budget', /a limit and a windowMs/],
    [{ tiers: { mine: null } }, 'tiers.mine', /an object/],
    [{ tiers: { mid: { pool: 'res' } } }, 'tiers.mid.pool', /an unknown option/],
    [{ defaultTier: 'none' }, 'defaultTier', /one of the tiers/],
    [{ defaultTier: '' }, 'defaultTier', /one of the tiers/],
  ],
  others: [
    [{ retry: 3 }, 'retry', /an object/],
    [{ retry: { attemps: 3 } }, 'retry.attemps', /an unknown option/],
    [{ retry: { methods: 'GET' } }, 'retry.methods', /an array/],
    [{ retry: { methods: ['GE T'] } }, 'retry.methods', /HTTP methods/],
    [{ retry: { baseMs: 100, capMs: 50 } }, 'retry.capMs', /≥ retry.baseMs/],
    [{ retry: { ratio: 11 } }, 'retry.ratio', /from 0 to 10/],
    [{ timeouts: 5000 }, 'timeouts', /an object/],
    [{ timeouts: { total: 1 } }, 'timeouts.total', /an unknown option/],
    [{ headers: 'x: y' }, 'headers', /an object/],
    [{ headers: new Headers({ x: 'y' }) }, 'headers', /an object of names and values/],
    [{ headers: [['x', 'y']] }, 'headers', /an object of names and values/],
    [{ headers: { 'x y': '1' } }, 'headers', /valid header names/],
    [{ headers: { 'x\r\ny': '1' } }, 'headers', /valid header names/],
    [{ headers: { x: 'a\r\nevil: 1' } }, 'headers.x', /without control characters/],
    [{ headers: { x: 5 } }, 'headers.x', /a string/],
    [{ classify: 'ok' }, 'classify', /a function/],
    [{ inspectBody: 'yes' }, 'inspectBody', /true or false/],
    [{ random: 4 }, 'random', /a function/],
    [{ transport: {} }, 'transport', /a function/],
    [{ clock: Date }, 'clock', /an object with now, wallNow/],
    [{ store: {} }, 'store', /an object with reserve/],
  ],
};

describe.each(Object.entries(BAD))('bad %s', (_group, cases) => {
  it.each(cases)('%j', (options, option, expected) => {
    const error = thrownBy(() => new ProxyManager(options as never));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error).toMatchObject({ code: 'PACELINE_CONFIG', option });
    const { message } = error as ConfigError;
    expect(message.startsWith(`${option}: expected `)).toBe(true);
    expect(message).toMatch(expected);
    expect(message).not.toMatch(/hunter|customer/);
  });
});

const NUMBERS: [option: string, least: number, make: (value: number) => object][] = [
  ['targets[0].budget.limit', 1, (limit) => rule({ budget: { limit, windowMs: 1 } })],
  ['targets[0].budget.windowMs', 0.1, (windowMs) => rule({ budget: { limit: 1, windowMs } })],
  ['targets[0].rate.limit', 1, (limit) => rule({ rate: { limit, windowMs: 1 } })],
  ['targets[0].concurrency', 1, (concurrency) => rule({ concurrency })],
  ['tiers.mid.budget.limit', 1, (limit) => ({ tiers: { mid: { budget: { limit, windowMs: 1 } } } })],
  ['pools.res.maxSessions', 1, (maxSessions) => pool({ gateway: GATEWAY, maxSessions })],
  ['pools.res.sessionTtlMs', 0.1, (sessionTtlMs) => pool({ gateway: GATEWAY, sessionTtlMs })],
  ['pools.res.concurrency', 1, (concurrency) => pool({ gateway: GATEWAY, concurrency })],
  ['pools.res.poolSize', 1, (poolSize) => pool({ gateway: 'http://gw.test', rotation: 'per-request', poolSize })],
  ['retry.attempts', 1, (attempts) => ({ retry: { attempts } })],
  ['retry.baseMs', 0, (baseMs) => ({ retry: { baseMs } })],
  ['retry.capMs', 1000, (capMs) => ({ retry: { capMs } })],
  ['retry.ratio', 0, (ratio) => ({ retry: { ratio } })],
  ['retry.maxRetryAfterMs', 0, (maxRetryAfterMs) => ({ retry: { maxRetryAfterMs } })],
  ...['connectMs', 'headersMs', 'bodyMs', 'totalMs', 'queueMs'].map(
    (name) =>
      [`timeouts.${name}`, 0.1, (value: number) => ({ timeouts: { [name]: value } })] as (typeof NUMBERS)[number],
  ),
];

describe.each(NUMBERS)('%s', (option, least, make) => {
  it.each([-1, Number.NaN, Number.POSITIVE_INFINITY, '5', null])('%s is a ConfigError', (value) => {
    // `null` is no way to say nothing: that is `undefined`.
    if (value === null && /^(retry|timeouts|pools)/.test(option)) return;
    const error = thrownBy(() => new ProxyManager(make(value as number)));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error).toMatchObject({ option, message: expect.stringContaining(`${option}: expected `) });
  });

  it(`${least} is the least that is taken`, async () => {
    await new ProxyManager(make(least)).close();
    if (least > 0) expect(thrownBy(() => new ProxyManager(make(least < 1 ? 0 : least - 1)))).toMatchObject({ option });
  });
});
