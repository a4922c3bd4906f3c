/** What a client's credentials ask of the gateway. */
export interface Credentials {
  /** The id that pins one exit; without one there is nothing to hold on to. */
  readonly session?: string;
  /** Everything else the user name asked for, such as `{ country: 'us' }`. */
  readonly params: Readonly<Record<string, string>>;
}

/** Reads a client's credentials; `undefined` refuses them with 407. */
export type Authenticate = (user: string, password: string) => Credentials | undefined;

/** The common syntax: `user-session-abc123-country-us`. `undefined` when the name does not begin with `base`. */
export function parseUser(user: string, base: string): Credentials | undefined {
  if (user !== base && !user.startsWith(`${base}-`)) return undefined;
  return paramsOf(user.slice(base.length + 1));
}

/** As {@link parseUser} where no name is asked for: whatever stands before the first dash will do. */
export function parseAnyUser(user: string, base: string): Credentials {
  const dash = user.indexOf('-');
  return parseUser(user, base) ?? paramsOf(dash < 0 ? '' : user.slice(dash + 1));
}

function paramsOf(text: string): Credentials {
  const words = text === '' ? [] : text.split('-');
  const params: Record<string, string> = {};
  let session: string | undefined;
  for (let i = 0; i < words.length; i += 2) {
    const value = words[i + 1] ?? '';
    if (words[i] === 'session' && value !== '') session = value;
    else params[words[i]] = value;
  }
  return { session, params };
}

/** User and password of a Basic `Proxy-Authorization`. */
export function basicAuth(header: string | undefined): [user: string, password: string] | undefined {
  const match = /^basic +([A-Za-z0-9+/_=-]+)$/i.exec(header ?? '');
  if (match === null) return undefined;
  const text = Buffer.from(match[1], 'base64').toString();
  const colon = text.indexOf(':');
  return colon < 0 ? [text, ''] : [text.slice(0, colon), text.slice(colon + 1)];
}
