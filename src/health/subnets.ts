import { egressKey } from '../egress-key.ts';
import { count, invalid, positive } from '../validate.ts';

/** Options of {@link subnetWatch}. */
export interface SubnetWatchOptions {
  /** Fewer egresses seen than this make no suspect; an integer from 1 to 256. @default 4 */
  readonly minEgresses?: number;
  /** A subnet is suspect when this share of its egresses is blocked, in (0, 1]. @default 0.5 */
  readonly share?: number;
  /** How many subnets are remembered, those heard of last; an integer ≥ 1. @default 1024 */
  readonly maxSubnets?: number;
}

/** See {@link subnetWatch}. */
export interface SubnetWatch {
  /** What is known of an egress now: whether it is blocked (ejected, challenged). An egress that is no address is passed over. */
  record(egress: string, blocked: boolean): void;
  /** The subnets that are suspect, as `192.0.2.0/24` or `2001:db8:1::/48`, the one heard of last at the end. O(subnets). */
  suspects(): string[];
}

/** A subnet has 256 places: an IPv4 address its own, a /64 one that it may share. */
const PLACES = 256;
const WORDS = PLACES / 32;
/** Odd, so that the first 256 /64s of a /48, which providers mostly hand out, have a place each. */
const MIX = 167;

/** Which places were seen, and which are blocked; the two as bits, with their counts. */
class Subnet {
  readonly bits: Uint32Array = new Uint32Array(2 * WORDS);
  seen = 0;
  blocked = 0;
}

/**
 * Notices when blocks spread over a neighbourhood: targets ban whole ranges, and an exit from a banned one is burned
 * before its first request. A neighbourhood is a /24 of IPv4 addresses, the smallest range that is routed, and a /48 of
 * IPv6, what a site is given, of which every /64 is one egress.
 *
 * With at least four egresses seen, since fewer prove nothing, and half of them blocked, since with independent bans at
 * a tolerable 5 % that happens to one neighbourhood in 70 of four and to one in 2,700 of eight.
 *
 * 100 bytes or so a subnet, whatever the number of egresses, and `maxSubnets` of them. Of two /64s that fall on one of the
 * 256 places of a /48 the last one heard of counts.
 *
 * @throws {ConfigError} on a bad option.
 * @example
 * const watch = subnetWatch();
 * watch.record('192.0.2.17', true);
 * watch.suspects(); // ['192.0.2.0/24'], once enough of its neighbours are
 */
export function subnetWatch(options: SubnetWatchOptions = {}): SubnetWatch {
  const minEgresses = count('minEgresses', options.minEgresses ?? 4);
  if (minEgresses > PLACES) throw invalid('minEgresses', `at most ${PLACES}`, minEgresses);
  const share = positive('share', options.share ?? 0.5);
  if (share > 1) throw invalid('share', 'a number > 0, at most 1', share);
  const maxSubnets = count('maxSubnets', options.maxSubnets ?? 1024);
  const subnets = new Map<string, Subnet>(); // the one heard of last at the end

  return {
    record(egress, blocked) {
      const where = locate(egressKey(egress));
      if (where === undefined) return;
      const subnet = subnets.get(where.subnet) ?? new Subnet();
      subnets.delete(where.subnet);
      subnets.set(where.subnet, subnet);
      if (subnets.size > maxSubnets) subnets.delete(subnets.keys().next().value!);
      subnet.seen += mark(subnet.bits, 0, where.place, true);
      subnet.blocked += mark(subnet.bits, WORDS, where.place, blocked);
    },
    suspects() {
      const found: string[] = [];
      for (const [name, { seen, blocked }] of subnets) {
        if (seen >= minEgresses && blocked >= share * seen) found.push(name);
      }
      return found;
    },
  };
}

/** The subnet of an egress key and the egress's place in it; undefined for an opaque id. */
function locate(key: string): { subnet: string; place: number } | undefined {
  const dot = key.lastIndexOf('.');
  if (dot > 0 && /^\d+\.\d+\.\d+\.\d+$/.test(key)) {
    return { subnet: `${key.slice(0, dot)}.0/24`, place: Number(key.slice(dot + 1)) };
  }
  // As egressKey writes a /64: at most four groups, those that are 0 at the end left out.
  const match = /^((?:[0-9a-f]{1,4}(?::(?!:)|(?=::))){0,4})::\/64$/.exec(key);
  if (match === null) return undefined;
  const groups = match[1].split(':');
  const last = Number.parseInt(groups[3] ?? '0', 16);
  const site = groups.slice(0, 3);
  while (site.length > 0 && Number.parseInt(site.at(-1)!, 16) === 0) site.pop();
  return { subnet: `${site.join(':')}::/48`, place: (last ^ Math.imul(last >>> 8, MIX)) & (PLACES - 1) };
}

/** Sets or clears a bit; returns what that adds to the count of set ones. */
function mark(bits: Uint32Array, from: number, place: number, on: boolean): number {
  const at = from + (place >>> 5);
  const bit = 1 << (place & 31);
  const was = (bits[at] & bit) !== 0;
  if (was === on) return 0;
  bits[at] ^= bit;
  return on ? 1 : -1;
}
