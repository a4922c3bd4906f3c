import { inspect } from 'node:util';
import fc from 'fast-check';
import { Client } from 'undici';
import { describe, expect, it } from 'vitest';
import { Jar } from '../src/cookies.ts';
import { virtualClock } from '../src/testing/virtual-clock.ts';

const jarAt = (clock = virtualClock()) => new Jar(clock);
const sent = (jar: Jar, url: string): string =>
  jar
    .for(url)
    .map((cookie) => cookie.cookieString())
    .join('; ');

describe('a jar sends a cookie', () => {
  it('set without a domain to that host alone, with one to the hosts below it too', () => {
    const jar = jarAt();
    jar.set('own=1', 'http://www.shop.test/');
    jar.set('all=2; Domain=shop.test', 'http://www.shop.test/');
    expect(sent(jar, 'http://www.shop.test/')).toBe('own=1; all=2');
    expect(sent(jar, 'http://api.shop.test/')).toBe('all=2');
    expect(sent(jar, 'http://shop.test/')).toBe('all=2');
    expect(sent(jar, 'http://eshop.test/')).toBe('');
    expect(sent(jar, 'http://a.www.shop.test/')).toBe('all=2');
  });

  it('under its path, the longer one first', () => {
    const jar = jarAt();
    jar.set('a=1; Path=/', 'http://shop.test/');
    jar.set('b=2; Path=/shop/cart', 'http://shop.test/');
    jar.set('c=3', 'http://shop.test/shop/index');
    expect(sent(jar, 'http://shop.test/shop/cart/1?x')).toBe('b=2; c=3; a=1');
    expect(sent(jar, 'http://shop.test/shopping')).toBe('a=1');
  });

  it('that is Secure over https alone, on this machine too, and takes it from nowhere else', () => {
    const jar = jarAt();
    expect(jar.set('s=1; Secure', 'https://127.0.0.1/')).toBe(true);
    expect(jar.set('t=1; Secure', 'http://127.0.0.1/')).toBe(false);
    expect([sent(jar, 'http://127.0.0.1/'), sent(jar, 'https://127.0.0.1/')]).toEqual(['', 's=1']);
    expect(sent(jar, 'http://localhost/')).toBe('');
  });

  it('until it ends, on the clock it is given, however often it is used', async () => {
    const clock = virtualClock();
    const jar = jarAt(clock);
    const at = (ms: number) => new Date(clock.wallNow() + ms).toUTCString();
    jar.set('age=1; Max-Age=60', 'http://shop.test/');
    jar.set(`day=1; Expires=${at(60_000)}`, 'http://shop.test/');
    jar.set('stay=1', 'http://shop.test/');
    jar.set(`both=1; Expires=${at(1000)}; Max-Age=600`, 'http://shop.test/');
    for (let i = 0; i < 5; i++) {
      await clock.advance(11_000);
      expect(sent(jar, 'http://shop.test/')).toBe('age=1; day=1; stay=1; both=1');
    }
    await clock.advance(5000);
    expect(sent(jar, 'http://shop.test/')).toBe('stay=1; both=1');
    expect(jar.all()).toHaveLength(2);
  });

  it('until the server takes it back', () => {
    const jar = jarAt();
    for (const end of ['Max-Age=0', 'Max-Age=-5', 'Expires=Thu, 01 Jan 1970 00:00:00 GMT']) {
      jar.set('a=1', 'http://shop.test/');
      expect(sent(jar, 'http://shop.test/')).toBe('a=1');
      jar.set(`a=; ${end}`, 'http://shop.test/');
      expect(sent(jar, 'http://shop.test/')).toBe('');
    }
  });

  it('to hosts of any kind', () => {
    const jar = jarAt();
    for (const host of ['127.0.0.1:8080', '[::1]:80', 'localhost', 'test', 'intranet', 'shop.test', 'a.github.io']) {
      jar.set('a=1', `http://${host}/`);
      expect(sent(jar, `http://${host}/`), host).toBe('a=1');
      expect(sent(jar, `http://x.${host}/`), host).toBe('');
    }
  });
});

describe('a jar takes no cookie', () => {
  it.each([
    ['for a public suffix', 'a=1; Domain=co.uk', 'http://shop.co.uk/'],
    ['for a public suffix of the private kind', 'a=1; Domain=github.io', 'http://me.github.io/'],
    ['for a reserved top level', 'a=1; Domain=test', 'http://shop.test/'],
    ['for another domain', 'a=1; Domain=bank.test', 'http://shop.test/'],
    ['for a host below its own', 'a=1; Domain=www.shop.test', 'http://shop.test/'],
    ['__Host- with a domain', '__Host-a=1; Secure; Path=/; Domain=shop.test', 'https://shop.test/'],
    ['__Secure- that is not', '__Secure-a=1', 'https://shop.test/'],
    ['that no header can carry', 'a=1\u{1f36a}', 'https://shop.test/'],
    ['with control characters', 'a=1\u0001', 'https://shop.test/'],
    ['with a delete', 'a=\u007f', 'https://shop.test/'],
    ['that is nothing', '', 'https://shop.test/'],
    ['over 4096 bytes', `a=${'x'.repeat(4095)}`, 'https://shop.test/'],
    ['of a URL that is none', 'a=1', 'shop'],
  ])('%s', (_what, setCookie, url) => {
    const jar = jarAt();
    jar.set('kept=1', 'https://shop.test/');
    expect(jar.set(setCookie, url)).toBe(false);
    expect(jar.all()).toHaveLength(1);
  });
});

describe('a jar is bounded', () => {
  it('50 cookies a domain: the one used least lately goes', () => {
    const jar = jarAt();
    jar.set('login=1; Path=/in', 'http://shop.test/');
    jar.set('old=1; Path=/old', 'http://shop.test/');
    for (let i = 0; i < 48; i++) jar.set(`c${i}=1; Path=/p${i}`, 'http://shop.test/');
    expect(sent(jar, 'http://shop.test/in')).toBe('login=1');
    jar.set('new=1; Path=/new', 'http://shop.test/');
    expect(jar.all()).toHaveLength(50);
    expect([sent(jar, 'http://shop.test/in'), sent(jar, 'http://shop.test/old')]).toEqual(['login=1', '']);
    // Taking one back needs no room.
    jar.set('gone=1; Path=/x; Max-Age=0', 'http://shop.test/');
    expect(jar.all()).toHaveLength(50);
  });

  it('3,000 in all', () => {
    const jar = jarAt();
    for (let i = 0; i < 3500; i++) jar.set('a=1', `http://h${i}.test/`);
    expect(jar.all()).toHaveLength(3000);
    expect([sent(jar, 'http://h0.test/'), sent(jar, 'http://h3499.test/')]).toEqual(['', 'a=1']);
  });
});

describe('the header of a request', () => {
  const jar = jarAt();
  jar.set('a=1', 'http://shop.test/');
  jar.set('b=2', 'http://shop.test/');
  const add = (headers: unknown) => jar.addTo(headers as never, 'http://shop.test/');

  it.each([
    [undefined, { cookie: 'a=1; b=2' }],
    [{ x: '1' }, { x: '1', cookie: 'a=1; b=2' }],
    [{ Cookie: 'b=own; c=3' }, { cookie: 'a=1; b=own; c=3' }],
    [{ cookie: ['b=own', 'c=3'] }, { cookie: 'a=1; b=own; c=3' }],
    [{ cookie: ' ; a = x=y;;b=' }, { cookie: 'a = x=y; b=' }],
    [
      ['x', '1', 'x', '2', 'COOKIE', 'a=own'],
      ['x', '1', 'x', '2', 'cookie', 'b=2; a=own'],
    ],
    [new Map([['x', '1']]), { x: '1', cookie: 'a=1; b=2' }],
  ])('of %j', (headers, expected) => {
    expect(add(headers)).toEqual(expected);
  });

  it('is left alone where there is no cookie for it', () => {
    const headers = { cookie: 'x=1' };
    expect(jar.addTo(headers, 'http://other.test/')).toBe(headers);
  });
});

it('can be kept and filled again', () => {
  const jar = jarAt();
  const urls = ['http://shop.test/', 'https://www.shop.test/deep/page', 'https://[::1]/', 'http://127.0.0.1:81/'];
  for (const [i, url] of urls.entries()) {
    jar.set(`own${i}=1; Max-Age=60`, url);
    jar.set(`flags${i}=v; HttpOnly; SameSite=Lax; Path=/deep`, url);
  }
  jar.set('all=1; Domain=shop.test; Secure', urls[1]);
  const again = jarAt();
  for (const { setCookie, url } of JSON.parse(JSON.stringify(jar.all()))) expect(again.set(setCookie, url)).toBe(true);
  expect(again.all()).toEqual(jar.all());
  for (const url of [...urls, 'https://x.shop.test/']) expect(sent(again, url)).toBe(sent(jar, url));
});

it('no Set-Cookie makes it throw, nor a request with what it took', async () => {
  const part = fc.oneof(
    fc.string(),
    fc.string({ unit: 'binary' }),
    fc.constantFrom(...['a=1', '=', ';', 'Domain=', 'Domain=.', 'Domain=shop.test', 'Path=', 'Path=/x', 'Secure']),
    fc.constantFrom(
      ...['Max-Age=1e9', 'Max-Age=-', `Max-Age=${'9'.repeat(400)}`, 'Expires=x', 'SameSite=', '\0', '\t'],
    ),
    fc.constantFrom(...['__Host-', '__proto__=1', 'constructor=1', 'Domain=__proto__', 'Path=/__proto__']),
    fc.date({ noInvalidDate: false }).map((date) => `Expires=${date}`),
  );
  const setCookie = fc.array(part, { maxLength: 8 }).map((parts) => parts.join(';'));
  const url = fc.constantFrom(
    'http://shop.test/',
    'https://www.shop.test/x',
    'http://test/',
    'http://[::1]/',
    'nothing',
  );
  const client = new Client('http://127.0.0.1:1');
  fc.assert(
    fc.property(fc.array(fc.tuple(setCookie, url), { maxLength: 6 }), (all) => {
      const jar = jarAt();
      for (const [one, from] of all) jar.keep({ 'set-cookie': [one] }, from);
      jar.keep({ 'set-cookie': all[0]?.[0] as never }, 'http://shop.test/');
      for (const [, to] of all) {
        const headers = jar.addTo({}, to);
        let refused: Error | undefined;
        const controller = new AbortController();
        controller.abort();
        const options = { method: 'GET', path: '/', headers } as const;
        client.dispatch(options, {
          onRequestStart: (request) => request.abort(new Error('enough')),
          onResponseError: (_, error) => {
            refused = error;
          },
          onResponseStart() {},
          onResponseData() {},
          onResponseEnd() {},
        });
        expect((refused as { code?: string } | undefined)?.code).not.toBe('UND_ERR_INVALID_ARG');
      }
      JSON.stringify(jar.all());
      inspect(jar);
    }),
    { numRuns: 1000 },
  );
  await client.destroy();
});
