import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { GatewayErrorKind } from '../src/errors.ts';
import { gatewayFault, socksFault } from '../src/gateway/faults.ts';
import { brd, FAULT_ROWS, oxylabs, proxyStatus, said } from './support/fault-rows.ts';

describe('gatewayFault', () => {
  it.each(FAULT_ROWS)('%s', (_what, answer, kind, fatal, providerCode) => {
    const fault = gatewayFault(answer);
    expect(fault).toMatchObject({ kind, fatal });
    expect(fault.providerCode).toBe(providerCode);
  });

  it("hands on the provider's words", () => {
    expect(gatewayFault(oxylabs(407, 'Access denied: traffic limit reached.')).message).toBe(
      'Access denied: traffic limit reached.',
    );
    const headers = new Headers({ 'x-brd-err-code': 'client_10100', 'x-brd-err-msg': 'Zone has reached usage limit' });
    expect(gatewayFault({ status: 502, headers }).message).toBe('Zone has reached usage limit');
    expect(gatewayFault(proxyStatus(502, 'gw;error=dns_error;details="no such host"')).message).toBe('no such host');
  });

  it('never repeats a reason phrase it does not know', () => {
    expect(JSON.stringify(gatewayFault(said(407, 'hunter2')))).not.toContain('hunter2');
  });

  it.each([
    'no route for http://joe:hunter2@gw.example:8080/',
    'joe:hunter2@gw.example refused',
    'joe:p@ss:hunter2@gw.example refused',
    'bad Proxy-Authorization: Basic hunter2hunter2',
    'header authorization=hunter2',
    'Basic aHVudGVyMg==hunter2 refused',
    'password=hunter2',
    'api_key: "hunter2"',
    'user joe has the token: hunter2',
    'nobody called hunter2 here',
    `${'x '.repeat(250)}joe:hunter2@gw.example`,
    `${`${'z'.repeat(150)}:q@ `.repeat(3)}${'p'.repeat(35)} joe:hunter2xxxxxx@gw.example`,
    `${'a:b@c '.repeat(84)}joe:hunter2@gw.example:8080`,
  ])('hides what looks like credentials: %s', (words) => {
    const { message } = gatewayFault({
      ...oxylabs(407, words),
      secrets: words.startsWith('nobody') ? ['hunter2', ''] : [],
    });
    expect(message ?? '').not.toContain('hunter2');
    expect((message ?? '').length).toBeLessThanOrEqual(200);
  });

  it('hides a short secret where it is a word, and leaves the words it is a part of', () => {
    const told = { ...oxylabs(407, 'the user u with p: upset proxy'), secrets: ['u', 'p', 'hidden'] };
    expect(gatewayFault(told).message).toBe('the user [hidden] with [hidden]: upset proxy');
  });

  it('hides secrets that hold one another, and are full of signs', () => {
    const secrets = ['a.b*', 'a.b*c(d', '[hid', 'JOE%2f'];
    expect(gatewayFault({ ...oxylabs(407, 'x a.b*c(d y a.b*, aab [hid joe%2F'), secrets }).message).toBe(
      'x [hidden] y [hidden], aab [hidden] [hidden]',
    );
  });

  it('knows a code even where it may not be shown', () => {
    const fault = gatewayFault({ ...brd(502, 'client_10100'), secrets: ['client'] });
    expect(fault).toEqual({ kind: 'quota', fatal: true });
  });

  it('takes no code for one that holds a secret, or that is none', () => {
    expect(gatewayFault({ ...brd(502, 'hunter2'), secrets: ['hunter2'] })).not.toHaveProperty('providerCode');
    expect(gatewayFault(brd(502, 'see https://joe:pass@x'))).not.toHaveProperty('providerCode');
    expect(gatewayFault(brd(502, 'x'.repeat(65)))).not.toHaveProperty('providerCode');
  });
});

describe('socksFault', () => {
  it.each<[string, GatewayErrorKind, boolean]>([
    ['UND_ERR_SOCKS5_REPLY_1', 'exit-failed', false],
    ['UND_ERR_SOCKS5_REPLY_2', 'forbidden', true],
    ['UND_ERR_SOCKS5_REPLY_3', 'exit-failed', false],
    ['UND_ERR_SOCKS5_REPLY_4', 'exit-failed', false],
    ['UND_ERR_SOCKS5_REPLY_5', 'exit-failed', false],
    ['UND_ERR_SOCKS5_REPLY_6', 'exit-failed', false],
    ['UND_ERR_SOCKS5_REPLY_7', 'protocol', false],
    ['UND_ERR_SOCKS5_REPLY_8', 'protocol', false],
    ['UND_ERR_SOCKS5_REPLY_240', 'exit-failed', false],
    ['UND_ERR_SOCKS5_AUTH_REJECTED', 'auth', true],
    ['UND_ERR_SOCKS5_AUTH_FAILED', 'auth', true],
    ['UND_ERR_SOCKS5_AUTH_METHOD', 'auth', true],
    ['UND_ERR_SOCKS5_AUTH_VERSION', 'protocol', false],
    ['UND_ERR_SOCKS5_VERSION', 'protocol', false],
    ['UND_ERR_SOCKS5_REPLY_VERSION', 'protocol', false],
    ['UND_ERR_SOCKS5_ADDR_TYPE', 'protocol', false],
    ['UND_ERR_SOCKS5', 'exit-failed', false],
  ])('%s is %s', (code, kind, fatal) => {
    expect(socksFault(code)).toEqual({ kind, fatal, providerCode: code });
  });
});

describe('whatever a gateway sends', () => {
  const KINDS = ['auth', 'quota', 'forbidden', 'exit-failed', 'protocol'];
  const names = [
    'x-brd-err-code',
    'x-brd-err-msg',
    'x-brd-error',
    'proxy-status',
    'x-error-description',
    'x-crawlera-error',
  ];
  const bytes = fc.uint8Array({ maxLength: 5000 }).map((data) => Buffer.from(data).toString('latin1'));
  const text = fc.oneof(
    bytes,
    fc.string({ unit: 'binary' }),
    fc.constantFrom(
      'gw;error=',
      'gw;error="a";details="b"',
      '(a b);error=dns_error',
      ':'.repeat(4000),
      '@'.repeat(4000),
      'a:'.repeat(2000),
      `${'a'.repeat(3000)}:@`,
      'password='.repeat(400),
    ),
  );
  const answer = fc.record({
    status: fc.oneof(fc.integer({ min: 100, max: 999 }), fc.integer(), fc.constant(Number.NaN)),
    headers: fc.dictionary(fc.constantFrom(...names), fc.oneof(text, fc.array(text, { maxLength: 3 }))),
    statusMessage: text,
    secrets: fc.array(fc.string(), { maxLength: 2 }),
  });

  it('nothing throws, and every fault is of a known kind and short', () => {
    fc.assert(
      fc.property(answer, (given) => {
        const fault = gatewayFault(given);
        expect(KINDS).toContain(fault.kind);
        expect(typeof fault.fatal).toBe('boolean');
        expect((fault.message ?? '').length).toBeLessThanOrEqual(200);
        expect((fault.providerCode ?? '').length).toBeLessThanOrEqual(64);
        expect(KINDS).toContain(socksFault(given.statusMessage).kind);
      }),
      { numRuns: 2000 },
    );
  });

  it('no password gets into a message', () => {
    const word = fc.stringMatching(/^[\w.~!$-]{8,40}$/);
    fc.assert(
      fc.property(
        fc.string({ maxLength: 700 }),
        word,
        fc.string({ maxLength: 300 }),
        fc.nat(1),
        (before, password, after, form) => {
          const words = `${before} ${form === 0 ? `http://joe:${password}@gw.example` : `Proxy-Authorization: Basic ${password}`} ${after}`;
          const { message = '' } = gatewayFault(oxylabs(407, words));
          fc.pre(!before.includes(password) && !after.includes(password));
          expect(message).not.toContain(password);
          // Known to be a secret it is hidden wherever it stands.
          const known = gatewayFault({ ...oxylabs(407, `${before}${password}${after}`), secrets: [password] });
          expect(known.message ?? '').not.toContain(password);
        },
      ),
      { numRuns: 2000 },
    );
  });
});
