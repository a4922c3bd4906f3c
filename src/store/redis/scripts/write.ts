/** What has changed is written down; the usual and everything else end so. */
export const WRITE: string = `
for key, raw in pairs(hotRaw) do
  local n = #puts
  puts[n + 1], puts[n + 2] = key, raw
end
bulk('HSET', EGRESSES, puts)
bulk('HDEL', EGRESSES, gone)
bulk('HDEL', PERMITS, over)
if active > 0 then
  bulk('ZREM', UNTIL, ended)
  bulk('HSET', PERMITS, granted)
  bulk('ZADD', UNTIL, ends)
elseif #over > 0 then
  -- Calls are there until their time has come, all of whose permits may be over.
  call('UNLINK', UNTIL)
end

-- Every key lives for as long as anything of the target matters, and a minute; that is put off in large steps.
local matters = max(quietAt, max(restUntil, quotaUntil))
for i = 1, #tats do matters = max(matters, tats[i]) end
if circuit and K then matters = max(matters, max(circuit.since, max(failedAt, circuit['until'])) + max(K.windowMs, K.maxOpenMs)) end
if budget then matters = max(matters, max(budget.cutAt, budget.cleanSince) + 10 * window) end
if places then matters = max(matters, max(places.cutAt, places.cleanSince) + 10 * window) end
matters = max(matters, now + window) + 60000
local renewed = expireAt < matters
if renewed then expireAt = matters + (matters - now) end
local left = format('%d', ceil(expireAt - now))
local function lasts(key) return call('PEXPIRE', key, left) end
if renewed or (active > 0 and permitsBefore <= #over) then -- the keys are new, or new again
  lasts(PERMITS)
  lasts(UNTIL)
end
if renewed or egressesBefore == 0 then lasts(EGRESSES) end
if renewed or outTouched then lasts(OUT) end
if renewed then
  local kept = {}
  for i = 1, #pools do
    if lasts(LANE .. pools[i]) == 1 then kept[#kept + 1] = pools[i] end
  end
  pools = kept
elseif joined then
  for pool in pairs(joined) do lasts(LANE .. pool) end
end

local gate = gateRecord(kept)
if renewed then call('SET', GATE, gate, 'PX', left) else call('SET', GATE, gate, 'KEEPTTL') end
table.insert(answers, 1, '{"born":' .. num(born) .. ',"steps":' .. taken .. ',"setBack":' .. tostring(setBack) .. ',"answers":[')
answers[#answers + 1] = ']}'
return concat(answers)
`;
