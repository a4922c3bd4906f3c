/**
 * What one admission costs through Redis, for 1, 64 and 1,000 that wait: permits a second, latency, CPU on both sides, beside
 * a bare round trip, an empty script, and the limiters people use; and what the server keeps of each (target, egress).
 *
 *   npm run bench:redis
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { startRedis } from '../../test/support/redis-server.ts';
import { figure, median, table, times, verdicts } from '../support/report.ts';
import { type Bytes, bytesEach } from './bytes.ts';
import type { Contender } from './contender.ts';
import { medians, type Turn, turn } from './measure.ts';
import { ADAPTING, known, paceline } from './paceline.ts';
import { bottleneck, emptyScript, flexible, flexibleUnion, ping } from './peers.ts';

const TURN_MS = 200;
/** By how many wait; the goals are those of 1,000, and one round says little there. */
const ROUNDS = new Map([
  [1, 5],
  [64, 5],
  [1_000, 15],
]);

await using server = await startRedis({ appendonly: false });
const control = server.client();
const one = await known(server, 1);
const eight = await known(server, 8);
const adapting = await known(server, 1, ADAPTING);

const PING = 'PING';
const UNION = 'rate-limiter-flexible, union of 4';
const BOTTLENECK = 'bottleneck, clustering';
const RESERVE = 'paceline: reserve';
const WHOLE = 'paceline: reserve and settle';
const contenders = new Map<string, Contender>([
  [PING, await ping(server)],
  ['EVALSHA of nothing', await emptyScript(server)],
  ['rate-limiter-flexible, single', await flexible(server)],
  [UNION, await flexibleUnion(server)],
  [BOTTLENECK, await bottleneck(server)],
  [RESERVE, paceline(one, { settles: false })],
  [WHOLE, paceline(one, { settles: true })],
  ['the same, 8 targets: reserve', paceline(eight, { settles: false })],
  ['8 targets: reserve and settle', paceline(eight, { settles: true })],
  ['with all that adapts', paceline(adapting, { settles: true })],
  ['with places in the pool', paceline(one, { settles: true, places: true })],
]);

const text: string[] = [];
let last = new Map<string, Turn[]>();
for (const contender of contenders.values()) await turn(contender, 64, TURN_MS, control);
for (const [waiting, rounds] of ROUNDS) {
  last = await race(waiting, rounds);
  text.push(
    table(
      `${waiting.toLocaleString('en-US')} waiting, four limits each (medians of ${rounds} interleaved rounds, one process, one server)`,
      ['', 'permits/s', 'p50, ms', 'p99, ms', 'CPU here, µs', 'server, µs', 'calls'],
      [...last].map(([name, turns]) => {
        const { perSecond, p50Ms, p99Ms, nodeUs, serverUs, calls } = medians(turns);
        return [name, ...[perSecond, p50Ms, p99Ms, nodeUs, serverUs, calls].map(figure)];
      }),
    ),
  );
}
for (const contender of contenders.values()) await contender.close?.();

/** Once each, round after round. */
async function race(waiting: number, rounds: number): Promise<Map<string, Turn[]>> {
  const turns = new Map<string, Turn[]>([...contenders.keys()].map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const [name, contender] of contenders) {
      turns.get(name)!.push(await turn(contender, waiting, TURN_MS, control));
    }
  }
  return turns;
}

/** How many times as many permits a second, the median of the ratios within each round. */
function faster(name: string, than: string): number {
  const others = last.get(than)!;
  return median(last.get(name)!.map(({ perSecond }, round) => perSecond / others[round].perSecond));
}

/** The same by what an admission costs the side it costs more: whatever else the machine is doing hits that less. */
function cheaper(name: string, than: string): number {
  const cost = ({ nodeUs, serverUs }: Turn): number => Math.max(nodeUs, serverUs);
  const others = last.get(than)!;
  return median(last.get(name)!.map((own, round) => cost(others[round]) / cost(own)));
}

const weighed: Bytes[] = await bytesEach();
text.push(
  table(
    'Bytes in Redis of each (target, egress), 100,000 of them',
    ['', 'memory of the server', 'of that, its keys'],
    weighed.map(({ name, bytes, parts }) => [
      name,
      figure(bytes),
      Object.entries(parts)
        .filter(([, size]) => size >= 1)
        .map(([kind, size]) => `${kind} ${figure(size)}`)
        .join(', '),
    ]),
  ),
);
const goals = [
  { than: UNION, least: 4 },
  { than: BOTTLENECK, least: 50 },
  { than: PING, least: 0.5 },
].flatMap(({ than, least }) =>
  [RESERVE, WHOLE].map((name) => {
    const ratio = faster(name, than);
    const what = `1,000 waiting, ${name}: ${times(ratio)} ${than}, by CPU ${times(cheaper(name, than))} (goal ≥ ${least} ×)`;
    return { what, met: ratio >= least };
  }),
);
console.log();
text.push(verdicts(goals));
const out = new URL('../results/', import.meta.url);
await mkdir(out, { recursive: true });
await writeFile(new URL('redis.txt', out), `${text.join('\n\n')}\n`);
