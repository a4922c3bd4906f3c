import type { IncomingHttpHeaders } from 'node:http';
import { Cookie, CookieJar } from 'tough-cookie';
import type { Dispatcher } from 'undici';
import type { Clock } from './clock.ts';
import { CookieStore } from './cookie-store.ts';
import { showAs } from './inspect.ts';

/** A cookie as {@link SessionCookies.toJSON} gives it: what `set` takes, so that a jar can be kept and filled again. */
export interface SavedCookie {
  readonly setCookie: string;
  readonly url: string;
}

/** The cookies of one session; of no other. What they hold is in no error, event or `console.log`. */
export interface SessionCookies {
  /** What a request to `url` is sent with, as its `Cookie` header: `'a=1; b=2'`. Empty when there is none. */
  get(url: string | URL): string;
  /** Adds a cookie, as if `url` had answered with this `Set-Cookie`. Returns whether it was taken. */
  set(setCookie: string, url: string | URL): boolean;
  clear(): void;
  /**
   * All of them, to be kept.
   *
   * @example
   * const saved = JSON.stringify(session.cookies);
   * for (const { setCookie, url } of JSON.parse(saved)) session.cookies.set(setCookie, url);
   */
  toJSON(): SavedCookie[];
}

/** The longest cookie taken, in bytes, attributes included. */
const MOST_BYTES = 4096;
/** The last instant a Date can hold. */
const LAST_DAY = 8.64e15;
/** What may stand in a header: a cookie of anything else would make every request fail that carries it. */
const SENDABLE = /^[\t\x20-\x7e\x80-\xff]*$/;

/**
 * The cookies of one stay on one exit. What a server sets is never a reason to fail: what is broken, too long, for another's
 * domain or for a public suffix is left out.
 */
export class Jar {
  private readonly clock: Clock;
  private readonly store: CookieStore = new CookieStore();
  private readonly jar: CookieJar;

  constructor(clock: Clock) {
    this.clock = clock;
    // Plain http is plain http, on this machine as elsewhere: the way there is a proxy's.
    this.jar = new CookieJar(this.store, { looseMode: true, allowSecureOnLocal: false });
    showAs(this, () => `Jar { ${this.store.size} cookies }`);
  }

  /** Keeps what an answer sets. */
  keep(headers: IncomingHttpHeaders, url: string): void {
    const set: string | string[] | undefined = headers['set-cookie'];
    if (set === undefined) return;
    for (const one of typeof set === 'string' ? [set] : set) this.set(one, url);
  }

  set(setCookie: string, url: string): boolean {
    if (setCookie.length > MOST_BYTES) return false;
    const now = this.clock.wallNow();
    try {
      const cookie = Cookie.parse(setCookie, { loose: true });
      const pair = cookie?.cookieString();
      if (cookie === undefined || !pair || !SENDABLE.test(pair)) return false;
      settleExpiry(cookie, now);
      const kept = this.jar.setCookieSync(cookie, url, { ignoreError: true, now: new Date(now) });
      if (kept === undefined) return false;
      // This is how a server takes a cookie back.
      if (isOver(kept, now)) this.store.remove(kept);
      else this.store.trim(kept);
      return true;
    } catch {
      return false;
    }
  }

  /** Those for a request, the most specific path first. */
  for(url: string): readonly Cookie[] {
    if (this.store.size === 0) return [];
    const now = this.clock.wallNow();
    try {
      return this.jar.getCookiesSync(url, { expire: false, sort: true }).filter((cookie) => {
        const over = isOver(cookie, now);
        if (over) this.store.remove(cookie);
        else this.store.use(cookie);
        return !over;
      });
    } catch {
      return [];
    }
  }

  /** The headers of a request with the cookies for it. The caller's own cookie of a name goes before the jar's. */
  addTo(headers: Dispatcher.DispatchOptions['headers'], url: string): Dispatcher.DispatchOptions['headers'] {
    const cookies = this.for(url);
    if (cookies.length === 0) return headers;
    const others: [string, unknown][] = [];
    const own: string[] = [];
    for (const [name, value] of pairsOf(headers)) {
      if (name.toLowerCase() !== 'cookie') others.push([name, value]);
      else for (const text of [value].flat()) own.push(...splitCookies(String(text)));
    }
    const named = new Set(own.map(nameOf));
    const all = cookies.filter(({ key }) => !named.has(key)).map((cookie) => cookie.cookieString());
    others.push(['cookie', [...all, ...own].join('; ')]);
    return (Array.isArray(headers) ? others.flat() : Object.fromEntries(others)) as typeof headers;
  }

  clear(): void {
    this.store.clear();
  }

  all(): SavedCookie[] {
    const now = this.clock.wallNow();
    const saved: SavedCookie[] = [];
    for (const cookie of this.store) {
      if (isOver(cookie, now)) continue;
      const { domain, path, secure } = cookie;
      const host = domain?.includes(':') ? `[${domain}]` : domain;
      saved.push({ setCookie: cookie.toString(), url: `${secure ? 'https' : 'http'}://${host}${path}` });
    }
    return saved;
  }
}

/**
 * Max-Age as a date, on the manager's clock. tough-cookie counts it from the last use, on the system's: a cookie in use would never end.
 */
function settleExpiry(cookie: Cookie, now: number): void {
  const { maxAge } = cookie;
  if (maxAge === null) return;
  cookie.maxAge = null;
  const endsAt = now + Number(maxAge) * 1000;
  cookie.expires = endsAt <= now ? new Date(0) : endsAt < LAST_DAY ? new Date(endsAt) : 'Infinity';
}

function isOver({ expires }: Cookie, now: number): boolean {
  return expires instanceof Date && expires.getTime() <= now;
}

/** Headers in any dress that undici takes: an object, a flat list, pairs. */
function pairsOf(headers: Dispatcher.DispatchOptions['headers']): Iterable<[string, unknown]> {
  if (headers === undefined || headers === null) return [];
  if (!Array.isArray(headers)) {
    return Symbol.iterator in headers ? (headers as Iterable<[string, unknown]>) : Object.entries(headers);
  }
  const pairs: [string, unknown][] = [];
  for (let i = 0; i < headers.length; i += 2) pairs.push([String(headers[i]), headers[i + 1]]);
  return pairs;
}

function splitCookies(header: string): string[] {
  return header
    .split(';')
    .map((one) => one.trim())
    .filter((one) => one !== '');
}

function nameOf(cookie: string): string {
  const end = cookie.indexOf('=');
  return end < 0 ? '' : cookie.slice(0, end).trim();
}
