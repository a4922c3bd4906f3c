import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type SubnetWatch, subnetWatch } from '../../src/health/subnets.ts';

function recordAll(watch: SubnetWatch, entries: readonly (readonly [string, boolean])[]): SubnetWatch {
  for (const [egress, blocked] of entries) watch.record(egress, blocked);
  return watch;
}

const v4 = (n: number, blocked: boolean, from = 0): [string, boolean][] =>
  Array.from({ length: n }, (_, i) => [`192.0.2.${from + i}`, blocked]);

test.each([
  ['nothing', [], []],
  ['three blocked: too few to tell', v4(3, true), []],
  ['four blocked', v4(4, true), ['192.0.2.0/24']],
  ['half of four', [...v4(2, true), ...v4(2, false, 2)], ['192.0.2.0/24']],
  ['one of four', [...v4(1, true), ...v4(3, false, 1)], []],
  ['one egress many times', Array.from({ length: 50 }, () => v4(1, true)[0]), []],
  ['back to health', [...v4(4, true), ...v4(4, false)], []],
  ['the whole of it, 0 and 255 too', [...v4(256, false), ...v4(128, true, 128)], ['192.0.2.0/24']],
  ['neighbours of another /24', [...v4(2, true), ['192.0.3.1', true], ['192.0.3.2', true]], []],
  ['with ports', [1, 2, 3, 4].map((i) => [`192.0.2.${i}:80`, true]), ['192.0.2.0/24']],
  ['IPv4 in IPv6', [1, 2, 3, 4].map((i) => [`::ffff:192.0.2.${i}`, true]), ['192.0.2.0/24']],
  ['/64s of a /48', [0, 1, 2, 'ffff'].map((i) => [`2001:db8:7:${i}::/64`, true]), ['2001:db8:7::/48']],
  ['addresses of one /64 are one egress', [1, 2, 3, 4, 5].map((i) => [`2001:db8:7:1::${i}`, true]), []],
  ['/64s of two /48s', [1, 2, 3, 4].map((i) => [`2001:db8:${i % 2}:${i}::/64`, true]), []],
  ['a /48 that ends in zeros', [0, 1, 2, 3].map((i) => [`2001:db8:0:${i}::/64`, true]), ['2001:db8::/48']],
  ['a /48 that begins with zeros', [1, 2, 3, 4].map((i) => [`0:0:5:${i}::1`, true]), ['0:0:5::/48']],
  ['the first of all', [0, 1, 2, 3].map((i) => [`0:0:0:${i}::1`, true]), ['::/48']],
  [
    'ids',
    ['a', 'b', 'c', 'd', '', '1.2.3', 'x::/64', 'f:f:f:f:f::/64', '::/64::/64', 'pool/7'].map((id) => [id, true]),
    [],
  ],
] as [string, [string, boolean][], string[]][])('%s', (_name, entries, suspects) => {
  expect(recordAll(subnetWatch(), entries).suspects()).toEqual(suspects);
});

test('the thresholds are options', () => {
  const watch = subnetWatch({ minEgresses: 2, share: 1 });
  recordAll(watch, v4(2, true));
  expect(watch.suspects()).toEqual(['192.0.2.0/24']);
  watch.record('192.0.2.200', false);
  expect(watch.suspects()).toEqual([]);
});

test('remembers only the subnets heard of last, named in that order', () => {
  const watch = subnetWatch({ maxSubnets: 3, minEgresses: 1 });
  for (const n of [1, 2, 3, 1, 4]) watch.record(`10.0.${n}.1`, true);
  expect(watch.suspects()).toEqual(['10.0.3.0/24', '10.0.1.0/24', '10.0.4.0/24']);
});

test('agrees with a list of the egresses', () => {
  const entry = fc.record({ subnet: fc.nat(3), host: fc.nat(255), blocked: fc.boolean(), six: fc.boolean() });
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 200 }), (entries) => {
      const watch = subnetWatch();
      const last = new Map<string, Map<number, boolean>>();
      for (const { subnet, host, blocked, six } of entries) {
        const name = six ? `2001:db8:${(subnet + 1).toString(16)}::/48` : `198.51.${subnet}.0/24`;
        const egress = six
          ? `2001:db8:${(subnet + 1).toString(16)}:${host.toString(16)}::9`
          : `198.51.${subnet}.${host}`;
        watch.record(egress, blocked);
        last.set(name, (last.get(name) ?? new Map()).set(host, blocked));
      }
      const expected = [...last].filter(([, hosts]) => {
        const states = [...hosts.values()];
        return states.length >= 4 && states.filter(Boolean).length * 2 >= states.length;
      });
      expect(watch.suspects().sort()).toEqual(expected.map(([name]) => name).sort());
    }),
  );
});

test('nothing throws, whatever the egress is called', () => {
  const watch = subnetWatch({ minEgresses: 1 });
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.ipV4(), fc.ipV6()), (egress) => {
      watch.record(egress, true);
      for (const name of watch.suspects()) expect(name).toMatch(/^[\d.]+\.0\/24$|^[0-9a-f:]*::\/48$/);
    }),
  );
});

test.each([
  ['minEgresses', { minEgresses: 0 }],
  ['minEgresses', { minEgresses: 257 }],
  ['share', { share: 0 }],
  ['share', { share: 1.01 }],
  ['maxSubnets', { maxSubnets: 1.5 }],
])('a bad %s is named: %o', (option, options) => {
  expect(() => subnetWatch(options)).toThrow(expect.objectContaining({ code: 'PACELINE_CONFIG', option }));
});
