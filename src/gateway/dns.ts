import dns, { type LookupAddress } from 'node:dns';
import type { LookupFunction } from 'node:net';

/** One lookup of a gateway's name serves all dials of this time, in milliseconds; gateways change address rarely, and getaddrinfo blocks a thread. */
const TTL_MS = 30_000;
const MOST_NAMES = 1000;

interface Cached {
  readonly addresses: LookupAddress[];
  readonly until: number;
}

const cache = new Map<string, Cached>();

/** `dns.lookup` for sockets, remembered for {@link TTL_MS}. Failures are not remembered. */
export const cachedLookup: LookupFunction = (hostname, options, callback) => {
  const key = `${options.family ?? 0} ${hostname}`;
  const hit = cache.get(key);
  const answer = (addresses: LookupAddress[]): void => {
    if (options.all) callback(null, addresses);
    else callback(null, addresses[0].address, addresses[0].family);
  };
  if (hit !== undefined && hit.until > performance.now()) {
    queueMicrotask(() => answer(hit.addresses));
    return;
  }
  dns.lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error !== null || addresses.length === 0) {
      callback(error ?? Object.assign(new Error(`no address for ${hostname}`), { code: 'ENOTFOUND' }), '', 0);
      return;
    }
    if (cache.size >= MOST_NAMES) cache.delete(cache.keys().next().value as string);
    cache.set(key, { addresses, until: performance.now() + TTL_MS });
    answer(addresses);
  });
};
