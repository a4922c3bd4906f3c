import { systemClock } from 'paceline';
import { mockGateway, mockTarget } from 'paceline/testing';
import { describe, expect, it } from 'vitest';
import { type Carrier, carrier } from '../../src/gateway/agents.ts';
import { Carriers } from '../../src/gateway/carriers.ts';
import type { PoolRoute } from '../../src/gateway/route.ts';
import { parseProxyUrl } from '../../src/gateway/template.ts';
import type { Gate, TunnelClient } from '../../src/gateway/tunnels.ts';
import { sessionUrl } from '../support/proxy-client.ts';
import { eventually } from '../support/resources.ts';

const route = (id: string): PoolRoute => ({ id, closed: false }) as PoolRoute;

/** Carriers that only say when they end. */
function recorded(most: number): { carriers: Carriers; ended: string[]; opened: string[] } {
  const ended: string[] = [];
  const opened: string[] = [];
  const open = ({ id }: PoolRoute): Carrier => {
    opened.push(id);
    return {
      dispatch: () => true,
      destroy: async () => {
        ended.push(id);
      },
    };
  };
  return { carriers: new Carriers(open, most), ended, opened };
}

describe('Carriers', () => {
  it('keeps the least recently used from filling the memory', () => {
    const { carriers, ended, opened } = recorded(2);
    const [a, b, c] = [route('a'), route('b'), route('c')];
    for (const one of [a, b, a, c]) carriers.handBack(carriers.use(one));
    expect([opened, ended, carriers.size]).toEqual([['a', 'b', 'c'], ['b'], 2]);
    carriers.handBack(carriers.use(b));
    expect([opened, ended]).toEqual([
      ['a', 'b', 'c', 'b'],
      ['b', 'a'],
    ]);
  });

  it('never cuts one with requests on it: it ends with the last of them', () => {
    const { carriers, ended } = recorded(1);
    const [a, b] = [route('a'), route('b')];
    const [first, second] = [carriers.use(a), carriers.use(a)];
    expect(first.carrier).toBe(second.carrier);
    carriers.use(b);
    carriers.handBack(first);
    expect([ended, carriers.size]).toEqual([[], 2]);
    carriers.handBack(second);
    expect([ended, carriers.size]).toEqual([['a'], 1]);
  });

  it('gives a route that left while in use a new one, and ends both', () => {
    const { carriers, ended, opened } = recorded(2);
    const a = route('a');
    const before = carriers.use(a);
    carriers.retire(a);
    const after = carriers.use(a);
    expect([opened, before.carrier === after.carrier]).toEqual([['a', 'a'], false]);
    carriers.handBack(before);
    expect([ended, carriers.size]).toEqual([['a'], 1]);
    a.closed = true;
    carriers.handBack(after);
    expect([ended, carriers.size]).toEqual([['a', 'a'], 0]);
  });

  it('ends those of a session that was given up, the newer one not with the older', () => {
    const { carriers, ended } = recorded(3);
    const a = route('a');
    const before = carriers.use(a);
    a.closed = true;
    carriers.retire(a);
    const after = carriers.use(a);
    carriers.handBack(before);
    expect([ended, carriers.size]).toEqual([['a'], 1]);
    carriers.handBack(after);
    expect([ended, carriers.size]).toEqual([['a', 'a'], 0]);
  });

  it('destroys all of them, those on leave too', async () => {
    const { carriers, ended } = recorded(1);
    carriers.use(route('a'));
    carriers.use(route('b'));
    await carriers.destroy();
    expect([ended.sort(), carriers.size]).toEqual([['a', 'b'], 0]);
  });
});

describe('a carrier given up with work on it', () => {
  /** One GET through a carrier, as the engine would send it. */
  function get(carriers: Carriers, to: PoolRoute, path: string): Promise<string> {
    const held = carriers.use(to);
    const { carrier: by } = held;
    let client: TunnelClient | undefined;
    const gate: Gate = {
      egress: '',
      dialing() {},
      admit() {},
      carriedBy(one) {
        client = one;
      },
    };
    return new Promise<string>((resolve, reject) => {
      let text = '';
      const over = (): void => {
        client?.release();
        carriers.handBack(held);
      };
      const handler = {
        onRequestStart() {},
        onResponseStart() {},
        onResponseData: (_: unknown, chunk: Buffer) => void (text += chunk),
        onResponseEnd() {
          over();
          resolve(text);
        },
        onResponseError(_: unknown, error: Error) {
          over();
          reject(error);
        },
      };
      by.dispatch({ origin: 'http://shop.test', path, method: 'GET' }, handler as never, gate);
    });
  }

  it('loses none of it, in flight or dialing, and leaves no tunnel behind', async () => {
    await using target = await mockTarget({ handler: ({ path }) => ({ body: path, delayMs: 20 }) });
    await using gateway = await mockGateway({ exits: 8, connectDelayMs: 10, hosts: { 'shop.test': target.url } });
    const carriers = new Carriers(
      ({ endpoint }) =>
        carrier(endpoint, {
          clock: systemClock,
          pool: 'res',
          connectMs: 1000,
          headersMs: 1000,
          bodyMs: 1000,
          rotating: false,
          requestTls: undefined,
          proxyTls: undefined,
        }),
      2,
    );
    const routes = Array.from({ length: 8 }, (_, i): PoolRoute => {
      const endpoint = parseProxyUrl('gateway', sessionUrl(gateway, `s${i}`));
      return { id: `res/s${i}`, closed: false, endpoint } as PoolRoute;
    });
    const paths = Array.from({ length: 64 }, (_, i) => `/${i}`);
    const bodies = await Promise.all(paths.map((path, i) => get(carriers, routes[i % 8], path)));
    expect(bodies).toEqual(paths);
    expect(carriers.size).toBe(2);
    await eventually(() => new Set(gateway.log.map(({ session }) => session)).size).toBe(8);
    await carriers.destroy();
    await eventually(() => [gateway.stats().open, target.connections]).toEqual([0, 0]);
  });
});
