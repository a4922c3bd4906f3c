import { listed } from './constants.ts';

/** In the body of a function with a step, and the units it costs. */
export const SPENDING: string = `
  -- Of each rate that counts: its place, what it may be ahead, what one permit spends of it, and a hair of its window.
  local applies, rates = step.applies, P.rates
  local nRates, rateAt, ahead, spent, hair = 0, {}, {}, {}, {}
  for i = 1, #rates do
    if not tats[i] then tats[i], spentAts[i], refunds[i] = NEVER, NEVER, 0 end
    if not applies or applies[i] ~= false then
      local rate = rates[i]
      local each = rate[2] / (rate[1] - rate[3] + 1)
      nRates = nRates + 1
      rateAt[nRates], ahead[nRates], spent[nRates], hair[nRates] = i, (rate[3] - units) * each, units * each, 1e-9 * rate[2]
    end
  end
`;

/** Permits for egresses that nothing is wrong with. */
export const HOT_RESERVE: string = `
local endsIn, endsText = huge, 'null' -- of the latest route: those that were offered together end together

-- A grant as JSON, in one piece: what a string costs is its making.
local function grantText(digit, key, inMs, id, session, endsAt, trial, plain)
  if endsAt ~= endsIn then endsIn, endsText = endsAt, endsAt ~= huge and num(endsAt - now) or 'null' end
  local last = trial and ',true]' or ',false]'
  local starts = inMs == 0 and '0' or num(inMs)
  if plain and session then
    return digit .. ',"' .. key .. '",' .. starts .. ',"' .. id .. '","' .. session .. '",' .. endsText .. last
  elseif plain then
    return digit .. ',"' .. key .. '",' .. starts .. ',"' .. id .. '",null,' .. endsText .. last
  end
  return digit .. ',' .. text(key) .. ',' .. starts .. ',' .. text(id) .. ',' .. (session and text(session) or 'null') .. ',' ..
    endsText .. last
end

-- The head of the lane: egresses that have been usable for a while, one permit each, as many as are wanted; fewer than the least
-- are not worth a look. Returns how many there were; what is to be kept of each is in records. Lua takes its time for every
-- single thing, so what can be is done before the loop.
function hotReserve(step, most, least, grants, records, deadline, nRates, rateAt, ahead, spent, hair)
  -- What has moved in this batch must be where it belongs.
  if #movedRoutes > 0 then syncLanes() end
  local now, window, pack, unpacked, byte, PLACE = now, window, pack, unpacked, byte, '%d'
  local pool, names = step.pool, step.names
  local score = format(PLACE, floor(now * 1000))
  local keys = call('ZRANGEBYSCORE', LANE .. pool, '-inf', '(' .. score, 'LIMIT', 0, min(most, CHUNK))
  local taken = #keys
  if taken < least then return 0 end

  -- Rates: mostly there is room for all, with more to spare than sums can be off by.
  local roomy, arrived, refund, marks = true, {}, {}, {}
  for i = 1, #P.rates do marks[i] = NEVER end
  for k = 1, nRates do
    local tat = tats[rateAt[k]]
    if tat - ahead[k] - now > hair[k] then return 0 end
    if tat < now then tat = now end
    if tat + taken * spent[k] - ahead[k] - now > -1 then roomy = false end
    arrived[k], refund[k] = tat, refunds[rateAt[k]]
  end
  local layout, few = PARTS .. string.rep('d', #marks), #marks <= 2

  local raws = call('HMGET', EGRESSES, unpack(keys))
  -- Nothing that a batch has seen before: then there is nothing to look up.
  local fresh = not next(cache) and not next(hotRaw)
  local slots, ticket = limit, circuit and K and circuit.epoch or 0
  local budgeted = slots ~= huge
  local terms, byCall = pack(TERMS, step.cost, now, deadline, 0, #pool, pool), #names > 1 and BY_CALL or 0
  local held, hold -- the latest flags, and what they come to
  local leads = taken > 16 and ${listed((i) => (i === 0 ? `'[0,"'` : `',[${i},"'`))} or {}
  local tail -- how a grant ends
  local moves, g = {}, #granted
  for i = 1, taken do
    local key, raw = keys[i], raws[i]
    if not fresh then
      raw = hotRaw[key] or raw
      if cache[key] ~= nil then raw = false end
    end
    local open = raw and byte(raw) == 1
    if not roomy and i > 1 then
      for k = 1, nRates do
        if arrived[k] - ahead[k] - now > hair[k] then open = false end
      end
    end
    if not open then
      taken = i - 1
      break
    end
    local _, busy, weight, all, outcomes, ejection, spaced, cooldown, flags, w, endsAt, its, id, session = unpacked(SIMPLE, raw)
    if its ~= pool or ejection >= OUTSIDE or endsAt <= now or spaced > now or cooldown > now or flags % 2 == TRIAL then
      taken = i - 1
      break
    end
    local n, from, place = all, 0, score
    if all > 0 then n, from = cooling(raw, all) end
    if budgeted and weight > 0 then
      local over = busy + n - slots * weight
      if over >= -1 then
        if over >= 0 then
          taken = i - 1
          break
        end
        place = n > 0 and format(PLACE, floor((unpacked('<d', raw, from) + window) * 1000)) or '+inf'
      end
    end
    for k = 1, nRates do
      local tat = arrived[k] + spent[k]
      arrived[k] = tat
      marks[rateAt[k]] = tat + refund[k]
    end
    local own = flags + 8 * w
    if own ~= held then
      held = own
      hold = pack(HOLD, byCall + (flags % 4 >= WITH_SESSION and SESSION or 0) + (w == 1 and SINGLE or 0), 1, ticket)
    end
    local j = i + i
    local name, first, lead = names[i], j - 1, leads[i] or (i > 1 and ',[' or '[') .. format(PLACE, i - 1) .. ',"'
    granted[g + first] = name
    granted[g + j] = few and pack(layout, hold, #key, key, #id, id, terms, spaced, marks[1], marks[2]) or
      pack(layout, hold, #key, key, #id, id, terms, spaced, unpack(marks))
    records[first] = key
    records[j] = pack(ENCODED, 1, busy + 1, weight, n, outcomes, ejection, now, cooldown,
      n == all and sub(raw, MIDDLE) or kept(raw, all, n, from))
    moves[first], moves[j] = place, key
    if endsAt ~= endsIn or not tail then
      if endsAt ~= endsIn then endsIn, endsText = endsAt, endsAt ~= huge and num(endsAt - now) or 'null' end
      tail = endsText .. ',false]'
    end
    if flags >= PLAIN + WITH_SESSION then
      grants[i + 1] = lead .. key .. '",0,"' .. id .. '","' .. session .. '",' .. tail
    elseif flags >= PLAIN then
      grants[i + 1] = lead .. key .. '",0,"' .. id .. '",null,' .. tail
    else
      local digit = (i > 1 and ',[' or '[') .. format(PLACE, i - 1)
      grants[i + 1] = grantText(digit, key, 0, id, flags >= WITH_SESSION and session or nil, endsAt, false)
    end
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
