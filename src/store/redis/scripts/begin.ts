/**
 * What the script is given, and the state of the target as a whole.
 *
 * All reads come before all writes, but for what is done in chunks: an error (memory, a replica, a key of another type)
 * strikes at the first write at the latest, when nothing has changed yet.
 */
export const BEGIN: string = String.raw`
-- KEYS[1] gate       string  the target as a whole: rests, rates, circuit, what adapts (msgpack)
-- KEYS[2] egresses   hash    egress key -> its slots, health, and the routes that lead to it (packed, see constants.ts)
-- KEYS[3] permits    hash    permit id -> what it holds (packed, see constants.ts)
-- KEYS[4] until      zset    permit id by the time it ends by itself, in whole microseconds; or for many at once their call and its count
-- KEYS[5] out        set     egresses that are out for bad health
-- ARGV[1] the time in milliseconds; '' for the server's own, as always but in tests
-- ARGV[2] the batch as JSON
-- There is also a key for each lane: a zset, one a pool, of egress keys by the time they are usable, in whole microseconds (a small zset
-- compares integers twenty times as fast as fractions). Which pools there are only the state knows, so these keys cannot be given beforehand. That is safe in a Cluster, too: they begin like the
-- others, with the same {hash tag}, so they are in the same slot, which a node has, and moves, as a whole.
-- Returns the answer as JSON: cjson keeps 14 digits of a number, so it is put together by hand with 17.
local call = redis.call
local floor, ceil, huge = math.floor, math.ceil, math.huge
local format, sub, byte, concat = string.format, string.sub, string.byte, table.concat
local pack, unpacked = struct.pack, struct.unpack
local text = cjson.encode
local GATE, EGRESSES, PERMITS, UNTIL, OUT = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local LANE = sub(GATE, 1, -5) .. 'lane:' -- the first key ends in 'gate'

local batch = cjson.decode(ARGV[2])
local P, steps = batch.policy, batch.steps
local H = P.health
-- Functions are made anew in every call: those of steps that do not come are not.
local does = {}
for i = 1, #steps do does[steps[i]['do']] = true end

local function max(a, b) if a > b then return a end return b end
local function min(a, b) if a < b then return a end return b end

local function num(x)
  if x == floor(x) and x < 1e15 and x > -1e15 then return format('%d', x) end
  return format('%.17g', x)
end

local function bulk(command, key, list)
  local n = #list
  for i = 1, n, CHUNK do call(command, key, unpack(list, i, min(i + CHUNK - 1, n))) end
end

-- Lua finds a local for a new closure by going through all that closures use already, the latest first; what an enclosing
-- function has as its own upvalue it finds at once. So the script is three functions deep: with all in one, the making of
-- its functions took most of a small batch's time. (A function has 60 upvalues at most.)
return (function()
local time
if ARGV[1] == '' then
  local t = call('TIME')
  time = t[1] * 1000 + t[2] / 1000
else
  time = tonumber(ARGV[1])
end

-- The gate, field by field.
local born, taken, last, skew -- when it was made; batches; the latest time ever read, and what keeps time from stepping back
local limit, window -- slots of each egress (huge: no budget) and their window, as of the last reserve
local restUntil
local quotaNextAt, quotaSpacing, quotaUntil -- an account's quota
local active, egressCount -- permits and egresses there are
local quietAt, expireAt -- until when anything goes on; when the keys expire
local futile, futileUntil -- blind dials in a row that came to nothing
local failedAt, healthPolicy -- the latter in one string: when it changes all that is out is due at another time
local tats, spentAts, refunds -- of each rate
local refused, budget, places, circuit, account, pools

local raw = redis.pcall('GET', GATE)
if type(raw) == 'table' then return redis.error_reply('WRONGTYPE ' .. GATE) end
local fresh = not raw
local setBack = false
if raw then
  local magic
  if sub(raw, 1, 3) == '\162P2' then
    magic, born, taken, last, skew, limit, window, restUntil, quotaNextAt, quotaSpacing, quotaUntil, active, egressCount,
      quietAt, expireAt, futile, futileUntil, failedAt, healthPolicy, tats, spentAts, refunds, refused, budget, places,
      circuit, account, pools = cmsgpack.unpack(raw)
  end
  if not pools then return redis.error_reply('PACELINE unknown state in ' .. GATE) end
  if limit == 0 then limit = huge end
  -- Redis may have thrown out a part of it for want of memory.
  local permits, egresses = redis.pcall('HLEN', PERMITS), redis.pcall('HLEN', EGRESSES)
  if type(permits) == 'table' then return redis.error_reply('WRONGTYPE ' .. PERMITS) end
  if type(egresses) == 'table' then return redis.error_reply('WRONGTYPE ' .. EGRESSES) end
  if permits ~= active or egresses ~= egressCount then
    for i = 1, #pools do call('DEL', LANE .. pools[i]) end
    fresh, setBack = true, true
  end
end
if fresh then
  -- What is left of a state that is gone means nothing any more.
  call('DEL', GATE, EGRESSES, PERMITS, UNTIL, OUT)
  for i = 1, #steps do
    if steps[i].pool then call('DEL', LANE .. steps[i].pool) end
  end
  born, taken, last, skew = time == 0 and 1 or time, 0, time, 0
  limit, window = (not P.account and P.limit) or huge, P.windowMs
  restUntil, quotaNextAt, quotaSpacing, quotaUntil = NEVER, NEVER, 0, NEVER
  active, egressCount, quietAt, expireAt = 0, 0, NEVER, NEVER
  futile, futileUntil, failedAt, healthPolicy = 0, NEVER, NEVER, false
  tats, spentAts, refunds, pools = {}, {}, {}, {}
  refused, budget, places, circuit, account = nil, nil, nil, nil, nil
end
local permitsBefore, egressesBefore = active, egressCount

local now = time + skew
if now < last then
  skew = skew + (last - now)
  now = last
end
last = now

-- State that has expired because nobody came is no loss: it lives for longer than this.
local seen = batch.seen
if seen.born ~= 0 and seen.agoMs < P.windowMs + 60000 and (seen.born ~= born or taken < seen.steps) then setBack = true end
if setBack then restUntil = max(restUntil, now + P.windowMs) end

local function quietFrom(at)
  if at > quietAt then quietAt = at end
end

local function gateRecord(account)
  return cmsgpack.pack('P2', born, taken, last, skew, limit ~= huge and limit or 0, window, restUntil, quotaNextAt, quotaSpacing,
    quotaUntil, active, egressCount, quietAt, expireAt, futile, futileUntil, failedAt, healthPolicy, tats, spentAts, refunds,
    refused, budget, places, circuit, account, pools)
end

-- Permits that nobody has settled until their deadline.
local lost = redis.pcall('ZRANGEBYSCORE', UNTIL, '-inf', format('%d', ceil(now * 1000)), 'LIMIT', 0, CHUNK)
if lost.err then return redis.error_reply('WRONGTYPE ' .. UNTIL) end
-- Whether permits that are there already are the matter; if not, the functions for them are not made.
local known = #lost > 0 or does.settle or does.bind or does.cancel or does.import or does.renew
`;
