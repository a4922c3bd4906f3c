import fc from 'fast-check';
import { expect, test } from 'vitest';
import { canonicalHost, registrableDomain } from '../../src/target/registrable.ts';

test.each([
  ['example.com', 'example.com'],
  ['www.example.com', 'example.com'],
  ['a.b.c.example.co.uk', 'example.co.uk'],
  ['WWW.Example.COM', 'example.com'],
  ['www.example.com.', 'example.com'],
  ['Bücher.example', 'xn--bcher-kva.example'],
  ['www.xn--bcher-kva.example', 'xn--bcher-kva.example'],
  ['x.公司.cn', 'x.xn--55qx5d.cn'],
  // private suffixes: another owner, another target
  ['a.github.io', 'a.github.io'],
  ['x.a.github.io', 'a.github.io'],
  ['bucket.s3.amazonaws.com', 'bucket.s3.amazonaws.com'],
  // names that a validator would refuse, and servers answer to
  ['_dmarc.example.com', 'example.com'],
  ['-x.example.com', 'example.com'],
  ['foo_bar.example.com', 'example.com'],
  // no registrable domain: themselves
  ['localhost', 'localhost'],
  ['LOCALHOST.', 'localhost'],
  ['intranet', 'intranet'],
  ['co.uk', 'co.uk'],
  ['github.io', 'github.io'],
  ['192.0.2.1', '192.0.2.1'],
  ['127.1', '127.0.0.1'], // as fetch reads it
  ['[::1]', '::1'],
  ['2001:DB8:0::1', '2001:db8::1'],
  ['[::ffff:192.0.2.1]', '::ffff:c000:201'],
  // no hosts
  ['', ''],
  ['a b', 'a b'],
  ['a..b', 'a..b'],
  ['http://example.com', 'http://example.com'],
  ['example.com:80', 'example.com:80'],
])('%j → %j', (host, domain) => {
  expect(registrableDomain(host)).toBe(domain);
  expect(registrableDomain(domain)).toBe(domain);
});

test('never throws', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (host) => typeof registrableDomain(host) === 'string'));
});

test.each(['', ' ', 'a b', 'a/b', 'a:80', 'user@host', 'a?b', 'a#b', '%', '[::1', 'fe80::1%eth0', '1.2.3.256', '.'])(
  'canonicalHost(%j) is undefined',
  (host) => {
    expect(canonicalHost(host)).toBeUndefined();
  },
);
