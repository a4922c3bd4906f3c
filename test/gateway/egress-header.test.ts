import fc from 'fast-check';
import { BudgetExceededError, GatewayError } from 'paceline';
import { describe, expect, it } from 'vitest';
import { egressKey } from '../../src/egress-key.ts';
import { egressOfHeader } from '../../src/gateway/egress-header.ts';
import { failureOf } from '../support/failing.ts';
import { pacedManager, shopBudget } from '../support/paced.ts';
import { rawGateway } from '../support/raw-gateway.ts';

describe('egressOfHeader', () => {
  it.each<[string | string[], string]>([
    ['192.0.2.1', '192.0.2.1'],
    ['  192.0.2.1\t', '192.0.2.1'],
    ['192.0.2.1:8080', '192.0.2.1'],
    ['192.0.2.1/32', '192.0.2.1'],
    ['"192.0.2.1"', '192.0.2.1'],
    ["'192.0.2.1:80'", '192.0.2.1'],
    ['<192.0.2.1>', '192.0.2.1'],
    ['[192.0.2.1]', '192.0.2.1'],
    ['[192.0.2.1]:443', '192.0.2.1'],
    ['IP=192.0.2.1', '192.0.2.1'],
    ['IP="192.0.2.1:8080"', '192.0.2.1'],
    ['ip: 192.0.2.1', '192.0.2.1'],
    ['ip:192.0.2.1', '192.0.2.1'],
    ['http://192.0.2.1:8080/', '192.0.2.1'],
    ['192.0.2.1; country=US; asn=7018', '192.0.2.1'],
    ['US (192.0.2.1)', '192.0.2.1'],
    ['192.0.2.1, 192.0.2.1:8080', '192.0.2.1'],
    ['192.0.2.1, unknown', '192.0.2.1'],
    ['0.0.0.0, 192.0.2.1', '192.0.2.1'],
    [['192.0.2.1', '192.0.2.1'], '192.0.2.1'],
    ['2001:db8:1:2::9', '2001:db8:1:2::/64'],
    ['[2001:DB8:1:2::9]:443', '2001:db8:1:2::/64'],
    ['"[2001:db8:1:2::9]:443"', '2001:db8:1:2::/64'],
    ['IP=2001:db8:1:2::9', '2001:db8:1:2::/64'],
    ['for="[2001:db8:1:2::9]:443"', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::9/128', '2001:db8:1:2::/64'],
    ['fe80::9%eth0', 'fe80::/64'],
    // One subscriber's network.
    ['2001:db8:1:2::9, 2001:db8:1:2::a', '2001:db8:1:2::/64'],
    ['::ffff:192.0.2.1, 192.0.2.1', '192.0.2.1'],
    // Opaque ids
    ['4f8a0e6b3c', '4f8a0e6b3c'],
    ['"4f8a0e6b3c"', '4f8a0e6b3c'],
    ['aGVsbG8=', 'aGVsbG8='],
    ['peer=4f8a', 'peer=4f8a'],
    ['sha256:4f8a', 'sha256:4f8a'],
    ['4f8a, 4f8a', '4f8a'],
    [['4f8a', '4f8a'], '4f8a'],
    ['exit-7;v=1', 'exit-7;v=1'],
    ['12345', '12345'],
    ['010.0.0.1', '010.0.0.1'],
    ['x'.repeat(256), 'x'.repeat(256)],
  ])('%j is %s', (value, key) => {
    expect(egressOfHeader(value)).toBe(key);
  });

  it.each<[string, string | string[] | undefined]>([
    ['nothing', undefined],
    ['an empty value', ''],
    ['no values', []],
    ['blanks', ' \t'],
    ['commas', ', ,'],
    ['quotes', '""'],
    ['two addresses', '1.2.3.4, 5.6.7.8'],
    ['two addresses, as two fields', ['1.2.3.4', '5.6.7.8']],
    ['two addresses, named', 'for=1.2.3.4;by=5.6.7.8'],
    ['an address of either family', '1.2.3.4, 2001:db8::1'],
    ['two ids', '4f8a, 5b9c'],
    ['two ids, as two fields', ['4f8a', '5b9c']],
    ['nobody', 'unknown'],
    ['nobody, shouted', 'NULL'],
    ['a dash', '-'],
    ['the unspecified address', '0.0.0.0'],
    ['the unspecified address, IPv6', '[::]:443'],
    ['the unspecified address with a port', '0.0.0.0:80'],
    ['nobody, named', 'IP="unknown"'],
    ['a sentence', 'no exit was found'],
    ['a control character', '4f\u00008a'],
    ['what is no ASCII', 'zürich'],
    ['too much', 'x'.repeat(257)],
    ['too much around an address', `1.2.3.4 ${' '.repeat(250)}`],
    ['no string', [7, null] as never],
  ])('%s names no exit', (_what, value) => {
    expect(egressOfHeader(value)).toBeUndefined();
  });
});

describe('whatever a gateway names its exit', () => {
  const octet = fc.integer({ min: 1, max: 255 });
  const ipv4 = fc.tuple(octet, octet, octet, octet).map((parts) => parts.join('.'));
  const ipv6 = fc.ipV6().filter((ip) => !/^[0:]*$/.test(ip) && egressKey(ip).includes('/64'));
  const piece = fc.oneof(
    ipv4,
    ipv6,
    fc.string({ unit: 'binary', maxLength: 20 }),
    fc.constantFrom('"', '[', ']', '::', '=', 'IP=', ',', ';', ' ', '/64', '%', ':80', 'unknown', '1.2.3.4.5', '...'),
  );
  const field = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 300 }),
    fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join('')),
  );
  const value = fc.oneof(field, fc.array(field, { maxLength: 4 }));

  it('nothing throws; what comes out is short, printable, and its own key', () => {
    fc.assert(
      fc.property(value, (given) => {
        const key = egressOfHeader(given);
        if (key === undefined) return;
        expect(key).toMatch(/^[\x21-\x7e]{1,256}$/);
        expect(egressKey(key)).toBe(key);
        expect(egressOfHeader(key)).toBe(key);
      }),
      { numRuns: 5000 },
    );
  });

  it('an address is its key whatever its zone is', () => {
    for (const zone of ['eth0', ';', '|;', 'a;b']) expect(egressOfHeader(`2001:db8::1%${zone}`)).toBe('2001:db8::/64');
  });

  it('one address is its key in every dress, and two are none', () => {
    const dress = fc.constantFrom<(ip: string, v6: boolean) => string>(
      (ip) => ip,
      (ip) => `"${ip}"`,
      (ip) => `IP=${ip}`,
      (ip) => `ip="${ip}"; country=de`,
      (ip) => ` (${ip}) `,
      (ip, v6) => (v6 ? `[${ip}]:65535` : `${ip}:65535`),
      (ip, v6) => (v6 ? `"[${ip}]"` : `"${ip}"`),
    );
    const dressed = fc
      .tuple(fc.oneof(ipv4, ipv6), dress)
      .map(([ip, wear]) => ({ ip, text: wear(ip, ip.includes(':')) }));
    fc.assert(
      fc.property(dressed, dressed, ({ ip, text }, other) => {
        const key = egressKey(ip);
        expect(egressOfHeader(text)).toBe(key);
        expect(egressOfHeader([text, text])).toBe(key);
        const both = egressOfHeader(`${text}, ${other.text}`);
        expect(both).toBe(egressKey(other.ip) === key ? key : undefined);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('on the CONNECT answer of a real gateway', () => {
  const naming = (named: string) =>
    rawGateway((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\n${named}\r\n\r\n`);
      socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n'));
    });

  it.each([
    ['x-egress-ip: IP="192.0.2.7:8080"'],
    ['x-egress-ip: 192.0.2.7\r\nx-egress-ip: 192.0.2.7'],
    ['x-brd-ip: unknown\r\nx-egress-ip: 192.0.2.7'],
    ['x-brd-ip: 1.2.3.4, 5.6.7.8\r\nx-egress-ip: [192.0.2.7]:80'],
  ])('%j is one exit for all sessions', async (named) => {
    await using gateway = await naming(named);
    await using proxies = pacedManager({ gateway: gateway.url, targets: shopBudget(1, 60_000) });
    const response = await proxies.session().fetch('http://shop.test/');
    expect(proxies.exchange(response)).toMatchObject({ egress: '192.0.2.7', egressVerified: true });
    const second = proxies.session().fetch('http://shop.test/', { pace: { maxWaitMs: 1000 } });
    await expect(second).rejects.toThrow(BudgetExceededError);
  });

  it('several addresses leave the exit assumed, and say so', async () => {
    await using gateway = await naming('x-egress-ip: 192.0.2.7, 192.0.2.8');
    await using proxies = pacedManager({ gateway: gateway.url, targets: shopBudget(1, 60_000) });
    const responses = [
      await proxies.session().fetch('http://shop.test/'),
      await proxies.session().fetch('http://shop.test/'),
    ];
    const [one, two] = responses.map((response) => proxies.exchange(response));
    expect([one?.egressVerified, two?.egressVerified, one?.egress === two?.egress]).toEqual([false, false, false]);
    expect((await proxies.stats()).pools.default.egress).toBe('assumed');
  });

  it('several addresses, where every request has another exit, are a fault that nothing is sent after', async () => {
    let sent = 0;
    await using gateway = await rawGateway((socket) => {
      socket.on('data', () => sent++);
      socket.write('HTTP/1.1 200 OK\r\nx-exit: 192.0.2.7, 192.0.2.8\r\n\r\n');
    });
    await using proxies = pacedManager({
      pools: {
        rotating: {
          gateway: gateway.url.replace('-{session}', ''),
          rotation: 'per-request',
          egress: { header: 'x-exit' },
        },
      },
      retry: { attempts: 1 },
    });
    const error = await failureOf(proxies.fetch('http://shop.test/'));
    expect(error).toBeInstanceOf(GatewayError);
    expect(error).toMatchObject({ kind: 'protocol', fatal: false, message: expect.stringContaining('x-exit') });
    expect(sent).toBe(0);
  });
});
