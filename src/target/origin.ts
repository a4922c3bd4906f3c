import { ConfigError } from '../errors.ts';

/** A URL, parsed unless it is. @throws {ConfigError} on what is none, and on protocols other than http and https. */
export function parseUrl(url: unknown): URL {
  const parsed = url instanceof URL ? url : typeof url === 'string' ? URL.parse(url) : null;
  if (parsed === null) {
    throw new ConfigError(
      `url: expected an absolute http(s) URL, got ${typeof url === 'string' ? shown(url) : typeof url}`,
      { option: 'url' },
    );
  }
  if (parsed.protocol !== 'https:' && parsed.protocol !== 'http:') {
    throw new ConfigError(`url: expected http: or https:, got ${parsed.protocol}`, { option: 'url' });
  }
  return parsed;
}

/** A short line without what may be a password. */
function shown(url: string): string {
  const at = url.lastIndexOf('@');
  return `'${(at < 0 ? url : `***${url.slice(at)}`).slice(0, 60)}'`;
}

/** The port that a request for the URL goes to. */
export function portOf(url: URL): number {
  if (url.port !== '') return Number(url.port);
  return url.protocol === 'https:' ? 443 : 80;
}

/**
 * Where the text that would be the origin ends in a URL, -1 if there is no path. Only to look up: where the text is
 * letter by letter an origin that `URL` once gave back, the parser would give it back again; everything else (credentials,
 * upper case, backslashes, tabs, a query without a path) is not found and must be parsed.
 */
export function endOfOrigin(text: string): number {
  return text.indexOf('/', 'https://'.length);
}
