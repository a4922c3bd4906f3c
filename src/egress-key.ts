import ipaddr from 'ipaddr.js';

/** No spelling of an address is longer; what is, is an id. */
const LONGEST_ADDRESS = 100;

/** `address`, `address%zone`, `[address]`, `[address%zone]:port`, each maybe with the `/64` that egressKey itself writes. */
const IPV6 = /^(?:([0-9a-f:.]+)(?:%[^\][/%]+)?|\[([0-9a-f:.]+)(?:%[^\][/]+)?\](?::\d{1,5})?)(?:\/64)?$/i;

/**
 * The key of an egress: one for every spelling of an address, and for all of the addresses a target takes for one client.
 *
 * - IPv4 stays as it is, without a port: `192.0.2.1`, `192.0.2.1:8080` → `192.0.2.1`. Only four decimal numbers count, none
 *   with a leading zero: `127.1`, `0x7f.1` and `12345` are ids, and `010.0.0.1`, octal to some and decimal to others, too.
 * - IPv6 is its /64, which is what one subscriber gets: `[2001:DB8:1:2::9]:443` → `2001:db8:1:2::/64`. Brackets, port
 *   and zone do not matter.
 * - IPv4 in IPv6 (RFC 4291, 2.5.5.2) is the IPv4: `::ffff:192.0.2.1`, `::ffff:c000:201` → `192.0.2.1`.
 * - Anything else, such as the hash some providers send, is an opaque id and stays as it is.
 *
 * Surrounding whitespace is dropped. Never throws; a key is its own key.
 *
 * @example
 * egressKey('2001:DB8:1:2::9'); // '2001:db8:1:2::/64'
 */
export function egressKey(ip: string): string {
  if (isIPv4(ip)) return ip;
  const text = ip.trim();
  if (text.length > LONGEST_ADDRESS) return text;

  const colon = text.indexOf(':');
  if (colon < 0) return text;
  if (colon === text.lastIndexOf(':')) {
    const host = text.slice(0, colon);
    return /^\d{1,5}$/.test(text.slice(colon + 1)) && isIPv4(host) ? host : text;
  }

  const match = IPV6.exec(text);
  return (match && keyOfIPv6(match[1] ?? match[2])) ?? text;
}

function keyOfIPv6(address: string): string | undefined {
  if (address.includes('.')) {
    // Into hexadecimal: ipaddr.js takes more than decimals here, and takes ::192.0.2.1 for ::ffff:192.0.2.1.
    const tail = address.slice(address.lastIndexOf(':') + 1);
    if (!isIPv4(tail)) return undefined;
    const [a, b, c, d] = tail.split('.').map(Number);
    address = `${address.slice(0, -tail.length)}${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
  }
  let parsed: ipaddr.IPv6;
  try {
    parsed = ipaddr.IPv6.parse(address);
  } catch {
    return undefined;
  }
  if (parsed.isIPv4MappedAddress()) return parsed.toIPv4Address().toString();
  return `${new ipaddr.IPv6([...parsed.parts.slice(0, 4), 0, 0, 0, 0])}/64`;
}

/** Four decimal numbers up to 255 without leading zeros. By hand, since it runs once or twice a request. */
export function isIPv4(text: string): boolean {
  const { length } = text;
  if (length < 7 || length > 15) return false;
  let dots = 0;
  let digits = 0;
  let part = 0;
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i);
    if (code === 46 /* . */) {
      if (digits === 0 || ++dots > 3) return false;
      digits = part = 0;
    } else {
      if (code < 48 || code > 57 || (digits > 0 && part === 0)) return false;
      part = part * 10 + code - 48;
      if (part > 255) return false;
      digits++;
    }
  }
  return dots === 3 && digits > 0;
}
