/**
 * What pacing adds to a request: `proxies.fetch` beside a bare `undici.fetch` through the same kind of ProxyAgent, tunnels
 * kept alive, budgets so high that nobody waits. Gateway and target have a process of their own, and so has each client.
 */
import { fetch, ProxyAgent } from 'undici';
import { ProxyManager } from '../src/index.ts';
import { answer, child } from './support/child.ts';
import { figure, median, medianWithin, percent, table, times, verdicts } from './support/report.ts';
import { servers } from './support/servers.ts';

const CONCURRENCY = [1, 50, 500];
/** Several processes of each: how code and objects come to lie in memory is a matter of luck that lasts as long as a process. */
const PAIRS = 3;
/** V8 goes on compiling, and taking back what it compiled, for some 16,000 fetches, with or without us. */
const WARM_UP = 20_000;
/** Many short rounds: what else the machine does comes and goes, and meets both of a round that is short. */
const ROUNDS = 60;
const LEAD_IN_MS = 40;
const ROUND_MS = 120;
const GOAL = 0.95;
const PAGE = 'http://shop.test/item/1';

interface Run {
  readonly perSecond: number;
  readonly cpuUs: number;
}

type Get = () => Promise<{ status: number; arrayBuffer(): Promise<ArrayBuffer> }>;

const CLIENTS: Record<string, (gateway: string) => Get> = {
  'undici.fetch': (gateway) => {
    const dispatcher = new ProxyAgent({
      uri: gateway.replace('{session}', 'one'),
      proxyTunnel: true,
      allowH2: false,
      keepAliveTimeout: 60_000,
    });
    return () => fetch(PAGE, { dispatcher });
  },
  'proxies.fetch': (gateway) => {
    const proxies = new ProxyManager({
      pools: { gateway: { gateway, maxSessions: 1, concurrency: 1_000 } },
      targets: [{ match: 'shop.test', budget: { limit: 1_000_000, windowMs: 1_000, spacing: 'burst' } }],
    });
    return () => proxies.fetch(PAGE);
  },
};

/** `concurrency` loops, each with one request at a time, for `ms` or so many requests. */
async function run(get: Get, concurrency: number, ms: number, most: number = Infinity): Promise<Run> {
  const start = performance.now();
  const before = process.cpuUsage();
  let done = 0;
  const loop = async (): Promise<void> => {
    while (performance.now() - start < ms && done < most) {
      const response = await get();
      await response.arrayBuffer();
      if (response.status !== 200) throw new Error(`status ${response.status}`);
      done++;
    }
  };
  await Promise.all(Array.from({ length: concurrency }, loop));
  const { user, system } = process.cpuUsage(before);
  return { perSecond: (done / (performance.now() - start)) * 1_000, cpuUs: (user + system) / done };
}

const [name, gateway] = process.argv.slice(2);
if (name !== undefined) {
  const get = CLIENTS[name](gateway);
  let warm = false;
  answer(async (concurrency: number) => {
    if (!warm) await run(get, concurrency, Infinity, WARM_UP);
    warm = true;
    await run(get, concurrency, LEAD_IN_MS);
    return run(get, concurrency, ROUND_MS);
  });
} else {
  await using behind = await servers({ target: {}, gateway: { exits: ['127.0.0.1'] } });
  const names = Object.keys(CLIENTS);
  const rows: string[][] = [];
  const goals: { what: string; met: boolean }[] = [];
  for (const concurrency of CONCURRENCY) {
    const rounds: [Run, Run][] = [];
    for (let pair = 0; pair < PAIRS; pair++) {
      // New clients for each concurrency, too: tunnels left over from a higher one would slow undici's own pool down.
      await using all = new AsyncDisposableStack();
      const clients = names.map((client) => all.use(child(new URL(import.meta.url), [client, behind.gatewayUrl])));
      await Promise.all(clients.map((client) => client.ask(concurrency)));
      for (let i = 0; i < ROUNDS; i++) {
        // In turns first and second, so that neither always follows the other.
        const order = i % 2 === 0 ? [0, 1] : [1, 0];
        const round: Run[] = [];
        for (const which of order) round[which] = await clients[which].ask<Run>(concurrency);
        rounds.push([round[0], round[1]]);
      }
    }
    const ratios = rounds.map(([bare, ours]) => ours.perSecond / bare.perSecond);
    const ratio = median(ratios);
    const within = medianWithin(ratios).map((bound) => bound.toFixed(3));
    for (const which of [0, 1]) {
      rows.push([
        `${concurrency} at a time: ${names[which]}`,
        figure(median(rounds.map((round) => round[which].perSecond))),
        figure(median(rounds.map((round) => round[which].cpuUs))),
        which === 0 ? '' : times(ratio),
        which === 0 ? '' : percent(median(rounds.map(([bare, ours]) => ours.cpuUs / bare.cpuUs)) - 1),
      ]);
    }
    goals.push({
      what: `${concurrency} at a time: ${times(ratio)} of undici’s requests a second, with 95 % confidence ${within.join('–')} (goal ≥ ${GOAL})`,
      met: ratio >= GOAL,
    });
  }
  table(
    `A fetch through a kept-alive tunnel (median of ${PAIRS} × ${ROUNDS} interleaved rounds of ${ROUND_MS} ms, after ${WARM_UP} fetches each)`,
    ['', 'requests a second', 'client CPU, µs a request', 'rate, undici = 1', 'more CPU'],
    rows,
  );
  console.log();
  verdicts(goals);
}
