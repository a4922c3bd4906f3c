import { COUNTS } from './gate.ts';
import { HOT } from './hot.ts';
import { HOT_RESERVE, SPENDING } from './hot-reserve.ts';
import { HOT_SETTLE } from './hot-settle.ts';
import { RECORDS } from './records.ts';
import { WRITE } from './write.ts';

/**
 * Most batches: requests that all are given permits at once, and others that all went well. These need a few functions only, and
 * making those for everything else takes several times as long as deciding. So they come first; what they use is made again for
 * the batches that turn out to be of another kind.
 */
export const USUAL: string = `
local function isUsual()
  if fresh or setBack or #lost > 0 or account or P.account or budget then return false end
  if circuit and (circuit.phase ~= 0 or circuit.failures > 0) then return false end
  if does.reserve and (restUntil > now or quotaUntil > now or P.spacingMs ~= 0) then return false end
  if does.reserve and (limit ~= (P.limit or huge) or window ~= P.windowMs or healthPolicy ~= (H and H.all or nil)) then return false end
  for i = 1, #steps do
    local step = steps[i]
    local kind = step['do']
    if kind == 'reserve' then
      if step.cost > 1 or step.count < 1 or step.pin then return false end
      -- Where fewer are usable than are wanted, which is every look in vain, the general way has to say for how long.
      local nowKey = format('%d', floor(now * 1000))
      local last = call('ZRANGEBYSCORE', LANE .. step.pool, '-inf', '(' .. nowKey, 'LIMIT', step.count - 1, 1)
      if #last == 0 then return false end
    elseif kind == 'settle' then
      for k = 1, #step.reports do
        if type(step.reports[k]) ~= 'string' then return false end
      end
    else
      return false
    end
  end
  return true
end

-- Returns the answer; nothing when there is more to it. Then it has written nothing but the places that settles have led to, and will again.
local function usual()
${RECORDS}
${COUNTS}
${HOT}
local hotReserve, hotSettle, read
if does.reserve then
${HOT_RESERVE}
end
if does.settle then
${HOT_SETTLE}
end

local puts = {}
local function reserve(step)
  local count, units = step.count, step.cost
  if made[step.id] or nameAll(step) or concurrency() - active < count then return end
  if next(newPlaces) then
    -- After another reserve there would be no way back.
    if next(made) then return end
    writePlaces()
  end
${SPENDING}
  made[step.id] = true
  local grants, records = { '{"grants":[' }, #steps == 1 and puts or {}
  local deadline = now + step.deadlineMs
  local n = hotReserve(step, count, count, grants, records, deadline, nRates, rateAt, ahead, spent, hair)
  if n < count then return end
  active = active + n
  quietFrom(deadline + window)
  if n > 1 then
    local m = #ends
    ends[m + 1], ends[m + 2] = micros(deadline), step.name
  end
  if records ~= puts then
    for i = 1, 2 * n, 2 do hotRaw[records[i]] = records[i + 1] end
  end
  grants[n + 2] = '],"taken":0,"wants":false}'
  return grants
end

local function settle(step)
  local verdicts, reports = {}, step.reports
  readPermits(reports)
  local flags, costs, tickets, keys, raws = read(reports, true)
  if hotSettle(reports, 1, flags, costs, tickets, keys, raws, verdicts) <= #reports then return end
  return { '[' .. concat(verdicts, ',') .. ']' }
end

-- Now and then some egresses are looked at whether they may be forgotten. Mostly a route leads to them.
local function allLed(some)
  local keys = call('HRANDFIELD', EGRESSES, some)
  local raws = call('HMGET', EGRESSES, unpack(keys))
  for i = 1, #raws do
    local raw = raws[i]
    if byte(raw) ~= 1 then return false end
    local _, endsAt = unpacked('<Bxxxxd', raw, MIDDLE)
    if endsAt <= now then return false end
  end
  return true
end

local function all()
  local answers, sweeps = {}, 0
  for i = 1, #steps do
    local step, answer = steps[i], nil
    if step['do'] == 'reserve' then
      answer = reserve(step)
      if taken % 4 == 3 then sweeps = sweeps + 2 end
    else
      answer = settle(step)
    end
    if not answer then return end
    if #steps == 1 then
      answers = answer
    else
      if i > 1 then answers[#answers + 1] = ',' end
      local n = #answers
      for k = 1, #answer do answers[n + k] = answer[k] end
    end
  end
  if sweeps > 0 and not allLed(sweeps) then return end
  return answers
end

local answers = all()
if not answers then
  -- What has moved of the target's state is read once more.
  local was = { cmsgpack.unpack(raw) }
  active, quietAt, tats, spentAts, refunds, places, circuit = was[12], was[14], was[20], was[21], was[22], was[25], was[26]
  return
end
taken = taken + 1
writePlaces()
local kept
${WRITE}
end

local answer = isUsual() and usual()
if answer then return answer end
`;
