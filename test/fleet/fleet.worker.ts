import { flushCompileCache } from 'node:module';
import { type PacelineEventName, ProxyManager, type Route, type Store } from 'paceline';
import { tell, told } from '../support/in-worker.ts';
import type { News, Order, PlacesAsked, Role } from './protocol.ts';
import { openStore } from './worker-store.ts';

// One worker of a fleet: it plays one role after another, as the test tells it.

const EVENTS: readonly PacelineEventName[] = ['eject', 'return', 'cooldown', 'store-error', 'store-back'];
const ROUTE: Route = {
  ...{ id: 'place', pool: 'place', session: undefined, egress: 'place', seq: 0, expiresAt: Infinity },
  ...{ weight: Infinity, shared: false, trial: false, closed: false },
};

const say = (news: News): Promise<void> => tell(news);

/** Once the test is gone, nobody is left to tell. */
const report = (news: News): void => void say(news).catch(() => {});

async function fetchOne(proxies: ProxyManager, { id, url, session }: Extract<Order, { do: 'fetch' }>): Promise<void> {
  try {
    const response = await proxies.fetch(url, session === undefined ? undefined : { pace: { session } });
    await response.arrayBuffer();
    report({ is: 'answer', id, status: response.status });
  } catch (error) {
    const { code, message, cause } = error as Error & { code?: string };
    report({ is: 'answer', id, code: code ?? 'none', why: cause ? `${message}: ${cause}` : message });
  }
}

async function takePlaces(store: Store, id: number, asked: PlacesAsked): Promise<void> {
  const { target, count, concurrency, deadlineMs } = asked;
  const { grants } = await store.reserve(target, {
    count,
    policy: { limit: Infinity, windowMs: 1000, spacingMs: 0, rates: [], concurrency },
    pool: 'place',
    pin: { ...ROUTE },
    patienceMs: 0,
    horizonMs: 0,
    deadlineMs,
  });
  report({ is: 'places', id, granted: grants.length });
}

async function play(role: Role): Promise<void> {
  const opened = await openStore(role);
  const { store } = opened;
  const proxies = new ProxyManager({ ...role.manager, ...(store && { store }) });
  for (const name of EVENTS) proxies.on(name, (event) => report({ is: 'event', name, event: plain(event) }));
  await say({ is: 'joined' });
  for (;;) {
    const order = await told<Order>();
    if (order.do === 'leave') break;
    if (order.do === 'fetch') void fetchOne(proxies, order);
    if (order.do === 'places') void takePlaces(store!, order.id, order.asked);
    if (order.do === 'inspect') {
      report({ is: 'inspect', id: order.id, snapshot: await store!.inspect(order.target) });
    }
  }
  await proxies.close();
  await opened.close();
  await say({ is: 'left' });
}

function plain(event: object): object {
  const { error } = event as { error?: Error };
  return error === undefined ? event : { error: String(error) };
}

// The others start three times as fast; at its exit, which is often a SIGKILL, would be too late.
flushCompileCache();
await say({ is: 'ready' });
for (let order = await told<Order>(); order.do === 'join'; order = await told<Order>()) await play(order.role);
