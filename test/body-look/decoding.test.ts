import { randomBytes } from 'node:crypto';
import { brotliCompressSync, constants, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodedStart, isReadable } from '../../src/body-look.ts';

const TEXT = `<title>Just a moment…</title>${Array.from({ length: 60 }, (_, i) => `<p>Line ${i * 7919} of it.</p>`).join('')}`;

const CODINGS: [coding: string, encode: (data: Buffer) => Buffer][] = [
  ['identity', (data) => data],
  ['gzip', (data) => gzipSync(data)],
  ['x-gzip', (data) => gzipSync(data)],
  ['deflate', (data) => deflateSync(data)],
  ['deflate, bare', (data) => deflateRawSync(data)],
  ['br', (data) => brotliCompressSync(data)],
  ['zstd', (data) => zstdCompressSync(data)],
  ['gzip, br', (data) => brotliCompressSync(gzipSync(data))],
  ['zstd, identity, deflate', (data) => deflateSync(zstdCompressSync(data))],
];

const headersOf = (coding: string): Record<string, string> => ({
  'content-encoding': coding.replace(', bare', ''),
  'content-type': 'text/html; charset=utf-8',
});

describe.each(CODINGS)('a body in %s', (coding, encode) => {
  const headers = headersOf(coding);

  it('is decoded', () => {
    expect(decodedStart([encode(Buffer.from(TEXT))], headers)).toBe(TEXT);
    expect(decodedStart([encode(Buffer.from(''))], headers)).toBe('');
    expect(decodedStart([], headers)).toBe('');
  });

  it('is decoded whatever pieces it comes in', () => {
    const body = encode(Buffer.from(TEXT));
    expect(
      decodedStart(
        [...body].map((byte) => Buffer.of(byte)),
        headers,
      ),
    ).toBe(TEXT);
  });

  it('gives its first 8,192 characters', () => {
    const page = TEXT.repeat(40);
    expect(decodedStart([encode(Buffer.from(page))], headers)).toBe(page.slice(0, 8192));
    const wide = '한'.repeat(20_000);
    expect(decodedStart([encode(Buffer.from(wide))], headers)).toBe(wide.slice(0, 8192));
  });

  it('gives a beginning when it was cut, wherever that was', () => {
    const body = encode(Buffer.from(TEXT));
    let longest = 0;
    for (let length = 0; length <= body.length; length++) {
      const start = decodedStart([body.subarray(0, length)], headers) ?? '';
      expect(TEXT.startsWith(start), `${length} of ${body.length} bytes`).toBe(true);
      longest = Math.max(longest, start.length);
    }
    expect(longest).toBe(TEXT.length);
  });

  // zstd comes in blocks, and of one that is broken anything may be made.
  it.runIf(!coding.includes('zstd'))('gives what came before the rubbish', () => {
    const noise = randomBytes(60_000).toString('base64');
    const body = Buffer.concat([encode(Buffer.from(TEXT + noise)).subarray(0, 30_000), Buffer.alloc(30_000, 0xfe)]);
    expect(decodedStart([body], headers)?.startsWith(TEXT.slice(0, 1000))).toBe(true);
  });

  it('is decoded no further than that, however much it stands for', () => {
    const bomb = encode(Buffer.concat([Buffer.from(TEXT), Buffer.alloc(coding === 'identity' ? 1000 : 64_000_000)]));
    const from = process.cpuUsage();
    const start = decodedStart([bomb], headers);
    expect(process.cpuUsage(from).user).toBeLessThan(500_000);
    // Up to some bytes before the part that is too much; of zstd up to the block.
    if (!coding.includes('zstd')) expect(start?.slice(0, 1000)).toBe(TEXT.slice(0, 1000));
    if (/^(?:x-)?gzip$|^deflate/.test(coding)) expect(start).toHaveLength(8192);
  });
});

it('a cut body gives most of what there was of it', () => {
  const page = Array.from({ length: 2000 }, (_, i) => `<p>Line ${i * 7919} of it.</p>`)
    .join('')
    .slice(0, 8000);
  for (const [coding, encode] of CODINGS.slice(0, 6)) {
    const body = encode(Buffer.from(page));
    const start = decodedStart([body.subarray(0, body.length >> 1)], headersOf(coding));
    expect(start?.length, coding).toBeGreaterThan(2000);
  }
  // zstd: in whole blocks.
  const flushed = zstdCompressSync(Buffer.from(page), { finishFlush: constants.ZSTD_e_flush });
  expect(decodedStart([flushed], headersOf('zstd'))).toBe(page);
});

describe('what is no body of its kind', () => {
  it.each(['gzip', 'deflate', 'br', 'zstd'])('plain text as %s is undefined', (coding) => {
    expect(decodedStart([Buffer.from('Access Denied')], headersOf(coding))).toBeUndefined();
  });

  it.each(['compress', 'aes128gcm', 'gzip, exi', 'gzip,gzip,gzip,gzip,gzip,gzip', '__proto__', 'x'.repeat(5000)])(
    'a coding that is not known: %.20s',
    (coding) => {
      const headers = { 'content-encoding': coding };
      expect(isReadable(headers)).toBe(false);
      expect(decodedStart([gzipSync('Access Denied')], headers)).toBeUndefined();
    },
  );

  it.each([undefined, '', 'identity', 'GZIP', ' gzip ,, br ', ['gzip', 'br'] as never])('known: %s', (coding) => {
    expect(isReadable(coding === undefined ? {} : { 'content-encoding': coding })).toBe(true);
  });
});

describe('charsets', () => {
  it.each<[type: string | undefined, body: Buffer, text: string]>([
    [undefined, Buffer.from('Zugriff verweigert: ü'), 'Zugriff verweigert: ü'],
    ['text/html; charset=iso-8859-1', Buffer.from('ü Access Denied', 'latin1'), 'ü Access Denied'],
    ['text/html;charset="utf-16le"', Buffer.from('Access Denied', 'utf16le'), 'Access Denied'],
    ['text/html', Buffer.from('\ufeffAccess Denied', 'utf16le'), 'Access Denied'],
    ['text/html', Buffer.from('\ufeffAccess Denied', 'utf16le').swap16(), 'Access Denied'],
    ['text/html; charset=utf-16', Buffer.from('\ufeffAccess Denied'), 'Access Denied'],
    ['text/html; charset=shift_jis', Buffer.from([0x83, 0x65, 0x41]), 'テA'],
    ['text/html; charset=nonsense', Buffer.from('ü Access Denied'), 'ü Access Denied'],
    ['text/html; charset=', Buffer.from('Access Denied'), 'Access Denied'],
    ['text/html; charset=hz-gb-2312', Buffer.from('Access Denied'), 'Access Denied'],
    ['text/html; charset=utf-8', Buffer.from('Access Denied ü').subarray(0, -1), 'Access Denied '],
  ])('%s', (type, body, text) => {
    expect(decodedStart([body], type === undefined ? {} : { 'content-type': type })).toBe(text);
  });
});

it('whatever a server sends, nothing throws, and it is text of 8,192 characters at most', () => {
  const coding = fc.constantFrom('gzip', 'x-gzip', 'deflate', 'br', 'zstd', 'identity', 'gzip, br', 'compress', '');
  const plain = fc.uint8Array({ maxLength: 3000 });
  const encoded = fc
    .tuple(plain, fc.constantFrom(...CODINGS), fc.nat(), fc.nat(255))
    .map(([data, [, encode], at, byte]) => {
      const body = encode(Buffer.from(data));
      if (body.length > 0) body[at % body.length] = byte;
      return body;
    });
  const label = fc.oneof(fc.string({ maxLength: 20 }), fc.constantFrom('utf-8', 'utf-16be', 'gb18030', 'big5'));
  fc.assert(
    fc.property(fc.array(fc.oneof(plain, encoded), { maxLength: 4 }), coding, label, (chunks, name, charset) => {
      const text = decodedStart(chunks, { 'content-encoding': name, 'content-type': `text/html; charset=${charset}` });
      expect(text === undefined || (typeof text === 'string' && text.length <= 8192)).toBe(true);
    }),
    { numRuns: 1500 },
  );
});
