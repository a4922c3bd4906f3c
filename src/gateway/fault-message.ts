/** A provider's words end up in errors, logs and events: they are cut to this many characters. */
const LONGEST_MESSAGE = 200;

/** No more of the provider's words is looked at. */
const LONGEST_INPUT = 512;

const HIDDEN = '[hidden]';

/** A secret of fewer characters is hidden where it stands as a word of its own. */
const SHORT_SECRET = 4;

/**
 * A provider's words, fit for an error: one line, at most 200 characters, and nothing in them that looks like credentials
 * (`user:pass@`, `Proxy-Authorization`, `Basic …`, `password=…`) or that is one of `secrets`. Undefined when nothing is left.
 *
 * @example
 * faultMessage('no route for joe:hunter2@gw.example'); // 'no route for [hidden]@gw.example'
 */
export function faultMessage(text: string | undefined, secrets: readonly string[] = []): string | undefined {
  if (text === undefined) return undefined;
  const message = cut(hide(text, secrets))
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is to go
    .replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ')
    .replace(/\b(?:proxy-)?authorization\s{0,8}[:=].*/gi, HIDDEN)
    .replace(/\b(?:basic|bearer|digest)\s{1,8}[A-Za-z0-9+/=._~-]{6,}/gi, HIDDEN)
    .replace(/\b(?:pass(?:word|wd)?|pwd|secret|token|api[_-]?key)["']?\s{0,8}[:=]\s{0,8}\S+/gi, HIDDEN)
    .replace(/[^\s:@/]{1,512}:\S{1,512}@/g, `${HIDDEN}@`)
    .trim();
  return message === '' ? undefined : message.slice(0, LONGEST_MESSAGE).trimEnd();
}

/** At a space: half a secret would no longer look like one. */
function cut(text: string): string {
  return text.length <= LONGEST_INPUT ? text : text.slice(0, Math.max(0, text.lastIndexOf(' ', LONGEST_INPUT)));
}

/** In one pass and longest first, since one secret may be a part of another. Short ones only as words, or they would be in every text. */
function hide(text: string, secrets: readonly string[]): string {
  const forms = secrets.filter((secret) => secret !== '').sort((a, b) => b.length - a.length);
  if (forms.length === 0) return text;
  const long = forms.filter((secret) => secret.length >= SHORT_SECRET).map(literally);
  const short = forms.filter((secret) => secret.length < SHORT_SECRET).map(literally);
  // Base64 of the credentials, or of a part of them: of another session, without its end …
  const encoded = long.length === 0 ? undefined : new RegExp(long.join('|'), 'i');
  const plain = text.replace(/[\w+/-]{8,}={0,2}/g, (run) =>
    encoded?.test(Buffer.from(run, 'base64').toString('latin1')) ? HIDDEN : run,
  );
  const words = short.map((secret) => `(?<![A-Za-z0-9])${secret}(?![A-Za-z0-9])`);
  // Whatever the case: percent-encoding has two.
  return plain.replace(new RegExp([...long, ...words].join('|'), 'gi'), HIDDEN);
}

const literally = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');

/** A provider's code, where it looks like one. */
export function faultCode(text: string | undefined): string | undefined {
  const code = text?.trim();
  return code === undefined || !/^[A-Za-z0-9][\w.-]{0,63}$/.test(code) ? undefined : code;
}

/** The code as it may be shown: a code is no place for a secret. */
export function shownCode(code: string | undefined, secrets: readonly string[] = []): string | undefined {
  return code === undefined || hide(code, secrets) !== code ? undefined : code;
}
