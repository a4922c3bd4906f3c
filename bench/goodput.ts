/**
 * Goodput at a target with a hard limit for each IP: 8 requests per 1,000 ms, 429 beyond. Everybody is told the limit and
 * wants as much as it allows. Each strategy has a process, a gateway and a target of its own; all run at the same time.
 */
import Bottleneck from 'bottleneck';
import pThrottle from 'p-throttle';
import { fetch, ProxyAgent } from 'undici';
import { ProxyManager } from '../src/index.ts';
import { answer, child } from './support/child.ts';
import { figure, percent, table, verdicts } from './support/report.ts';
import { type Seen, servers } from './support/servers.ts';

const EXITS = 24;
const LIMIT = 8;
const WINDOW_MS = 1_000;
const LATENCY_MS = [10, 40] as const;
/** All requests that the budgets allow, a second. */
const RATE = (EXITS * LIMIT * 1_000) / WINDOW_MS;
const WARM_UP_MS = 5_000;
const MEASURE_MS = 15_000;
const GOAL = 0.95;
const PAGE = 'http://shop.test/item/1';

/** Starts sending; answers the mean time from grant to response since it was last asked, in milliseconds. */
type Strategy = (gateway: string) => () => number;

const STRATEGIES: Record<string, Strategy> = {
  paceline(gateway) {
    const proxies = new ProxyManager({
      pools: { gateway: { gateway, maxSessions: EXITS } },
      targets: [{ match: 'shop.test', budget: { limit: LIMIT, windowMs: WINDOW_MS, spacing: 'burst' } }],
    });
    let latency = 0;
    let count = 0;
    proxies.on('settle', ({ latencyMs }) => {
      latency += latencyMs;
      count++;
    });
    // As many waiting as one window could use: there is always somebody for a slot.
    for (let i = 0; i < EXITS * LIMIT; i++) forever(() => proxies.fetch(PAGE));
    return () => {
      const mean = latency / count;
      latency = count = 0;
      return mean;
    };
  },

  'p-throttle for each exit, strict': (gateway) => {
    for (const get of exits(gateway)) {
      const throttled = pThrottle({ limit: LIMIT, interval: WINDOW_MS, strict: true })(get);
      for (let i = 0; i < LIMIT; i++) forever(throttled);
    }
    return () => 0;
  },

  'p-throttle over all, exits in turn': (gateway) => {
    const throttled = pThrottle({ limit: EXITS * LIMIT, interval: WINDOW_MS })(inTurn(gateway));
    for (let i = 0; i < EXITS * LIMIT; i++) forever(throttled);
    return () => 0;
  },

  'bottleneck over all, exits in turn': (gateway) => {
    const limiter = new Bottleneck({ minTime: 1_000 / RATE });
    const get = inTurn(gateway);
    for (let i = 0; i < EXITS * LIMIT; i++) forever(() => limiter.schedule(get));
    return () => 0;
  },

  'steady rate, an exit at random': (gateway) => {
    const all = exits(gateway);
    const start = performance.now();
    let sent = 0;
    setInterval(() => {
      for (; sent < ((performance.now() - start) * RATE) / 1_000; sent++) {
        all[Math.floor(Math.random() * EXITS)]().catch(() => {});
      }
    }, 5);
    return () => 0;
  },
};

/** A fetch through each exit, tunnels kept alive. */
function exits(gateway: string): (() => Promise<void>)[] {
  return Array.from({ length: EXITS }, (_, i) => {
    const uri = gateway.replace('{session}', `exit${i}`);
    const dispatcher = new ProxyAgent({ uri, proxyTunnel: true, allowH2: false });
    return () => read(fetch(PAGE, { dispatcher }));
  });
}

function inTurn(gateway: string): () => Promise<void> {
  const all = exits(gateway);
  let turn = 0;
  return () => all[turn++ % EXITS]();
}

async function read(answering: Promise<{ arrayBuffer(): Promise<ArrayBuffer> }>): Promise<void> {
  await (await answering).arrayBuffer();
}

async function forever(get: () => Promise<unknown>): Promise<void> {
  for (;;) {
    const response = await get();
    if (response instanceof Object && 'arrayBuffer' in response) await (response as Response).arrayBuffer();
  }
}

interface Result extends Seen {
  readonly name: string;
  readonly meanMs: number;
}

async function compete(name: string): Promise<Result> {
  await using behind = await servers({
    target: { budget: { limit: LIMIT, windowMs: WINDOW_MS }, latencyMs: LATENCY_MS, retryAfter: false },
    gateway: { exits: EXITS, assign: 'round-robin' },
  });
  await using client = child(new URL(import.meta.url), [name, behind.gatewayUrl]);
  await client.ask('start');
  await new Promise((resolve) => setTimeout(resolve, WARM_UP_MS));
  await client.ask('mean');
  await new Promise((resolve) => setTimeout(resolve, MEASURE_MS));
  const meanMs = await client.ask<number>('mean');
  return { name, meanMs, ...(await behind.seen({ lastMs: MEASURE_MS, limit: LIMIT, windowMs: WINDOW_MS })) };
}

const [name, gateway] = process.argv.slice(2);
if (name !== undefined) {
  let mean: (() => number) | undefined;
  answer(() => {
    if (mean !== undefined) return mean();
    mean = STRATEGIES[name](gateway);
    return 0;
  });
} else {
  const results = await Promise.all(Object.keys(STRATEGIES).map(compete));
  const aSecond = ({ byStatus }: Seen): number => ((byStatus[200] ?? 0) / MEASURE_MS) * 1_000;
  table(
    `${EXITS} exits × ${LIMIT} per ${figure(WINDOW_MS)} ms = ${figure(RATE)} a second at most; ${MEASURE_MS / 1_000} s of steady load`,
    ['', 'pages a second', 'of the most', 'over budget', 'answered 429', 'worst window'],
    results.map((result) => [
      result.name,
      figure(aSecond(result)),
      percent(aSecond(result) / RATE),
      String(result.over),
      String(result.byStatus[429] ?? 0),
      `${result.worst} of ${LIMIT}`,
    ]),
  );
  const [ours] = results;
  const attainable = (EXITS * LIMIT * 1_000) / (WINDOW_MS + ours.meanMs);
  const share = aSecond(ours) / attainable;
  const mean = figure(ours.meanMs);
  console.log();
  verdicts([
    {
      what: `goodput: ${percent(share)} of routes × limit ÷ (window + ${mean} ms to the response) = ${figure(attainable)} a second (goal ≥ ${GOAL * 100} %)`,
      met: share >= GOAL,
    },
    { what: `arrivals over budget: ${ours.over} (goal 0)`, met: ours.over === 0 },
    { what: `answered 429: ${ours.byStatus[429] ?? 0} (goal 0)`, met: (ours.byStatus[429] ?? 0) === 0 },
  ]);
}
