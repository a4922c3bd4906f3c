import { ProxyManager } from 'paceline';
import { mockGateway, mockTarget } from 'paceline/testing';
import { describe, expect, it } from 'vitest';
import { testCert } from '../support/certs.ts';

const BODY = 1000;
/** A certificate alone is more than this. */
const HANDSHAKE = 700;

async function firstAndSecond(proxies: ProxyManager, url: string): Promise<number[]> {
  const received: number[] = [];
  for (let i = 0; i < 2; i++) {
    const response = await proxies.fetch(url);
    await response.text();
    received.push(proxies.exchange(response)!.bytesReceived);
  }
  await proxies.close();
  return received;
}

const rule = { match: '127.0.0.1', budget: { limit: 100, windowMs: 60_000, spacing: 'burst' } } as const;

describe('bytes are those on the wire, set-up and TLS included', () => {
  it('to an https target, directly', async () => {
    const { key, cert, ca } = await testCert();
    await using target = await mockTarget({ tls: { key, cert }, bodyBytes: BODY });
    const proxies = new ProxyManager({ requestTls: { ca }, targets: [rule] });
    const [first, second] = await firstAndSecond(proxies, target.url);
    expect(second).toBeGreaterThan(BODY);
    expect(second).toBeLessThan(BODY + HANDSHAKE);
    expect(first).toBeGreaterThan(second + HANDSHAKE);
  });

  it('through an https gateway', async () => {
    const { key, cert, ca } = await testCert();
    await using target = await mockTarget({ bodyBytes: BODY });
    await using gateway = await mockGateway({ tls: { key, cert }, exits: 1 });
    const proxies = new ProxyManager({ gateway: gateway.url, proxyTls: { ca }, targets: [rule] });
    const [first, second] = await firstAndSecond(proxies, target.url);
    expect(second).toBeGreaterThan(BODY);
    expect(first).toBeGreaterThan(second + HANDSHAKE);
  });
});
