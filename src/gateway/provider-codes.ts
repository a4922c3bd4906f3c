import type { GatewayErrorKind } from '../errors.ts';

/** What a code says: the kind of fault, and whether it passes by itself where its kind alone would say it does not. */
export interface Meaning {
  readonly kind: GatewayErrorKind;
  /** A rate, or connections at a time: it goes away once fewer ask. */
  readonly passes?: true;
}

const AUTH: Meaning = { kind: 'auth' };
const SPENT: Meaning = { kind: 'quota' };
const BUSY: Meaning = { kind: 'quota', passes: true };
const FORBIDDEN: Meaning = { kind: 'forbidden' };
const EXIT: Meaning = { kind: 'exit-failed' };
const PROTOCOL: Meaning = { kind: 'protocol' };

function table(...rows: readonly (readonly [meaning: Meaning, codes: string])[]): ReadonlyMap<string, Meaning> {
  return new Map(rows.flatMap(([meaning, codes]) => codes.split(' ').map((code) => [code, meaning] as const)));
}

/** Bright Data's error catalog, as far as the family of a code does not tell. */
const BRIGHT_DATA = table(
  [EXIT, 'client_10060 client_10061 client_10062 client_10063 client_10120 client_10140'],
  [PROTOCOL, 'client_10070 client_10080'],
  [AUTH, 'policy_20120'],
  [SPENT, 'client_10100'],
  [BUSY, 'client_10110 policy_20220 policy_20221 policy_20222 policy_20223'],
  [FORBIDDEN, 'client_10130 client_10250 client_10260 kyc_required business_account_required'],
);

/**
 * Bright Data's `x-brd-err-code`; undefined for a code of no known family. `client_100xx` is the account and its credentials, `policy_*` what it may
 * not do, `peer_*` the exit, `target_*` the way from the exit to the target.
 */
export function brightDataMeaning(code: string): Meaning | undefined {
  const known = BRIGHT_DATA.get(code);
  if (known !== undefined) return known;
  if (code.startsWith('client_100')) return AUTH;
  if (code.startsWith('policy_')) return FORBIDDEN;
  return code.startsWith('peer_') || code.startsWith('target_') ? EXIT : undefined;
}

/** Zyte Smart Proxy Manager's `X-Crawlera-Error`. */
export const ZYTE: ReadonlyMap<string, Meaning> = table(
  [AUTH, 'bad_proxy_auth bad_auth header_auth user_suspended'],
  [BUSY, 'too_many_conns user_session_limit'],
  [FORBIDDEN, 'domain_forbidden'],
  [PROTOCOL, 'invalid_request bad_uri bad_header bad_endpoint'],
  [
    EXIT,
    'banned slavebanned noslaves bad_session_id serverbusy timeout msgtimeout nxdomain ehostunreach econnrefused econnreset ' +
      'socket_closed_remotely client_conn_closed send_failed ssl_tunnel_error data_error',
  ],
);

/** DataImpulse says it in the reason phrase: `HTTP/1.1 407 TRAFFIC_EXHAUSTED`. */
export const DATA_IMPULSE: ReadonlyMap<string, Meaning> = table(
  [AUTH, 'NO_USER USER_BLOCKED PORT_NOT_ALLOWED'],
  [SPENT, 'TRAFFIC_EXHAUSTED REQUESTS_EXHAUSTED'],
  [BUSY, 'THREADS_EXHAUSTED USER_RATE_LIMIT_EXCEEDED'],
  [FORBIDDEN, 'PORT_BLOCKED HOST_BLOCKED SITE_PERMANENTLY_BLOCKED'],
  [EXIT, 'NO_HOST_CONNECTION NO_RAY INTERNAL_SERVER_ERROR'],
);

/**
 * The error types of RFC 9209 (2.3). `http_request_denied` is not among them: it is what Bright Data sends for wrong credentials
 * too, so the status tells.
 */
export const PROXY_STATUS: ReadonlyMap<string, Meaning> = table(
  [BUSY, 'connection_limit_reached'],
  [FORBIDDEN, 'destination_ip_prohibited'],
  [PROTOCOL, 'http_request_error proxy_configuration_error proxy_loop_detected'],
  [
    EXIT,
    'dns_timeout dns_error destination_not_found destination_unavailable destination_ip_unroutable connection_refused ' +
      'connection_terminated connection_timeout connection_read_timeout connection_write_timeout tls_protocol_error ' +
      'tls_certificate_error tls_alert_received http_response_incomplete http_response_header_section_size ' +
      'http_response_header_size http_response_body_size http_response_trailer_section_size http_response_trailer_size ' +
      'http_response_transfer_coding http_response_content_coding http_response_timeout http_upgrade_failed ' +
      'http_protocol_error proxy_internal_response proxy_internal_error',
  ],
);

/** Sentences, as Oxylabs sends them in `X-Error-Description`; the first that fits. */
const SENTENCES: readonly (readonly [pattern: RegExp, meaning: Meaning])[] = [
  [/traffic limit|traffic exhausted|out of traffic|quota exceeded|insufficient (?:balance|funds)/i, SPENT],
  [/\bthreads?\b|concurren|session limit|too many|rate limit/i, BUSY],
  [/restricted target|target is restricted|forbidden target/i, FORBIDDEN],
  [/authentication failed|credentials|whitelist|allowlist/i, AUTH],
];

export function sentenceMeaning(text: string): Meaning | undefined {
  return SENTENCES.find(([pattern]) => pattern.test(text))?.[1];
}

/**
 * What the status of a CONNECT answer says when nothing else does. 407 counts as `auth`, and so it is not retried; some providers send it for
 * used-up traffic or threads too, and then it may be neither (Oxylabs' and DataImpulse's words are read above). 411 is Geonode's blocked
 * account, 490 NetNut's lack of an exit, 597 Apify's refused credentials; 590 to 599 are its others.
 */
export function statusMeaning(status: number): Meaning {
  if (status === 401 || status === 407 || status === 411 || status === 597) return AUTH;
  if (status === 402) return SPENT;
  if (status === 429) return BUSY;
  if (status === 403 || status === 451) return FORBIDDEN;
  if (status >= 500 || status === 404 || status === 408 || status === 410 || status === 490) return EXIT;
  return PROTOCOL;
}

/**
 * Reply codes of SOCKS5 (RFC 1928, 6). 1 general failure, 3 network and 4 host unreachable, 5 refused, 6 TTL expired, and what
 * is not assigned, are the exit's.
 */
export function replyMeaning(reply: number): Meaning {
  if (reply === 2) return FORBIDDEN;
  return reply === 7 || reply === 8 ? PROTOCOL : EXIT;
}
