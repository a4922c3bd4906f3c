/** A provider's words end up in errors, logs and events: they are cut to this many characters. */
const LONGEST_MESSAGE = 200;

/** No more of the provider's words is looked at. */
const LONGEST_INPUT = 512;

const HIDDEN = '[hidden]';

/**
 * A provider's words, fit for an error: one line, at most 200 characters, and nothing in them that looks like credentials
 * (`user:pass@`, `Proxy-Authorization`, `Basic …`, `password=…`) or that is one of `secrets`. Undefined when nothing is left.
 *
 * @example
 * faultMessage('no route for joe:hunter2@gw.example'); // 'no route for [hidden]@gw.example'
 */
export function faultMessage(text: string | undefined, secrets: readonly string[] = []): string | undefined {
  if (text === undefined) return undefined;
  let message = text;
  for (const secret of secrets) if (secret !== '') message = message.replaceAll(secret, HIDDEN);
  message = cut(message)
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

/** A provider's code, where it looks like one; a code is no place for a secret. */
export function faultCode(text: string | undefined, secrets: readonly string[] = []): string | undefined {
  const code = text?.trim();
  if (code === undefined || !/^[A-Za-z0-9][\w.-]{0,63}$/.test(code)) return undefined;
  return secrets.some((secret) => secret !== '' && code.includes(secret)) ? undefined : code;
}
