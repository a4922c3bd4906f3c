import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { egressKey } from '../src/egress-key.ts';

const table: [string, string][] = [
  // IPv4
  ['192.0.2.1', '192.0.2.1'],
  ['  192.0.2.1\n', '192.0.2.1'],
  ['192.0.2.1:8080', '192.0.2.1'],
  ['0.0.0.0', '0.0.0.0'],
  ['255.255.255.255', '255.255.255.255'],
  // IPv6: the /64
  ['2001:db8:1:2::9', '2001:db8:1:2::/64'],
  ['2001:DB8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:0db8:0001:0002:0000:0000:0000:0009', '2001:db8:1:2::/64'],
  ['[2001:db8:1:2::9]', '2001:db8:1:2::/64'],
  ['[2001:db8:1:2::9]:443', '2001:db8:1:2::/64'],
  ['fe80::1%eth0', 'fe80::/64'],
  ['[fe80::1%25eth0]:80', 'fe80::/64'],
  ['2001:db8:1:2::/64', '2001:db8:1:2::/64'],
  ['2001:DB8:1:2::9/64', '2001:db8:1:2::/64'],
  ['2001:db8::1', '2001:db8::/64'],
  ['2001:0:0:1::5', '2001:0:0:1::/64'],
  ['::1', '::/64'],
  ['::', '::/64'],
  ['1:2:3:4:5:6:192.0.2.1', '1:2:3:4::/64'],
  ['::192.0.2.1', '::/64'],
  ['::c000:201', '::/64'],
  // IPv4 in IPv6
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['::FFFF:c000:201', '192.0.2.1'],
  ['0:0:0:0:0:ffff:c000:0201', '192.0.2.1'],
  ['[::ffff:192.0.2.1]:80', '192.0.2.1'],
  // opaque
  ['', ''],
  ['   ', ''],
  ['12345', '12345'],
  ['1', '1'],
  ['127.1', '127.1'],
  ['0x7f.1', '0x7f.1'],
  ['0x7f.0.0.1', '0x7f.0.0.1'],
  ['010.0.0.1', '010.0.0.1'],
  ['1.2.3.04', '1.2.3.04'],
  ['1.2.3.256', '1.2.3.256'],
  ['1.2.3.4.', '1.2.3.4.'],
  ['1.2.3', '1.2.3'],
  ['1.2.3.4.5', '1.2.3.4.5'],
  ['1..2.3', '1..2.3'],
  ['192.0.2.1:', '192.0.2.1:'],
  ['192.0.2.1:x', '192.0.2.1:x'],
  ['::ffff:010.0.0.1', '::ffff:010.0.0.1'],
  ['::ffff:0x7f.0.0.1', '::ffff:0x7f.0.0.1'],
  ['1::2::3', '1::2::3'],
  ['12345::', '12345::'],
  ['[::1', '[::1'],
  ['::1]', '::1]'],
  ['2001:db8::/48', '2001:db8::/48'],
  ['session:a:b', 'session:a:b'],
  ['9F86D081884C7D65', '9F86D081884C7D65'],
  [' sha256:9f86 ', 'sha256:9f86'],
];

describe('egressKey', () => {
  test.each(table)('%j → %j', (ip, key) => {
    expect(egressKey(ip)).toBe(key);
    expect(egressKey(key)).toBe(key);
  });

  test('never throws, and a key is its own key', () => {
    const pieces = fc.constantFrom(
      '[',
      ']',
      ':',
      '::',
      '%',
      '/64',
      '.',
      '1',
      '255',
      'ffff',
      'ab',
      ' ',
      '192.0.2.1',
      ':80',
      '\u0000',
    );
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(pieces).map((p) => p.join('')),
      fc.ipV4(),
      fc.ipV6(),
    );
    fc.assert(
      fc.property(text, (ip) => {
        const key = egressKey(ip);
        expect(egressKey(key)).toBe(key);
        expect(egressKey(` ${ip}\t`)).toBe(key);
      }),
      { numRuns: 1000 },
    );
  });

  test('every address has a key of its kind; all addresses of a /64 have the same', () => {
    fc.assert(
      fc.property(fc.ipV4(), (ip) => {
        expect(egressKey(`::ffff:${ip}`)).toBe(ip);
      }),
    );
    const group = fc.integer({ min: 0, max: 0xffff }).map((n) => n.toString(16));
    const half = fc.tuple(group, group, group, group).map((g) => g.join(':'));
    fc.assert(
      fc.property(half, half, half, (prefix, a, b) => {
        fc.pre(!prefix.startsWith('0:0:0:0'));
        expect(egressKey(`${prefix}:${a}`)).toBe(egressKey(`[${prefix.toUpperCase()}:${b}]:1`));
        expect(egressKey(`${prefix}:${a}`)).toMatch(/::\/64$/);
      }),
    );
  });

  test('a long one is an id, and costs nothing', () => {
    const long = `${'1:'.repeat(50_000)}1`;
    expect(egressKey(long)).toBe(long);
  });
});
