import { inspect } from 'node:util';
import { type ProxyManagerOptions, type Session, SessionLostError } from 'paceline';
import {
  type MockTarget,
  mockGateway,
  mockTarget,
  type TargetReply,
  type TargetRequest,
  virtualClock,
} from 'paceline/testing';
import { Request } from 'undici';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { testCert } from '../support/certs.ts';
import { failureOf, thrownBy } from '../support/failing.ts';
import { pacedManager, shopBudget } from '../support/paced.ts';

// A session has cookies of its own: what any answer sets goes along with the next request, as far as its attributes allow.

const EASY = ['a.test', 'b.test'].map((match) => ({
  match,
  budget: { limit: 10_000, windowMs: 1000, spacing: 'burst' as const },
}));

let target: MockTarget;
let seen: { host: string; path: string; cookie: string | undefined }[] = [];
let reply: (request: TargetRequest) => TargetReply | undefined;

beforeEach(async () => {
  seen = [];
  reply = ({ path }) => (path === '/login' ? { headers: { 'set-cookie': 'sid=secret42' } } : undefined);
  target = await mockTarget({
    handler(request) {
      seen.push({ host: request.host, path: request.path, cookie: request.headers.cookie });
      return reply(request);
    },
  });
});
afterEach(() => target.close());

const gatewayFor = (exits = 20) => mockGateway({ exits, hosts: { '*.test': target.url } });
const managerFor = (gateway: { url: string }, options: ProxyManagerOptions = {}) =>
  pacedManager({ gateway: gateway.url, targets: EASY, ...options });
const visit = async (session: Pick<Session, 'fetch'>, url: string, init?: object): Promise<void> => {
  await (await session.fetch(url, init)).text();
};

describe('the cookies of a session', () => {
  it('are sent back, and are its own: no other session and no other request has them', async () => {
    await using gateway = await gatewayFor();
    await using proxies = managerFor(gateway);
    const [one, two] = [proxies.session(), proxies.session()];
    await visit(one, 'http://a.test/login');
    for (const who of [one, two, proxies]) await visit(who, 'http://a.test/page');
    expect(seen.map(({ cookie }) => cookie)).toEqual([undefined, 'sid=secret42', undefined, undefined]);
    expect([one.cookies.get('http://a.test/'), two.cookies.get('http://a.test/')]).toEqual(['sid=secret42', '']);
  });

  it('are the caller’s to manage for a session that requests name', async () => {
    await using gateway = await gatewayFor();
    await using proxies = managerFor(gateway);
    for (const path of ['login', 'page']) {
      await (await proxies.fetch(`http://a.test/${path}`, { pace: { session: 'mine' } })).text();
    }
    expect(seen.map(({ cookie }) => cookie)).toEqual([undefined, undefined]);
  });

  it('are kept from every hop of a redirect, and each hop is sent those of its own host', async () => {
    reply = ({ path }) => {
      if (path === '/start') {
        return { redirect: '/next', headers: { 'set-cookie': ['hop=1', 'wide=2; Path=/', 'deep=3; Path=/deep'] } };
      }
      if (path === '/next') return { redirect: 'http://b.test/away', headers: { 'set-cookie': 'hop=4' } };
      if (path === '/away') return { redirect: 'http://a.test/deep/end', headers: { 'set-cookie': 'b=5' } };
      return undefined;
    };
    await using gateway = await gatewayFor();
    await using proxies = managerFor(gateway);
    const session = proxies.session();
    await visit(session, 'http://a.test/start', { headers: { cookie: 'own=0' } });
    expect(seen).toEqual([
      { host: 'a.test', path: '/start', cookie: 'own=0' },
      { host: 'a.test', path: '/next', cookie: 'hop=1; wide=2; own=0' },
      { host: 'b.test', path: '/away', cookie: undefined },
      { host: 'a.test', path: '/deep/end', cookie: 'deep=3; hop=4; wide=2' },
    ]);
    expect(session.cookies.get('http://b.test/')).toBe('b=5');
  });

  it('are kept from answers that are tried again, and go along with the next attempt', async () => {
    reply = () => (seen.length === 1 ? { status: 503, headers: { 'set-cookie': 'queue=7' } } : undefined);
    await using gateway = await gatewayFor();
    await using proxies = managerFor(gateway);
    await visit(proxies.session(), 'http://a.test/page');
    expect(seen.map(({ cookie }) => cookie)).toEqual([undefined, 'queue=7']);
  });

  it('set while a request waits in the queue go along with it', async () => {
    reply = () => ({ headers: { 'set-cookie': `n=${seen.length}` } });
    await using gateway = await gatewayFor();
    await using proxies = managerFor(gateway, { targets: shopBudget(1, 60) });
    const session = proxies.session();
    await Promise.all([1, 2, 3].map(() => visit(session, 'http://www.shop.test/')));
    expect(seen.map(({ cookie }) => cookie)).toEqual([undefined, 'n=1', 'n=2']);
  });

  it('that are Secure go over https alone', async () => {
    const cert = await testCert();
    const secrets: (string | undefined)[] = [];
    await using secure = await mockTarget({
      tls: cert,
      handler({ headers }) {
        secrets.push(headers.cookie);
        return { headers: { 'set-cookie': ['s=1; Secure', 'p=2'] } };
      },
    });
    await using gateway = await mockGateway({ hosts: { 'shop.test:443': secure.url, 'shop.test:80': target.url } });
    await using proxies = pacedManager({ gateway: gateway.url, requestTls: { ca: cert.ca } });
    const session = proxies.session();
    for (const scheme of ['https', 'http', 'https']) await visit(session, `${scheme}://shop.test/`);
    expect(seen.map(({ cookie }) => cookie)).toEqual(['p=2']);
    expect(secrets).toEqual([undefined, 's=1; p=2']);
  });

  it('end when they say, on the manager’s clock', async () => {
    reply = ({ path }) => (path === '/login' ? { headers: { 'set-cookie': 'a=1; Max-Age=60' } } : undefined);
    const clock = virtualClock();
    await using gateway = await gatewayFor();
    await using proxies = managerFor(gateway, { clock });
    const session = proxies.session();
    await visit(session, 'http://a.test/login');
    await clock.advance(59_000);
    await visit(session, 'http://a.test/');
    await clock.advance(1000);
    await visit(session, 'http://a.test/');
    expect(seen.map(({ cookie }) => cookie)).toEqual([undefined, 'a=1', undefined]);
  });

  it('go without saying: not where the caller names the same one, and not with credentials: omit', async () => {
    await using gateway = await gatewayFor();
    await using proxies = managerFor(gateway);
    const session = proxies.session();
    await visit(session, 'http://a.test/login');
    await visit(session, 'http://a.test/1', { headers: { Cookie: 'sid=mine; more=1' } });
    await visit(session, 'http://a.test/2', { headers: [['cookie', 'more=1']] });
    await visit(session, 'http://a.test/3', { credentials: 'omit' });
    await (await session.fetch(new Request('http://a.test/4', { credentials: 'omit' }))).text();
    await visit(session, 'http://a.test/5');
    expect(seen.slice(1).map(({ cookie }) => cookie)).toEqual([
      'sid=mine; more=1',
      'sid=secret42; more=1',
      undefined,
      undefined,
      'sid=secret42',
    ]);
  });

  it('stay in the jar that broken ones are thrown at', async () => {
    reply = () => ({
      headers: { 'set-cookie': ['', ';;;', '=', 'x=1; Domain=test', `y=${'z'.repeat(5000)}`, 'ok=1'] },
    });
    await using gateway = await gatewayFor();
    await using proxies = managerFor(gateway);
    const session = proxies.session();
    await visit(session, 'http://a.test/');
    expect(session.cookies.get('http://a.test/')).toBe('ok=1');
  });

  it('can be had, added, cleared and kept by the caller', async () => {
    await using gateway = await gatewayFor();
    await using proxies = managerFor(gateway);
    const { cookies, fetch } = proxies.session();
    expect(cookies.set('a=1; Domain=a.test', 'http://www.a.test/')).toBe(true);
    expect(cookies.set('b=1; Domain=test', new URL('http://www.a.test/'))).toBe(false);
    await visit({ fetch }, 'http://a.test/');
    expect(seen[0].cookie).toBe('a=1');
    const saved = JSON.parse(JSON.stringify(cookies));
    expect(saved).toEqual([{ setCookie: 'a=1; Domain=a.test; Path=/', url: 'http://a.test/' }]);
    const other = proxies.session();
    for (const { setCookie, url } of saved) other.cookies.set(setCookie, url);
    expect(other.cookies.get(new URL('http://x.a.test/'))).toBe('a=1');
    cookies.clear();
    expect([cookies.get('http://a.test/'), cookies.toJSON()]).toEqual(['', []]);
    expect(thrownBy(() => cookies.get('a.test'))).toMatchObject({ name: 'ConfigError', option: 'url' });
    expect(thrownBy(() => cookies.set({} as never, 'http://a.test/'))).toMatchObject({ option: 'cookies.set' });
  });

  it('are not kept with cookies: false', async () => {
    await using gateway = await gatewayFor();
    await using proxies = managerFor(gateway);
    const session = proxies.session({ cookies: false });
    for (const path of ['login', 'page']) await visit(session, `http://a.test/${path}`);
    expect(seen.map(({ cookie }) => cookie)).toEqual([undefined, undefined]);
    expect([session.cookies.set('a=1', 'http://a.test/'), session.cookies.toJSON()]).toEqual([false, []]);
  });
});

describe('rotate()', () => {
  it('leaves the cookies behind, and takes them along when told to', async () => {
    await using gateway = await gatewayFor();
    await using proxies = managerFor(gateway);
    const session = proxies.session();
    const { cookies } = session;
    await visit(session, 'http://a.test/login');
    session.rotate({ keepCookies: true });
    await visit(session, 'http://a.test/1');
    session.rotate();
    expect(cookies.get('http://a.test/')).toBe('');
    await visit(session, 'http://a.test/2');
    expect(seen.map(({ cookie }) => cookie)).toEqual([undefined, 'sid=secret42', undefined]);
  });

  it('does not mix the two: what still comes in on the old exit stays with the old cookies', async () => {
    reply = ({ path }) => {
      if (path === '/slow') return { delayMs: 80, redirect: '/landed', headers: { 'set-cookie': 'old=1' } };
      return path === '/landed' ? { headers: { 'set-cookie': 'late=1' } } : undefined;
    };
    await using gateway = await gatewayFor();
    await using proxies = managerFor(gateway);
    const session = proxies.session();
    const running = visit(session, 'http://a.test/slow');
    await target.arrived(1);
    session.rotate();
    session.cookies.set('new=1', 'http://a.test/');
    await running;
    await visit(session, 'http://a.test/after');
    expect(seen.map(({ path, cookie }) => [path, cookie])).toEqual([
      ['/slow', undefined],
      ['/landed', 'old=1'],
      ['/after', 'new=1'],
    ]);
  });

  it('by itself, when the time is over, leaves them behind too', async () => {
    const clock = virtualClock();
    await using gateway = await gatewayFor();
    const pools = { res: { gateway: gateway.url, sessionTtlMs: 60_000 } };
    await using proxies = pacedManager({ pools, targets: EASY, clock });
    const session = proxies.session();
    await visit(session, 'http://a.test/login');
    await clock.advance(60_000);
    await visit(session, 'http://a.test/page');
    expect(seen[1].cookie).toBeUndefined();
  });
});

it('no cookie is in what is shown: of sessions, responses, exchanges, events and errors', async () => {
  const shown: unknown[] = [];
  const show = (value: unknown) => {
    shown.push(
      inspect(value, { depth: 12, showHidden: true, getters: true }),
      `${value} ${JSON.stringify(value)}`,
      value instanceof Error ? `${value.message} ${value.stack}` : '',
    );
  };
  await using gateway = await gatewayFor();
  await using proxies = managerFor(gateway, { retry: { attempts: 2 } });
  for (const name of ['admit', 'settle', 'retry', 'egress', 'session', 'refuse', 'cooldown'] as const) {
    proxies.on(name, show);
  }
  const session = proxies.session({ strict: true });
  await visit(session, 'http://a.test/login');
  const response = await session.fetch('http://a.test/page');
  show(response);
  show(proxies.exchange(response));
  await response.text();
  reply = () => ({ reset: true });
  show(await failureOf(session.fetch('http://a.test/page')));
  gateway.rotate(session.id);
  const lost = await failureOf(session.fetch('http://b.test/page'));
  expect(lost).toBeInstanceOf(SessionLostError);
  show(lost);
  show(session);
  show(proxies);
  show(await proxies.stats());
  shown.push(inspect(session.cookies, { depth: 12, showHidden: true, getters: true }));
  expect(session.cookies.get('http://a.test/')).toBe('sid=secret42');
  expect(shown.length).toBeGreaterThan(30);
  expect(shown.join('\n')).not.toContain('secret42');
});
