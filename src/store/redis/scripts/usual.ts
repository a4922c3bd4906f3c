import { COUNTS } from './gate.ts';
import { HOT, HOT_RESERVE, HOT_SETTLE, SPENDING } from './hot.ts';
import { RECORDS } from './records.ts';
import { WRITE } from './write.ts';

/**
 * Most batches: requests that all are given permits at once, and others that all went well. These need a few functions only, and
 * making those for everything else takes several times as long as deciding. It comes before them, therefore; what it uses is made
 * again for those batches that turn out to be of another kind.
 */
export const USUAL: string = `
-- Returns the answer; nothing, and has changed nothing, when there is more to it.
local function usual()
  if fresh or setBack or #lost > 0 or account or P.account or budget then return end
  if circuit and (circuit.phase ~= 0 or circuit.failures > 0) then return end
  local reports = 0
  for i = 1, #steps do
    local step = steps[i]
    if step['do'] == 'reserve' then
      if step.cost > 1 or step.pin or P.spacingMs ~= 0 or limit ~= (P.limit or huge) or window ~= P.windowMs or healthPolicy ~= (H and H.all or nil) then
        return
      end
    elseif step['do'] == 'settle' then
      for k = 1, #step.reports do
        if type(step.reports[k]) ~= 'string' then return end
      end
      reports = reports + #step.reports
    else
      return
    end
  end
  if does.reserve and (restUntil > now or quotaUntil > now) then return end

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
  if made[step.id] or nameAll(step) or next(newPlaces) or concurrency() - active < count then return end
${SPENDING}
  made[step.id] = true
  local grants, records = { '{"grants":[' }, #steps == 1 and puts or {}
  local deadline = now + step.deadlineMs
  local n = hotReserve(step, count, grants, records, deadline, nRates, rateAt, ahead, spent, hair)
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
      local step = steps[i]
      local answer
      if step['do'] == 'reserve' then
        answer = reserve(step)
        sweeps = sweeps + (taken % 4 == 3 and 2 or 0)
      else
        readPermits(step.reports)
        answer = settle(step)
      end
      if not answer then return end
      if #steps == 1 then
        answers = answer
        break
      end
      if i > 1 then answers[#answers + 1] = ',' end
      local n = #answers
      for k = 1, #answer do answers[n + k] = answer[k] end
    end
    if sweeps > 0 and not allLed(sweeps) then return end
    return answers
  end
  local answers = all()
  if not answers then
    -- What it has moved in the state of the target is read again.
    local was = { cmsgpack.unpack(raw) }
    active, quietAt, tats, spentAts, refunds, places, circuit = was[12], was[14], was[20], was[21], was[22], was[25], was[26]
    return
  end
  taken = taken + 1
  local kept
  writePlaces()
${WRITE}
end

local answer = usual()
if answer then return answer end
`;
