import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { GatewayError, type GatewayErrorKind, RetriesExhaustedError } from 'paceline';
import { type MockTarget, mockTarget } from 'paceline/testing';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { GatewayAnswer } from '../../src/gateway/faults.ts';
import { failureOf } from '../support/failing.ts';
import { FAULT_ROWS } from '../support/fault-rows.ts';
import { closeClean, pacedManager } from '../support/paced.ts';
import { type RawGateway, rawGateway } from '../support/raw-gateway.ts';

// Every refusal there is a name for, from a gateway on a real socket to what fetch fails with. The target stands where
// it could be reached past the gateway; its budget is one request a minute and IP, so that a single one wrongly counted shows.

const ATTEMPTS = 3;
let target: MockTarget;

beforeAll(async () => {
  target = await mockTarget();
});
afterAll(() => target.close());
beforeEach(() => target.reset());

/** One proxy, whose exit is itself: what is held against the IP would be held against the next request. */
function managerFor(proxy: string, maxRetryAfterMs?: number) {
  return pacedManager({
    pools: { list: { proxies: [proxy] } },
    targets: [{ match: '127.0.0.1', budget: { limit: 1, windowMs: 60_000, spacing: 'burst' } }],
    retry: { attempts: ATTEMPTS, ...(maxRetryAfterMs === undefined ? undefined : { maxRetryAfterMs }) },
  });
}

/** The refusals that a first request is met with, and a second one that the gateway lets through. */
async function refusedThenLet(gateway: RawGateway, letThrough: () => void, fatal: boolean): Promise<GatewayError> {
  const proxies = managerFor(gateway.url.replace('-{session}', ''));
  const error = await failureOf(proxies.fetch(target.url, { pace: { maxWaitMs: 1000 } }));
  expect(gateway.asked).toBe(fatal ? 1 : ATTEMPTS);
  expect([target.arrivals.length, target.connections]).toEqual([0, 0]);
  if (!fatal) expect(error).toMatchObject({ name: 'RetriesExhaustedError', attempts: ATTEMPTS });
  const fault = error instanceof RetriesExhaustedError ? error.cause : error;
  expect(fault).toBeInstanceOf(GatewayError);
  const { outcomes } = (await proxies.stats()).targets['127.0.0.1'];
  expect(outcomes['gateway-error']).toBe(gateway.asked);
  expect(Object.values(outcomes).reduce((sum, n) => sum + n)).toBe(gateway.asked);
  expect(await proxies.stats()).toMatchObject({ total: 0, blocked: 0 });

  letThrough();
  const response = await proxies.fetch(target.url, { pace: { maxWaitMs: 0 } });
  expect([response.status, target.arrivals.length]).toEqual([200, 1]);
  await response.text();
  await closeClean(proxies, { target });
  return fault as GatewayError;
}

/** Hands the client on to the target: what it says, and what it is answered. */
async function tunnel(client: Socket): Promise<void> {
  // What comes meanwhile is not lost.
  client.pause();
  const upstream = connect(Number(new URL(target.url).port), '127.0.0.1');
  upstream.on('error', () => client.destroy());
  client.on('close', () => upstream.destroy());
  await once(upstream, 'connect');
  client.pipe(upstream).pipe(client);
}

function headOf({ status, statusMessage = 'No', headers }: GatewayAnswer): string {
  const fields = Object.entries(headers as Record<string, string>).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status} ${statusMessage}\r\n${fields.join('')}content-length: 0\r\n\r\n`;
}

describe('a gateway that answers CONNECT with', () => {
  it.each(FAULT_ROWS)('%s', async (_what, answer, kind, fatal, providerCode) => {
    let refuses = true;
    await using gateway = await rawGateway((socket, head) => {
      expect(head.toString()).toMatch(/^CONNECT 127\.0\.0\.1:\d+ HTTP\/1\.1\r\n/);
      if (refuses) {
        socket.write(headOf(answer));
        return;
      }
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      void tunnel(socket);
    });
    const fault = await refusedThenLet(gateway, () => (refuses = false), fatal);
    expect(fault).toMatchObject({ kind, fatal, retryable: !fatal, status: answer.status, pool: 'list' });
    expect(fault.providerCode).toBe(providerCode);
    if (providerCode !== undefined) expect(fault.message).toContain(`(${providerCode})`);
    const words = (answer.headers as Record<string, string>)['x-error-description'];
    if (words !== undefined) expect(fault.message).toContain(words);
  });
});

/** Answers each message of a SOCKS5 client in turn; past the last, hands the client on. */
const socksGateway = (answers: () => readonly number[][] | undefined): Promise<RawGateway> =>
  rawGateway(
    (socket) => {
      const steps = answers() ?? [
        [5, 2],
        [1, 0],
        [5, 0, 0, 1, 127, 0, 0, 1, 0, 80],
      ];
      let step = 0;
      const next = (): void => {
        socket.write(Buffer.from(steps[step++]));
        if (step < steps.length) socket.once('data', next);
        else if (answers() === undefined) void tunnel(socket);
      };
      next();
    },
    { protocol: 'socks5' },
  );

describe('a SOCKS5 gateway that answers with', () => {
  const reply = (code: number): number[][] => [
    [5, 2],
    [1, 0],
    [5, code, 0, 1, 0, 0, 0, 0, 0, 0],
  ];

  it.each<[string, number[][], GatewayErrorKind, boolean, string]>([
    ['reply 1, general failure', reply(1), 'exit-failed', false, 'UND_ERR_SOCKS5_REPLY_1'],
    ['reply 2, not allowed', reply(2), 'forbidden', true, 'UND_ERR_SOCKS5_REPLY_2'],
    ['reply 3, no network', reply(3), 'exit-failed', false, 'UND_ERR_SOCKS5_REPLY_3'],
    ['reply 4, no host', reply(4), 'exit-failed', false, 'UND_ERR_SOCKS5_REPLY_4'],
    ['reply 5, refused', reply(5), 'exit-failed', false, 'UND_ERR_SOCKS5_REPLY_5'],
    ['reply 6, expired', reply(6), 'exit-failed', false, 'UND_ERR_SOCKS5_REPLY_6'],
    ['reply 7, no such command', reply(7), 'protocol', false, 'UND_ERR_SOCKS5_REPLY_7'],
    ['reply 8, no such address type', reply(8), 'protocol', false, 'UND_ERR_SOCKS5_REPLY_8'],
    ['reply 240, assigned to nothing', reply(240), 'exit-failed', false, 'UND_ERR_SOCKS5_REPLY_240'],
    ['no method it takes', [[5, 255]], 'auth', true, 'UND_ERR_SOCKS5_AUTH_REJECTED'],
    ['a method that was not offered', [[5, 7]], 'auth', true, 'UND_ERR_SOCKS5_AUTH_METHOD'],
    [
      'refused credentials',
      [
        [5, 2],
        [1, 1],
      ],
      'auth',
      true,
      'UND_ERR_SOCKS5_AUTH_FAILED',
    ],
    ['SOCKS4', [[4, 90]], 'protocol', false, 'UND_ERR_SOCKS5_VERSION'],
  ])('%s', async (_what, answers, kind, fatal, providerCode) => {
    let refuses = true;
    await using gateway = await socksGateway(() => (refuses ? answers : undefined));
    const fault = await refusedThenLet(gateway, () => (refuses = false), fatal);
    expect(fault).toMatchObject({ kind, fatal, providerCode, pool: 'list', status: undefined });
  });
});
