import type { Jar, SessionCookies } from './cookies.ts';
import { showAs } from './inspect.ts';
import { parseUrl } from './target/origin.ts';
import { invalid } from './validate.ts';

/** What the caller sees of a session's cookies: those of the jar it has now. */
export function cookiesOf(jar: () => Jar | undefined): SessionCookies {
  const face: SessionCookies = {
    get(url) {
      const { href } = parseUrl(url);
      const cookies = jar()?.for(href) ?? [];
      return cookies.map((cookie) => cookie.cookieString()).join('; ');
    },
    set(setCookie, url) {
      // Not shown: it may be a secret that was meant for the other argument.
      if (typeof setCookie !== 'string') throw invalid('cookies.set', 'a string', typeof setCookie);
      return jar()?.set(setCookie, parseUrl(url).href) ?? false;
    },
    clear() {
      jar()?.clear();
    },
    toJSON() {
      return jar()?.all() ?? [];
    },
  };
  showAs(face, () => `SessionCookies { ${face.toJSON().length} }`);
  return Object.freeze(face);
}
