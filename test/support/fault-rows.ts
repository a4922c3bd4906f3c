import type { GatewayErrorKind } from '../../src/errors.ts';
import type { GatewayAnswer } from '../../src/gateway/faults.ts';

/** One way a gateway refuses a CONNECT, and what it is to be taken for. */
export type FaultRow = [
  what: string,
  answer: GatewayAnswer,
  kind: GatewayErrorKind,
  fatal: boolean,
  providerCode?: string,
];

export const brd = (status: number, code: string): GatewayAnswer => ({ status, headers: { 'x-brd-err-code': code } });
export const oxylabs = (status: number, words: string): GatewayAnswer => ({
  status,
  headers: { 'x-error-description': words },
});
export const said = (status: number, statusMessage: string): GatewayAnswer => ({ status, headers: {}, statusMessage });
const zyte = (status: number, code: string): GatewayAnswer => ({ status, headers: { 'x-crawlera-error': code } });
export const proxyStatus = (status: number, value: string): GatewayAnswer => ({
  status,
  headers: { 'proxy-status': value },
});
const bare = (status: number): GatewayAnswer => ({ status, headers: {} });

/** The codes of the providers, of RFC 9209, and the bare statuses. */
export const FAULT_ROWS: FaultRow[] = [
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
    ([type, kind, fatal]): FaultRow => [
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
