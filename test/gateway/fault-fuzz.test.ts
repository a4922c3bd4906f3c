import type { Socket } from 'node:net';
import fc from 'fast-check';
import { GatewayError, type ProxyManager } from 'paceline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pacedManager } from '../support/paced.ts';
import { type RawGateway, rawGateway } from '../support/raw-gateway.ts';
import { eventually } from '../support/resources.ts';

// A gateway that answers CONNECT, or a SOCKS5 greeting, with anything at all. What fetch makes of it is typed, comes in time, and
// neither leaves a socket behind nor shows the password.

const LIMIT_MS = 100;
/** What takes this long hangs: past both limits, which behind an open tunnel are undici's and come a second late, on any machine. */
const HANG_MS = 10_000;
/** Of one test. A hang is made smaller as long as there is time for it, and then reported. */
const TEST_MS = 120_000;
const IN_TIME = { timeout: HANG_MS, interruptAfterTimeLimit: TEST_MS - 2 * HANG_MS, markInterruptAsFailure: true };
const PASSWORD = 'hunter2secret';
const KINDS = ['auth', 'quota', 'forbidden', 'unreachable', 'timeout', 'exit-failed', 'protocol'];

interface Reply {
  readonly bytes: Buffer;
  /** What follows it. */
  readonly then: 'close' | 'reset' | 'wait';
}

const then = fc.constantFrom<Reply['then'][]>('close', 'close', 'close', 'reset', 'reset', 'wait');
const latin1 = (maxLength: number) => fc.uint8Array({ maxLength }).map((data) => Buffer.from(data).toString('latin1'));
const line = (maxLength: number) => latin1(maxLength).map((text) => text.replace(/[\r\n]/g, ' '));
const name = fc.constantFrom(
  ...[
    'x-brd-err-code',
    'x-brd-err-msg',
    'proxy-status',
    'x-error-description',
    'x-crawlera-error',
    'retry-after',
    'date',
  ],
  ...['x-egress-ip', 'x-brd-ip', 'content-length', 'transfer-encoding', 'connection', 'upgrade', '__proto__', ' x', ''],
);
const value = fc.oneof(
  line(200),
  fc.constantFrom('client_10000', 'gw;error=dns_error', '1', '99999999999999', 'chunked', '-1', '1.2.3.4, 5.6.7.8'),
  fc.constantFrom(
    `user:${PASSWORD}@gw`,
    PASSWORD,
    Buffer.from(`user:${PASSWORD}`).toString('base64'),
    'x'.repeat(20_000),
  ),
);
const head = fc
  .record({
    status: fc.oneof(fc.integer({ min: 100, max: 999 }), fc.constantFrom(100, 101, 103, 200, 204, 407, 429, 503)),
    phrase: fc.oneof(line(40), fc.constantFrom('TRAFFIC_EXHAUSTED', PASSWORD, '')),
    fields: fc.array(fc.tuple(name, value), { maxLength: 6 }),
    body: fc.oneof(fc.constant(''), latin1(300), fc.constant('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')),
    cut: fc.oneof({ arbitrary: fc.constant(null), weight: 7 }, fc.nat(60)),
  })
  .map(({ status, phrase, fields, body, cut }) => {
    const lines = fields.map(([field, text]) => `${field}: ${text}\r\n`).join('');
    const text = `HTTP/1.1 ${status} ${phrase}\r\n${lines}\r\n${body}`;
    return Buffer.from(cut === null ? text : text.slice(0, cut), 'latin1');
  });
const anything = fc.uint8Array({ maxLength: 400 }).map((data) => Buffer.from(data));

const SOCKS = [
  Buffer.of(5, 0),
  Buffer.of(5, 2),
  Buffer.of(1, 0),
  Buffer.of(1, 1),
  Buffer.of(5, 0, 0, 1, 1, 2, 3, 4, 0, 80),
  Buffer.of(5, 2, 0, 1, 1, 2, 3, 4, 0, 80),
  Buffer.of(5, 0, 0, 3, 250, 65),
  Buffer.of(5, 0, 0, 9),
];
const socksReplies = fc.array(fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...SOCKS) }, anything), {
  minLength: 1,
  maxLength: 4,
});

function world(protocol: string, answer: (socket: Socket) => void) {
  let gateway: RawGateway;
  let proxies: ProxyManager;
  beforeAll(async () => {
    gateway = await rawGateway(answer, { protocol });
    proxies = pacedManager({
      gateway: gateway.url.replace(':pass@', `:${PASSWORD}@`),
      retry: { attempts: 1 },
      // It would rightly stop asking such a gateway.
      breaker: false,
      timeouts: { connectMs: LIMIT_MS, headersMs: LIMIT_MS, bodyMs: LIMIT_MS },
    });
  });
  afterAll(async () => {
    await proxies.close();
    await eventually(() => gateway.open).toBe(0);
    await gateway[Symbol.asyncDispose]();
  });

  /** One fetch against whatever the gateway says; what it came to. */
  return async (scheme: string): Promise<void> => {
    const ending: unknown = await proxies.fetch(`${scheme}://shop.test/`).then(
      async (response) => {
        await response.text().catch(() => {});
        return response.status;
      },
      (error: unknown) => error,
    );
    if (typeof ending === 'number') return;
    expect(ending).toBeInstanceOf(Error);
    const error = ending as Error;
    for (let one: unknown = error; one instanceof Error; one = one.cause) {
      const text = `${one.message} ${one.stack} ${JSON.stringify(one)}`;
      expect(text).not.toContain(PASSWORD);
      expect(text).not.toContain(Buffer.from(`:${PASSWORD}`).toString('base64').slice(4, 14));
    }
    if (error instanceof GatewayError) {
      expect(KINDS).toContain(error.kind);
      expect(error.message.length).toBeLessThan(500);
      expect(error.message).not.toMatch(/[\r\n]/);
      const { retryAfterMs = 0 } = error;
      expect(retryAfterMs >= 0 && retryAfterMs <= 365 * 86_400_000).toBe(true);
    } else {
      // Behind an open tunnel it is the target that talks nonsense: a network error, as fetch names it.
      expect(error).toBeInstanceOf(TypeError);
      expect(error.message).toBe('fetch failed');
    }
  };
}

function finish(socket: Socket, reply: Reply): void {
  if (reply.then === 'close') socket.end(reply.bytes);
  else if (reply.then === 'reset') socket.write(reply.bytes, () => socket.resetAndDestroy());
  else socket.write(reply.bytes);
}

describe('a gateway that answers CONNECT with anything', () => {
  let reply: Reply;
  const fetchOnce = world('http', (socket) => finish(socket, reply));

  it('is a typed error, in time', { timeout: TEST_MS }, async () => {
    const bytes = fc.oneof({ weight: 5, arbitrary: head }, anything);
    const silent: Reply = { bytes: Buffer.from('HTTP/1.1 200 OK\r\n\r\n'), then: 'wait' };
    const open = (scheme: string): [Reply, string] => [silent, scheme];
    await fc.assert(
      fc.asyncProperty(fc.record({ bytes, then }), fc.constantFrom('http', 'https'), async (given, scheme) => {
        reply = given;
        await fetchOnce(scheme);
      }),
      { numRuns: 250, examples: [open('http'), open('https')], ...IN_TIME },
    );
  });
});

describe('a gateway that answers SOCKS5 with anything', () => {
  let replies: Buffer[];
  let ending: Reply['then'];
  const fetchOnce = world('socks5', (socket) => {
    const left = [...replies];
    const next = (): void => {
      const bytes = left.shift()!;
      if (left.length === 0) finish(socket, { bytes, then: ending });
      else {
        socket.write(bytes);
        socket.once('data', next);
      }
    };
    next();
  });

  it('is a typed error, in time', { timeout: TEST_MS }, async () => {
    const opening = [Buffer.of(5, 2), Buffer.of(1, 0), Buffer.of(5, 0, 0, 1, 1, 2, 3, 4, 0, 80)];
    const open = (scheme: string): [Buffer[], Reply['then'], string] => [opening, 'wait', scheme];
    await fc.assert(
      fc.asyncProperty(socksReplies, then, fc.constantFrom('http', 'https'), async (given, last, scheme) => {
        replies = given;
        ending = last;
        await fetchOnce(scheme);
      }),
      { numRuns: 150, examples: [open('http'), open('https')], ...IN_TIME },
    );
  });
});
