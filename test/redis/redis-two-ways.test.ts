import fc from 'fast-check';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { STEP_SCRIPT } from '../../src/redis.ts';
import { keysOf } from '../../src/store/redis/keys.ts';
import { batchText } from '../../src/store/redis/wire.ts';
import type { Backend, BatchAnswer } from '../../src/store/shared/steps.ts';
import { calmBatchTrace, runBatches } from '../support/batch-trace.ts';
import { type RedisServer, startRedis } from '../support/redis-server.ts';

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis({ appendonly: false });
});
afterAll(() => server[Symbol.asyncDispose]());

/** Which egresses are looked at for clean-up is left to chance; here it is all of them. */
const SCRIPT = STEP_SCRIPT.replaceAll(/call\('HRANDFIELD', EGRESSES, \w+\)/g, "call('HKEYS', EGRESSES)");
const GENERAL = SCRIPT.replace('isUsual() and usual()', 'false');

/** All that is kept of a target, in words: records byte by byte, the gate field by field, and how long all of it lives. */
const SHOW = `
local function show(value)
  if type(value) == 'number' then return string.format('%.17g', value) end
  if type(value) ~= 'table' then return tostring(value) end
  local parts = {}
  for key, one in pairs(value) do parts[#parts + 1] = tostring(key) .. '=' .. show(one) end
  table.sort(parts)
  return '{' .. table.concat(parts, ' ') .. '}'
end
local function hex(text) return (string.gsub(text, '.', function(c) return string.format('%02x', string.byte(c)) end)) end
local all = {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  local what = {}
  if kind == 'string' then
    local fields = { cmsgpack.unpack(redis.call('GET', key)) }
    for k = 1, 28 do what[k] = show(fields[k]) end
  elseif kind == 'hash' then
    local pairs = redis.call('HGETALL', key)
    for k = 1, #pairs, 2 do what[#what + 1] = pairs[k] .. ' ' .. hex(pairs[k + 1]) end
    table.sort(what)
  elseif kind == 'zset' then
    what = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  elseif kind == 'set' then
    what = redis.call('SMEMBERS', key)
    table.sort(what)
  end
  all[i] = kind .. ' ' .. math.floor(redis.call('PTTL', key) / 30000 + 0.5) .. '\\n' .. table.concat(what, '\\n')
end
return all`;

/** The script as it is called, without the backend around it. */
class Plain implements Backend {
  private readonly client: Redis;
  private readonly script: string;
  private readonly prefix: string;
  private readonly now: () => number;

  constructor(client: Redis, script: string, prefix: string, now: () => number) {
    this.client = client;
    this.script = script;
    this.prefix = prefix;
    this.now = now;
  }

  async take({ target, policy, seen, steps }: Parameters<Backend['take']>[0]): Promise<BatchAnswer> {
    const keys = keysOf(this.prefix, target);
    const text = batchText(target, policy, seen, steps);
    return JSON.parse(String(await this.client.eval(this.script, keys.length, ...keys, String(this.now()), text)));
  }

  close(): void {}

  async state(): Promise<unknown> {
    const keys = [...keysOf(this.prefix, 'shop.test')];
    const lanes = (await this.client.keys(`${this.prefix}*lane:*`)).sort();
    const all = await this.client.eval(SHOW, keys.length + lanes.length, ...keys, ...lanes);
    return [lanes.map((lane) => lane.slice(this.prefix.length)), all];
  }
}

it('what is usual is decided in general as it is by itself: the same answers, and the same state to the last byte', async () => {
  const client = server.client();
  let usual = 0;
  await fc.assert(
    fc.asyncProperty(calmBatchTrace, async (trace) => {
      const time = { now: 1000 };
      const now = (): number => time.now;
      const [one, other] = [SCRIPT, GENERAL].map((script, i) => new Plain(client, script, `${i}:`, now));
      const both: Backend = {
        async take(batch) {
          const answer = await one.take(batch);
          expect(await one.state()).toEqual(await other.state());
          if (batch.steps.every((step) => step.do === 'reserve' || step.do === 'settle')) usual++;
          return answer;
        },
        close() {},
      };
      await runBatches(other, both, trace, time);
      await client.flushall();
    }),
    { numRuns: Number(process.env.RUNS ?? 150) },
  );
  expect(usual).toBeGreaterThan(1000);
}, 600_000);
