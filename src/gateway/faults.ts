import type { GatewayErrorKind } from '../errors.ts';
import { type HeaderSource, headerOf } from '../headers/read.ts';
import { structuredList, textOf } from '../headers/structured.ts';
import { faultCode, faultMessage, shownCode } from './fault-message.ts';
import {
  brightDataMeaning,
  DATA_IMPULSE,
  type Meaning,
  PROXY_STATUS,
  replyMeaning,
  sentenceMeaning,
  statusMeaning,
  ZYTE,
} from './provider-codes.ts';

/** A gateway's refusal of a CONNECT. */
export interface GatewayAnswer {
  readonly status: number;
  readonly headers: HeaderSource;
  /** The reason phrase: DataImpulse puts its code there. It is never repeated in a message. */
  readonly statusMessage?: string | undefined;
  /** What must not appear in a message: the proxy's user name and password, in every spelling ({@link spellingsOf}). */
  readonly secrets?: readonly string[];
}

/** What a gateway's refusal means. */
export interface GatewayFault {
  readonly kind: GatewayErrorKind;
  /** The provider's own code: `client_10100`, `dns_error`, `TRAFFIC_EXHAUSTED`, `593`, `UND_ERR_SOCKS5_REPLY_5`. */
  readonly providerCode?: string;
  /** The provider's own words, at most 200 characters, without credentials. */
  readonly message?: string;
  /**
   * No other attempt can mend it. `auth` and `forbidden` are; so is `quota`, but where it is a rate or the number of connections at a time
   * it passes, and is not.
   */
  readonly fatal: boolean;
}

/**
 * What a gateway's answer to CONNECT means. Pure; never throws, whatever the gateway sent.
 *
 * In this order: the provider's code (`x-brd-err-code`, also where it is quoted in `Proxy-Status`; `X-Crawlera-Error`), the error type of
 * `Proxy-Status` (RFC 9209), the sentence of `X-Error-Description`, a known code as reason phrase (DataImpulse), the status. A 407 that
 * says nothing else is `auth`.
 *
 * @example
 * gatewayFault({ status: 502, headers: { 'x-brd-err-code': 'client_10100' } });
 * // { kind: 'quota', providerCode: 'client_10100', fatal: true }
 */
export function gatewayFault(answer: GatewayAnswer): GatewayFault {
  return byBrightData(answer) ?? byZyte(answer) ?? byProxyStatus(answer) ?? byWords(answer) ?? byStatus(answer);
}

/**
 * What a failed SOCKS5 handshake means, by undici's error code. A provider refuses used-up traffic in the same words as wrong
 * credentials here: `auth` may be either.
 *
 * @example
 * socksFault('UND_ERR_SOCKS5_REPLY_2'); // { kind: 'forbidden', providerCode: 'UND_ERR_SOCKS5_REPLY_2', fatal: true }
 */
export function socksFault(code: string): GatewayFault {
  const reply = /^UND_ERR_SOCKS5_REPLY_(\d{1,3})$/.exec(code);
  if (reply !== null) return fault(replyMeaning(Number(reply[1])), faultCode(code), undefined);
  if (/VERSION|ADDR_TYPE/.test(code)) return fault({ kind: 'protocol' }, faultCode(code), undefined);
  return fault({ kind: code.includes('AUTH') ? 'auth' : 'exit-failed' }, faultCode(code), undefined);
}

function byBrightData({ status, headers, secrets }: GatewayAnswer): GatewayFault | undefined {
  const code = faultCode(headerOf(headers, 'x-brd-err-code') ?? headerOf(headers, 'x-brd-error-code'));
  if (code === undefined) return undefined;
  const words = headerOf(headers, 'x-brd-err-msg') ?? headerOf(headers, 'x-brd-error');
  return fault(
    brightDataMeaning(code) ?? statusMeaning(status),
    shownCode(code, secrets),
    faultMessage(words, secrets),
  );
}

function byZyte({ status, headers, secrets }: GatewayAnswer): GatewayFault | undefined {
  const code = faultCode(headerOf(headers, 'x-crawlera-error'));
  return code === undefined
    ? undefined
    : fault(ZYTE.get(code) ?? statusMeaning(status), shownCode(code, secrets), undefined);
}

/** Each proxy on the way adds a member; the last one with an error is the nearest. */
function byProxyStatus({ status, headers, secrets }: GatewayAnswer): GatewayFault | undefined {
  const field = headerOf(headers, 'proxy-status');
  const members = field === undefined ? undefined : structuredList(field);
  for (const [, parameters] of members?.toReversed() ?? []) {
    const type = faultCode(textOf(parameters.get('error')));
    if (type === undefined) continue;
    const details = textOf(parameters.get('details'));
    const message = faultMessage(details, secrets);
    // Bright Data quotes its own code, which says more: details="client_10000: Invalid authentication…"
    const quoted = /^\s{0,8}([a-z]{1,16})[_-](\d{5})\b/.exec(details ?? '');
    const own = quoted === null ? undefined : `${quoted[1]}_${quoted[2]}`;
    const ownMeaning = own === undefined ? undefined : brightDataMeaning(own);
    if (ownMeaning !== undefined) return fault(ownMeaning, shownCode(own, secrets), message);
    return fault(PROXY_STATUS.get(type) ?? deniedMeaning(type, status), shownCode(type, secrets), message);
  }
  return undefined;
}

/** Denied by the proxy's configuration: what for, the statuses for credentials and quotas tell. */
function deniedMeaning(type: string, status: number): Meaning {
  const meaning = statusMeaning(status);
  if (type !== 'http_request_denied' || meaning.kind === 'auth' || meaning.kind === 'quota') return meaning;
  return { kind: 'forbidden' };
}

function byWords({ status, headers, statusMessage, secrets }: GatewayAnswer): GatewayFault | undefined {
  const sentence = headerOf(headers, 'x-error-description');
  const message = faultMessage(sentence, secrets);
  const phrase = (statusMessage ?? '').slice(0, 64).trim();
  const known = DATA_IMPULSE.get(phrase);
  if (known !== undefined) return fault(known, phrase, message);
  if (sentence === undefined) return undefined;
  return fault(sentenceMeaning(sentence.slice(0, 512)) ?? statusMeaning(status), undefined, message);
}

function byStatus({ status }: GatewayAnswer): GatewayFault {
  const own = status >= 590 && status <= 599 ? String(status) : undefined;
  return fault(statusMeaning(status), own, undefined);
}

function fault(meaning: Meaning, providerCode: string | undefined, message: string | undefined): GatewayFault {
  const { kind, passes } = meaning;
  const fatal = (kind === 'auth' || kind === 'quota' || kind === 'forbidden') && passes !== true;
  return {
    kind,
    ...(providerCode === undefined ? undefined : { providerCode }),
    ...(message === undefined ? undefined : { message }),
    fatal,
  };
}
