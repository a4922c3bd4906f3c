import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { GatewayErrorKind } from '../src/errors.ts';
import { type GatewayAnswer, gatewayFault, socksFault } from '../src/gateway/faults.ts';

type Row = [what: string, answer: GatewayAnswer, kind: GatewayErrorKind, fatal: boolean, providerCode?: string];

const brd = (status: number, code: string): GatewayAnswer => ({ status, headers: { 'x-brd-err-code': code } });
const oxylabs = (status: number, words: string): GatewayAnswer => ({
  status,
  headers: { 'x-error-description': words },
});
const said = (status: number, statusMessage: string): GatewayAnswer => ({ status, headers: {}, statusMessage });
const zyte = (status: number, code: string): GatewayAnswer => ({ status, headers: { 'x-crawlera-error': code } });
const proxyStatus = (status: number, value: string): GatewayAnswer => ({ status, headers: { 'proxy-status': value } });
const bare = (status: number): GatewayAnswer => ({ status, headers: {} });

const rows: Row[] = [
  ['Bright Data 407 client_10000', brd(407, 'client_10000'), 'auth', true, 'client_10000'],
  ['Bright Data 407 client_10010', brd(407, 'client_10010'), 'auth', true, 'client_10010'],
  ['Bright Data 407 client_10020, suspended', brd(407, 'client_10020'), 'auth', true, 'client_10020'],
  ['Bright Data 401 client_10050', brd(401, 'client_10050'), 'auth', true, 'client_10050'],
  ['Bright Data 400 client_10061, no such peer', brd(400, 'client_10061'), 'exit-failed', false, 'client_10061'],
  ['Bright Data 402 policy_20130', brd(402, 'policy_20130'), 'forbidden', true, 'policy_20130'],
  ['Bright Data 403 policy_20050', brd(403, 'policy_20050'), 'forbidden', true, 'policy_20050'],
  ['Bright Data 407 policy_20120', brd(407, 'policy_20120'), 'auth', true, 'policy_20120'],
  ['Bright Data 408 peer_30040', brd(408, 'peer_30040'), 'exit-failed', false, 'peer_30040'],
  ['Bright Data 429 client_10110, account', brd(429, 'client_10110'), 'quota', false, 'client_10110'],
  ['Bright Data 429 policy_20222, per IP', brd(429, 'policy_20222'), 'quota', false, 'policy_20222'],
  ['Bright Data 502 client_10100, zone cap', brd(502, 'client_10100'), 'quota', true, 'client_10100'],
  ['Bright Data 502 peer_30030', brd(502, 'peer_30030'), 'exit-failed', false, 'peer_30030'],
  ['Bright Data 502 target_40001', brd(502, 'target_40001'), 'exit-failed', false, 'target_40001'],
  ['Bright Data, a code of no known family', brd(407, 'wrong_zone'), 'auth', true, 'wrong_zone'],
  [
    'Bright Data as Proxy-Status, quoted',
    proxyStatus(
      407,
      'brd.superproxy.io; received-status=407; error="http_request_denied"; details="client_10000: Invalid authentication"',
    ),
    'auth',
    true,
    'client_10000',
  ],
  [
    'Bright Data as Proxy-Status, a token',
    proxyStatus(
      400,
      'brd.superproxy.io; received-status=400; error=destination_ip_unroutable; details="client-10060: Requested IP is not allocated"',
    ),
    'exit-failed',
    false,
    'client_10060',
  ],
  [
    'Bright Data as Proxy-Status, the cap',
    proxyStatus(502, 'brd; error="http_request_denied"; details="client_10100: Zone has reached usage limit"'),
    'quota',
    true,
    'client_10100',
  ],
  // RFC 9209
  ...(
    [
      ['dns_timeout', 'exit-failed', false],
      ['dns_error', 'exit-failed', false],
      ['destination_not_found', 'exit-failed', false],
      ['destination_unavailable', 'exit-failed', false],
      ['destination_ip_prohibited', 'forbidden', true],
      ['destination_ip_unroutable', 'exit-failed', false],
      ['connection_refused', 'exit-failed', false],
      ['connection_terminated', 'exit-failed', false],
      ['connection_timeout', 'exit-failed', false],
      ['connection_read_timeout', 'exit-failed', false],
      ['connection_write_timeout', 'exit-failed', false],
      ['connection_limit_reached', 'quota', false],
      ['tls_protocol_error', 'exit-failed', false],
      ['tls_certificate_error', 'exit-failed', false],
      ['tls_alert_received', 'exit-failed', false],
      ['http_request_error', 'protocol', false],
      ['http_request_denied', 'forbidden', true],
      ['http_response_incomplete', 'exit-failed', false],
      ['http_response_timeout', 'exit-failed', false],
      ['http_protocol_error', 'exit-failed', false],
      ['proxy_internal_response', 'exit-failed', false],
      ['proxy_internal_error', 'exit-failed', false],
      ['proxy_configuration_error', 'protocol', false],
      ['proxy_loop_detected', 'protocol', false],
    ] as const
  ).map(
    ([type, kind, fatal]): Row => [
      `Proxy-Status ${type}`,
      proxyStatus(502, `gw.example;error=${type}`),
      kind,
      fatal,
      type,
    ],
  ),
  [
    'Proxy-Status, of several the nearest with an error',
    proxyStatus(502, 'far;error=dns_error, near;error=connection_limit_reached, edge'),
    'quota',
    false,
    'connection_limit_reached',
  ],
  ['Proxy-Status, a type nobody registered', proxyStatus(403, 'gw;error=made_up'), 'forbidden', true, 'made_up'],
  ['Proxy-Status, malformed', proxyStatus(502, 'gw;error='), 'exit-failed', false],
  // Oxylabs
  ['Oxylabs 400', oxylabs(400, 'Bad request: could not parse the request.'), 'protocol', false],
  ['Oxylabs 403', oxylabs(403, 'Access denied: restricted target. Please contact support.'), 'forbidden', true],
  [
    'Oxylabs 407, credentials',
    oxylabs(407, 'Access denied: user authentication failed. Please check your credentials and try again.'),
    'auth',
    true,
  ],
  [
    'Oxylabs 407, traffic',
    oxylabs(407, 'Access denied: traffic limit reached. Please contact support.'),
    'quota',
    true,
  ],
  ['Oxylabs 429, threads', oxylabs(429, 'User has reached the thread/concurrent session limit.'), 'quota', false],
  ['Oxylabs 500', oxylabs(500, 'Internal server error: we have encountered an internal error.'), 'exit-failed', false],
  ['Oxylabs 502', bare(502), 'exit-failed', false],
  ['Oxylabs 504', bare(504), 'exit-failed', false],
  ['Oxylabs 522', bare(522), 'exit-failed', false],
  // IPRoyal
  ['IPRoyal 500', bare(500), 'exit-failed', false],
  ['IPRoyal 503, no exits', bare(503), 'exit-failed', false],
  ['IPRoyal 504, exit failed', bare(504), 'exit-failed', false],
  // NetNut
  ['NetNut 400', bare(400), 'protocol', false],
  ['NetNut 403', bare(403), 'forbidden', true],
  ['NetNut 407', bare(407), 'auth', true],
  ['NetNut 490', bare(490), 'exit-failed', false],
  ['NetNut 522', bare(522), 'exit-failed', false],
  // Apify
  ['Apify 590', bare(590), 'exit-failed', false, '590'],
  ['Apify 593, DNS', bare(593), 'exit-failed', false, '593'],
  ['Apify 594, refused', bare(594), 'exit-failed', false, '594'],
  ['Apify 595, reset', bare(595), 'exit-failed', false, '595'],
  ['Apify 597, credentials', bare(597), 'auth', true, '597'],
  ['Apify 599', bare(599), 'exit-failed', false, '599'],
  // Zyte
  ['Zyte 503 banned', zyte(503, 'banned'), 'exit-failed', false, 'banned'],
  ['Zyte 407 bad_proxy_auth', zyte(407, 'bad_proxy_auth'), 'auth', true, 'bad_proxy_auth'],
  ['Zyte 429 too_many_conns', zyte(429, 'too_many_conns'), 'quota', false, 'too_many_conns'],
  ['Zyte 400 bad_session_id', zyte(400, 'bad_session_id'), 'exit-failed', false, 'bad_session_id'],
  ['Zyte 403 domain_forbidden', zyte(403, 'domain_forbidden'), 'forbidden', true, 'domain_forbidden'],
  // DataImpulse
  ['DataImpulse 407 NO_USER', said(407, 'NO_USER'), 'auth', true, 'NO_USER'],
  ['DataImpulse 407 TRAFFIC_EXHAUSTED', said(407, 'TRAFFIC_EXHAUSTED'), 'quota', true, 'TRAFFIC_EXHAUSTED'],
  ['DataImpulse 407 THREADS_EXHAUSTED', said(407, 'THREADS_EXHAUSTED'), 'quota', false, 'THREADS_EXHAUSTED'],
  [
    'DataImpulse 403 SITE_PERMANENTLY_BLOCKED',
    said(403, 'SITE_PERMANENTLY_BLOCKED'),
    'forbidden',
    true,
    'SITE_PERMANENTLY_BLOCKED',
  ],
  ['DataImpulse 502 NO_HOST_CONNECTION', said(502, 'NO_HOST_CONNECTION'), 'exit-failed', false, 'NO_HOST_CONNECTION'],
  ['DataImpulse 503 NO_RAY', said(503, 'NO_RAY'), 'exit-failed', false, 'NO_RAY'],
  // Geonode
  ['Geonode 403', bare(403), 'forbidden', true],
  ['Geonode 407', bare(407), 'auth', true],
  ['Geonode 411, blocked', bare(411), 'auth', true],
  // no word but the status
  ['401', bare(401), 'auth', true],
  ['402', bare(402), 'quota', true],
  ['404', bare(404), 'exit-failed', false],
  ['408', bare(408), 'exit-failed', false],
  ['429', bare(429), 'quota', false],
  ['451', bare(451), 'forbidden', true],
  ['301', bare(301), 'protocol', false],
];

describe('gatewayFault', () => {
  it.each(rows)('%s', (_what, answer, kind, fatal, providerCode) => {
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
