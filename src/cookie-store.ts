import { type Cookie, Store } from 'tough-cookie';

type Callback<T> = (error: Error | null, result?: T) => void;

/** At least these is what RFC 6265, section 6.1, asks of a client; at most, so that no site can fill the memory. */
const MOST_OF_DOMAIN = 50;
const MOST_IN_ALL = 3000;

/** Where a jar's cookies are: in the order they were used, so that the first is the one to go. Bounded, which tough-cookie's own store is not. */
export class CookieStore extends Store {
  override synchronous: boolean = true;
  size = 0;
  private readonly domains = new Map<string, Map<string, Cookie>>();

  override findCookie(domain: unknown, path: unknown, key: unknown, callback?: unknown): Promise<Cookie | undefined> {
    const found = this.domains.get(domain as string)?.get(idOf({ path, key }));
    (callback as Callback<Cookie | undefined>)(null, found);
    return Promise.resolve(found);
  }

  /** Those of a host and of the domains above it; the jar looks at the rest. */
  override findCookies(domain: unknown, _path: unknown, _special?: unknown, callback?: unknown): Promise<Cookie[]> {
    const found: Cookie[] = [];
    for (let host = String(domain); ; ) {
      const own = this.domains.get(host);
      if (own !== undefined) found.push(...own.values());
      const dot = host.indexOf('.');
      if (dot < 0) break;
      host = host.slice(dot + 1);
    }
    (callback as Callback<Cookie[]>)(null, found);
    return Promise.resolve(found);
  }

  override putCookie(cookie: Cookie, callback?: unknown): Promise<void> {
    this.use(cookie);
    (callback as Callback<void> | undefined)?.(null);
    return Promise.resolve();
  }

  override updateCookie(_old: Cookie, cookie: Cookie, callback?: unknown): Promise<void> {
    return this.putCookie(cookie, callback);
  }

  /** Makes it the one used last. */
  use(cookie: Cookie): void {
    const domain = String(cookie.domain);
    const own = this.domains.get(domain) ?? new Map<string, Cookie>();
    if (own.delete(idOf(cookie))) this.size--;
    own.set(idOf(cookie), cookie);
    this.size++;
    this.domains.delete(domain);
    this.domains.set(domain, own);
  }

  remove(cookie: Cookie): void {
    const domain = String(cookie.domain);
    const own = this.domains.get(domain);
    if (!own?.delete(idOf(cookie))) return;
    this.size--;
    if (own.size === 0) this.domains.delete(domain);
  }

  /** One was added: those used least lately go. */
  trim({ domain }: Cookie): void {
    const own = this.domains.get(String(domain));
    if (own !== undefined && own.size > MOST_OF_DOMAIN) this.remove(firstOf(own.values()));
    if (this.size > MOST_IN_ALL) this.remove(firstOf(firstOf(this.domains.values()).values()));
  }

  clear(): void {
    this.domains.clear();
    this.size = 0;
  }

  *[Symbol.iterator](): IterableIterator<Cookie> {
    for (const own of this.domains.values()) yield* own.values();
  }
}

/** What, besides the domain, makes two cookies one. Neither part can hold a NUL. */
function idOf({ path, key }: { path: unknown; key: unknown }): string {
  return `${path}\0${key}`;
}

function firstOf<T>(values: Iterator<T>): T {
  return values.next().value as T;
}
