import type { Outcome } from './store/store.ts';

/**
 * By what a block or a challenge is recognised, as an outcome (never to defeat it). Only what a guard does counts: that `cf-ray`,
 * `x-datadome`, `X-Iinfo` or a vendor's cookie is there names who guards the site, and `cf_clearance` means a challenge was passed.
 */

/** So much of a body is looked at, in characters. */
export const BODY_LOOK = 8192;

/** Headers that say it themselves: enough alone. */
export const CHALLENGE_HEADERS: readonly (readonly [name: string, values: readonly string[]])[] = [
  ['cf-mitigated', ['challenge']],
  ['x-amzn-waf-action', ['challenge', 'captcha']],
  ['x-vercel-mitigated', ['challenge']],
];

interface BodySignal {
  readonly outcome: Outcome;
  /** `body` is never longer than {@link BODY_LOOK}. */
  readonly in: (body: string) => boolean;
  /** Its script is on the ordinary pages of the sites it guards, too: on a 2xx it takes a short page, which holds nothing else. */
  readonly onPages?: true;
}

const has =
  (text: string): BodySignal['in'] =>
  (body) =>
    body.includes(text);

/** Texts that only a guard's page has. */
const STRONG: readonly BodySignal[] = [
  // Akamai; its edge writes the two marks as entities.
  { outcome: 'blocked', in: (body) => body.includes('Reference #18.') || body.includes('Reference&#32;&#35;18&#46;') },
  { outcome: 'challenged', in: (body) => body.includes('challenge-form') && body.includes('__cf_chl_f_tk=') },
  // Cloudflare injects …/scripts/jsd/ into pages that it lets through.
  {
    outcome: 'challenged',
    in: (body) => /\/cdn-cgi\/challenge-platform\/(?!(?:h\/[a-z]\/)?scripts\/jsd\/)/.test(body),
    onPages: true,
  },
  { outcome: 'challenged', in: has('window._pxAppId ='), onPages: true },
  { outcome: 'challenged', in: has('captcha-delivery.com') },
  // The text of a refusal comes in the page of the resource.
  { outcome: 'blocked', in: has('Incapsula incident ID') },
  { outcome: 'challenged', in: has('_Incapsula_Resource'), onPages: true },
  { outcome: 'challenged', in: has('Pardon Our Interruption') },
];

/** Words that any page may have, in lower case: only with an error status, or on a short page. */
const WEAK: readonly (readonly [text: string, outcome: Outcome])[] = [
  ['access denied', 'blocked'],
  ['just a moment', 'challenged'],
  ['checking your browser', 'challenged'],
  ['g-recaptcha', 'challenged'],
  ['h-captcha', 'challenged'],
];

/** GitHub's words for limits that it does not put into headers (secondary rate limits), and older ones for the same. */
const LIMIT_WORDS = /secondary rate limit|API rate limit exceeded|abuse detection mechanism/;

/** `<span class="cf-error-code">1020</span>` */
const CLOUDFLARE_ERROR = /cf-error-code[^0-9]{0,16}(\d{3,4})?/;

/** Cloudflare's own numbers for a request that it turned away; its others (520, 1016, 1033 …) are troubles of the site behind it. */
const CLOUDFLARE_REFUSALS: ReadonlySet<number> = new Set([
  1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1020, 1106,
]);

/** What a strong signal in the body says. `ordinary`: a 2xx page that is long enough to be what was asked for. */
export function strongInBody(body: string, ordinary: boolean): Outcome | undefined {
  const cloudflare = CLOUDFLARE_ERROR.exec(body);
  if (cloudflare !== null) {
    const number = Number(cloudflare[1] ?? 1020);
    if (number === 1015) return 'rate-limited';
    if (CLOUDFLARE_REFUSALS.has(number)) return 'blocked';
  }
  return STRONG.find((signal) => !(ordinary && signal.onPages) && signal.in(body))?.outcome;
}

/** What a weak signal in the body says, where the company it is in lets it count. */
export function weakInBody(body: string): Outcome | undefined {
  const lower = body.toLowerCase();
  return WEAK.find(([text]) => lower.includes(text))?.[1];
}

/** Whether a refusal words itself as a rate limit. */
export function wordsLimit(body: string): boolean {
  return LIMIT_WORDS.test(body);
}

/** No URL is longer that is looked at. */
const LONGEST_URL = 8192;

/** Most URLs are told by this to be none of them, without being parsed. */
const MAY_BE_CHALLENGE = /sorry|captcha|challenge|chk_|incapsula|robot-check|bot-?check/i;

/** Paths of known challenges: Google, Cloudflare, Imperva, Amazon. */
const CHALLENGE_PATH =
  /^\/(?:sorry\/index(?:$|[/.])|cdn-cgi\/(?:challenge-platform\/|l\/chk_)|_Incapsula_Resource|errors\/validateCaptcha)/i;

/** Paths that say what they are, where they are not what was asked for. */
const CAPTCHA_PATH =
  /(?:^|\/)(?:captcha|recaptcha|hcaptcha|bot-?check|robot-check)(?:\/|\.[a-z]{1,5}$|$)|^\/challenge\/?$/i;

/**
 * Whether an address, perhaps relative to `asked`, is that of a challenge. `asked` is what the caller wanted: a path like `/captcha` is
 * a page like any other when it was asked for, and when nobody knows what was.
 */
export function isChallengeUrl(url: string, asked: string | undefined): boolean {
  if (url.length > LONGEST_URL || !MAY_BE_CHALLENGE.test(url)) return false;
  const parsed = parse(url) ?? parse(url, asked);
  if (parsed === undefined) return false;
  if (CHALLENGE_PATH.test(parsed.pathname)) return true;
  if (/(?:^|\.)captcha-delivery\.com$/.test(parsed.hostname)) return true;
  if (asked === undefined || !CAPTCHA_PATH.test(parsed.pathname)) return false;
  return parse(asked)?.pathname !== parsed.pathname;
}

function parse(url: string, base?: string): URL | undefined {
  try {
    return new URL(url, base);
  } catch {
    return undefined;
  }
}
