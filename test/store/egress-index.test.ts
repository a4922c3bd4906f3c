import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { EgressIndex, packIPv4, unpackIPv4 } from '../../src/store/egress-index.ts';

const octet = fc.integer({ min: 0, max: 255 });
const ipv4 = fc.tuple(octet, octet, octet, octet).map((parts) => parts.join('.'));
/** Few of them, close together, so that they collide and come back. */
const neighbour = fc.integer({ min: 0, max: 40 }).map((n) => `10.0.0.${n}`);
const key = fc.oneof(neighbour, neighbour, ipv4, fc.ipV6(), fc.string({ maxLength: 12 }));

test.each(['0.0.0.0', '255.255.255.255', '127.0.0.1', '1.2.3.4', '128.0.0.0'])('%s is an address', (text) => {
  expect(packIPv4(text)).toBeTypeOf('number');
  expect(unpackIPv4(packIPv4(text)!)).toBe(text);
});

test.each([
  '',
  '01.2.3.4',
  '1.2.3.04',
  '00.0.0.0',
  '256.1.1.1',
  '1.1.1.256',
  '1.2.3',
  '1.2.3.4.5',
  '1.2.3.',
  '.1.2.3',
  '1..2.3',
  '1.2.3.4 ',
  '1.2.3.a',
  '1.2.3.4:80',
  '2001:db8::/64',
  'direct',
  'pool/s1',
])('%o stays a string', (text) => {
  expect(packIPv4(text)).toBeUndefined();
  const index = new EgressIndex();
  index.add(text, 0);
  expect(index.keyOf(0)).toBe(text);
  expect(index.find(text)).toBe(0);
});

test('every address survives the way there and back', () => {
  fc.assert(fc.property(ipv4, (text) => void expect(unpackIPv4(packIPv4(text)!)).toBe(text)));
});

describe('EgressIndex', () => {
  it('finds what was added and not removed, and nothing else, whatever the order', () => {
    const steps = fc.array(fc.tuple(key, fc.boolean()), { maxLength: 300, size: 'max' });
    fc.assert(
      fc.property(steps, (work) => {
        const index = new EgressIndex();
        const model = new Map<string, number>();
        const vacant: number[] = [];
        let end = 0;
        for (const [text, add] of work) {
          const known = model.get(text);
          expect(index.find(text)).toBe(known ?? -1);
          if (known === undefined && add) {
            // Entries are reused, also by keys of the other kind.
            const entry = vacant.pop() ?? end++;
            index.add(text, entry);
            model.set(text, entry);
          } else if (known !== undefined && !add) {
            index.remove(known);
            model.delete(text);
            vacant.push(known);
          }
        }
        for (const [text, entry] of model) {
          expect(index.find(text)).toBe(entry);
          expect(index.keyOf(entry)).toBe(text);
        }
      }),
    );
  });

  it('does not fill up with tombstones: a million come and go where ten live', () => {
    const index = new EgressIndex();
    for (let i = 0; i < 1_000_000; i++) {
      if (i >= 10) index.remove(i % 10);
      index.add(unpackIPv4(Math.imul(i, 2654435761)), i % 10);
    }
    for (let i = 999_990; i < 1_000_000; i++) expect(index.find(unpackIPv4(Math.imul(i, 2654435761)))).toBe(i % 10);
    expect(index.find('9.9.9.9')).toBe(-1);
  });
});
