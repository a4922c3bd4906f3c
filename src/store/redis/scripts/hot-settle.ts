/** Reports of requests that went well. */
export const HOT_SETTLE: string = `
local nowStamp = pack('<d', now)
local TARGET -- its name as JSON, when a verdict needs it

local function verdict(verdicts, kind, rest)
  TARGET = TARGET or text(batch.target)
  verdicts[#verdicts + 1] = '{"kind":"' .. kind .. '","target":' .. TARGET .. rest .. '}'
end

local function morePlaces(verdicts)
  places = places or { limit = P.adaptConcurrency.start, cutAt = NEVER, cleanSince = now, peak = 0 }
  if aimdOk(places, P.adaptConcurrency, active) then verdict(verdicts, 'concurrency', ',"limit":' .. num(concurrency())) end
end

-- From that report on, those that went well with nothing else to be said. Returns the first that is not such a one.
function hotSettle(reports, first, flags, costs, tickets, keys, raws, verdicts)
  -- A circuit that is closed and has seen no failure of late stays so when a request ends well.
  if budget or (K and circuit and (circuit.phase ~= 0 or circuit.failures > 0)) then return first end
  local now, window, most, unpacked, pack, byte = now, window, limit, unpacked, pack, byte
  local adapts, budgeted = P.adaptConcurrency, most ~= huge
  local at, calls, m, k = first, 0, #over, #ended
  while reports[at] do
    local id, key, cost = reports[at], keys[at], costs[at]
    local raw = cost and permits[id] and cache[key] == nil and (hotRaw[key] or raws[at])
    if not raw or byte(raw) ~= 1 then break end
    local _, busy, weight, all, outcomes, ejection, spaced, cooldown, of, _, _, pool = unpacked(TO_POOL, raw)
    if of % 2 == TRIAL or (H and ejection ~= 0) then break end
    local n, from = all, 0
    if all > 0 then
      local latest = unpacked('<d', raw, #raw - 7)
      if latest > now then break end
      if all > 1 or latest + window <= now then n, from = cooling(raw, all) else from = #raw - 7 end
    end
    local rest = n == all and sub(raw, MIDDLE) or kept(raw, all, n, from)
    local moved = false -- as long as it has had a free slot it is where it was
    busy = busy - cost
    if budgeted and weight > 0 then
      local slots = most * weight
      moved = busy + cost + all >= slots
      local index, since = busy + n + cost - slots, spaced > cooldown and spaced or cooldown
      if moved then
        if index >= n + cost then
          since = huge
        elseif index >= 0 then
          local release = (index < n and unpacked('<d', raw, from + 8 * index) or now) + window
          if release > since then since = release end
        end
        move(pool, floor(since * 1000), key)
      end
      rest = rest .. (cost == 1 and nowStamp or string.rep(nowStamp, cost))
      n = n + cost
    end
    if H then
      local samples = floor(outcomes / 67108864)
      if samples < 20 then samples = samples + 1 end
      outcomes = samples * 67108864 + (outcomes % 524288) * 2 + 1
    end
    if K then
      makeCircuit()
      if tickets[at] == circuit.epoch then calls = calls + 1 end
    end
    -- In one moment only the first two can make a difference: others are in flight with fewer.
    if adapts and at < first + 2 then morePlaces(verdicts) end
    active = active - 1
    hotRaw[key] = pack(ENCODED, 1, busy, weight, n, outcomes, ejection, spaced, cooldown, rest)
    permits[id] = false
    m = m + 1
    over[m] = id
    if flags[at] < BY_CALL then
      k = k + 1
      ended[k] = id
    end
    at = at + 1
  end
  if at > first and now + window > quietAt then quietAt = now + window end
  if calls > 0 then
    countCalls(calls, false)
    circuit.calls = circuit.calls + calls
  end
  return at
end

-- What the usual ones hold: flags, cost, ticket and egress; the records of those egresses; the egresses of the others.
function read(reports, usual)
  local held, costs, tickets, keys, raws, others = {}, {}, {}, {}, {}, {}
  for i = 1, #reports do
    local report = reports[i]
    local plain = usual or type(report) == 'string'
    local record = permits[plain and report or report.permit]
    held[i], costs[i], tickets[i], keys[i] = false, false, false, ''
    if record and (usual or type(record) == 'string') and #record > 8 then
      local flags, cost, ticket, key = unpacked(HOLDS, record)
      if plain and flags % BY_CALL < ACCOUNT and cache[key] == nil then
        held[i], costs[i], tickets[i], keys[i] = flags, cost, ticket, key
      else
        others[#others + 1] = key
      end
    end
  end
  for i = 1, #keys, CHUNK do
    local some = call('HMGET', EGRESSES, unpack(keys, i, min(i + CHUNK - 1, #keys)))
    for k = 1, #some do raws[i + k - 1] = some[k] end
  end
  return held, costs, tickets, keys, raws, others
end
`;
