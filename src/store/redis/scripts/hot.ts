/**
 * The usual cases of reserve and settle, straight from record to record: an egress that one pool leads to and nothing is
 * wrong with. They decide what the general way decides, without a table for each egress and route: those cost more than
 * all that is asked of Redis. What is not usual is left to the general way, which finds their records in hotRaw.
 */
export const HOT: string = `
-- The stamps that are still cooling: how many, and where they begin.
local function cooling(raw, n)
  local size = #raw + 1
  local from = size - 8 * n
  if n == 0 or unpacked('<d', raw, from) + window > now then return n, from end
  if unpacked('<d', raw, size - 8) + window <= now then return 0, size end
  repeat n, from = n - 1, from + 8 until unpacked('<d', raw, from) + window > now
  return n, from
end

-- What stays as it is, but for the stamps in front of that place.
local function kept(raw, all, n, from)
  if n == all then return sub(raw, MIDDLE) end
  return sub(raw, MIDDLE, #raw - 8 * all) .. sub(raw, from)
end
`;

export const HOT_RESERVE: string = `
-- The head of the lane: egresses that have been usable for a while, one permit each, as many as are wanted. Returns how many
-- there were.
local function hotReserve(pool, most, grants, names, digits, units, deadline, layout, nRates, rateAt, ahead, spent, hair, marks)
  -- What has moved in this batch must be where it belongs.
  if #movedRoutes > 0 then syncLanes() end
  local nowKey = floor(now * 1000)
  local keys = call('ZRANGEBYSCORE', LANE .. pool, '-inf', '(' .. format('%d', nowKey), 'LIMIT', 0, min(most, CHUNK))
  if #keys == 0 then return 0 end
  local raws = call('HMGET', EGRESSES, unpack(keys))
  local terms, byCall = pack(TERMS, units, now, deadline, 0), #names > 1 and BY_CALL or 0
  local ticket = circuit and K and circuit.epoch or 0
  local poolLength, budgeted = #pool, limit ~= huge
  -- Nothing that a batch has seen before: then there is nothing to look up.
  local fresh = not next(cache) and not next(hotRaw)
  local moves, g, arrived, refund = {}, #granted, {}, {}
  for k = 1, nRates do arrived[k], refund[k] = tats[rateAt[k]], refunds[rateAt[k]] end
  local taken = #keys
  for i = 1, taken do
    local key, raw = keys[i], raws[i]
    if not fresh then
      raw = hotRaw[key] or raw
      if cache[key] ~= nil then raw = false end
    end
    local open = raw and byte(raw) == 1
    for k = 1, nRates do
      if arrived[k] - ahead[k] - now > hair[k] then open = false end
    end
    local _, busy, weight, all, outcomes, ejection, spaced, cooldown, flags, w, endsAt, its, id, session
    if open then
      _, busy, weight, all, outcomes, ejection, spaced, cooldown, flags, w, endsAt, its, id, session = unpacked(SIMPLE, raw)
    end
    if not open or its ~= pool or ejection >= OUTSIDE or endsAt <= now or spaced > now or cooldown > now or flags % 2 == TRIAL then
      taken = i - 1
      break
    end
    local n, from, place = all, 0, nowKey
    if all > 0 then n, from = cooling(raw, all) end
    if budgeted and weight > 0 then
      local over = busy + n - limit * weight
      if over >= 0 then
        taken = i - 1
        break
      end
      if over == -1 then place = n > 0 and floor((unpacked('<d', raw, from) + window) * 1000) or huge end
    end
    for k = 1, nRates do
      local tat = arrived[k]
      if tat < now then tat = now end
      tat = tat + spent[k]
      arrived[k] = tat
      marks[rateAt[k]] = tat + refund[k]
    end
    local hold = byCall
    if flags % 4 >= WITH_SESSION then hold = hold + SESSION else session = nil end
    if w == 1 then hold = hold + SINGLE end
    local name = names[i]
    granted[g + 1] = name
    granted[g + 2] = pack(layout, hold, 1, ticket, #key, key, poolLength, pool, #id, id, terms, spaced, unpack(marks))
    g = g + 2
    hotRaw[key] = pack(ENCODED, 1, busy + 1, weight, n, outcomes, ejection, now, cooldown,
      n == all and sub(raw, MIDDLE) or kept(raw, all, n, from))
    moves[2 * i - 1], moves[2 * i] = place, key
    grants[2 * i] = i > 1 and ',[' or '['
    grants[2 * i + 1] = grantText(digits[i], key, 0, id, session, endsAt, false, flags >= PLAIN)
  end
  if taken == 0 then return 0 end
  if byCall == 0 then
    local m = #ends
    ends[m + 1], ends[m + 2] = micros(deadline), names[1]
  end
  newPlaces[pool] = moves
  for k = 1, nRates do
    local at = rateAt[k]
    tats[at], spentAts[at] = arrived[k], max(spentAts[at], now)
  end
  return taken
end
`;

export const HOT_SETTLE: string = `
-- All went well, and nothing else is to be said. Returns whether that was all.
local function hotSettle(id, byCall, cost, ticket, key, raw, verdicts)
  if byte(raw) ~= 1 then return false end
  local _, busy, weight, all, outcomes, ejection, spaced, cooldown, flags, _, _, pool = unpacked(TO_POOL, raw)
  if flags % 2 == TRIAL or (H and ejection ~= 0) or (all > 0 and unpacked('<d', raw, #raw - 7) > now) then return false end
  local n, from = cooling(raw, all)
  local rest, at = kept(raw, all, n, from), spaced > cooldown and spaced or cooldown
  local moved = false -- as long as it has had a free slot it is where it was
  busy = busy - cost
  if limit ~= huge and weight > 0 then
    moved = busy + cost + all >= limit * weight
    local index = busy + n + cost - limit * weight
    if index >= n + cost then
      at = huge
    elseif index >= 0 then
      local since = index < n and unpacked('<d', raw, from + 8 * index) or now
      if since + window > at then at = since + window end
    end
    rest = rest .. string.rep(nowStamp, cost)
    n = n + cost
  end
  if H then
    local samples = floor(outcomes / 67108864)
    if samples < 20 then samples = samples + 1 end
    outcomes = samples * 67108864 + (outcomes % 524288) * 2 + 1
  end
  if K then done(ticket, 'ok', 0) end
  if P.adaptConcurrency then grow(nil, verdicts) end
  hotRaw[key] = pack(ENCODED, 1, busy, weight, n, outcomes, ejection, spaced, cooldown, rest)
  if moved then move(pool, floor(at * 1000), key) end
  if now + window > quietAt then quietAt = now + window end
  permits[id] = false
  over[#over + 1] = id
  if not byCall then ended[#ended + 1] = id end
  active = active - 1
  return true
end
`;
