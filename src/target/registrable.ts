import { getDomain } from 'tldts';

/**
 * The host as `URL` writes it (lower case, punycode, canonical IP) without a trailing dot or the brackets of IPv6;
 * undefined when it is no host. Takes a bare host only, no port: `[::1]`, `::1`, `Bücher.example.`
 *
 * @example
 * canonicalHost('WWW.Bücher.Example.'); // 'www.xn--bcher-kva.example'
 */
export function canonicalHost(host: string): string | undefined {
  const isIPv6 = /^(?:\[([0-9a-f:.]+)\]|([0-9a-f.]*:[0-9a-f:.]*))$/i.exec(host);
  if (!isIPv6 && !/^[^\s/\\?#@:[\]]+$/.test(host)) return undefined;
  const url = URL.parse(`http://${isIPv6 ? `[${isIPv6[1] ?? isIPv6[2]}]` : host}/`);
  return url ? bareHost(url.hostname) || undefined : undefined;
}

/** {@link canonicalHost} for a `URL`'s own `hostname`, which is canonical but for dot and brackets. */
export function bareHost(hostname: string): string {
  if (hostname.startsWith('[')) return hostname.slice(1, -1);
  return hostname.endsWith('.') ? hostname.slice(0, -1) : hostname;
}

/**
 * The registrable domain of a host: the part somebody could register, by the Public Suffix List. Its private section
 * counts too, so that `a.github.io` and `b.github.io`, which belong to two people, are two domains.
 *
 * A host without one is itself: an IP, a single label such as `localhost`, a public suffix, or what is no host name at
 * all. Spelling does not matter: see {@link canonicalHost}.
 *
 * @example
 * registrableDomain('www.shop.example.co.uk'); // 'example.co.uk'
 */
export function registrableDomain(host: string): string {
  return domainOf(canonicalHost(host) ?? host);
}

/** {@link registrableDomain} of a host that is canonical already. */
export function domainOf(canonical: string): string {
  if (canonical.includes('..')) return canonical; // an empty label: no domain, though the list would find one
  // Unvalidated: real hosts such as '-x.example.com' would fail, and each be its own target.
  return (
    getDomain(canonical, { allowPrivateDomains: true, extractHostname: false, validateHostname: false }) ?? canonical
  );
}
