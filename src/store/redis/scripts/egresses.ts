/**
 * One egress at the target: slots by the slot rule, spacing, cooldown, health. Each record is unpacked once a batch and
 * written once; the stamps of cooling slots, of which there may be thousands, stay packed as long as they are in order.
 */
export const EGRESSES: string = `
local stale = {} -- egresses whose places in the lanes are to be worked out anew

-- An egress in memory has 16 fields: with one more its table is twice as large, and memory is what most time goes to.
--   packed, raw: so many of the n stamps are still packed, at the end of raw; tail: the others, in a list
--   thawed: whether those that are over have been taken off
--   same: where the stamps begin in raw, as long as what is in front of them is as it was; else false
--   noted: 1 it is to be written, 2 its places in the lanes are to be worked out anew, too
local NONE = { probe = '', quotaSpacing = 0, quotaUntil = NEVER }

-- What few egresses have, to be changed.
local function extrasOf(e)
  local extras = e.extras
  if extras == NONE then
    extras = { probe = '', quotaSpacing = 0, quotaUntil = NEVER }
    e.extras = extras
  end
  e.same = false
  return extras
end

local function addRoute(e, flags, weight, endsAt, pool, id, session)
  e.routes[pool] = {
    e = e, pool = pool, id = id, session = flags % 4 >= WITH_SESSION and session, endsAt = endsAt, weight = weight,
    trial = flags % 2 == TRIAL, plain = flags >= PLAIN, key = false, moved = false,
  }
end

local function decoded(key, raw)
  local kind, busy, weight, n, outcomes, ejection, spaced, cooldown, at, w, endsAt, pool, id, session, to
  if byte(raw) == 1 then
    kind, busy, weight, n, outcomes, ejection, spaced, cooldown, at, w, endsAt, pool, id, session, to = unpacked(SIMPLE, raw)
  else
    kind, busy, weight, n, outcomes, ejection, spaced, cooldown = unpacked(HEAD, raw)
  end
  local e = {
    key = key, busy = busy, weight = weight, outcomes = outcomes, ejection = ejection, spaced = spaced, cooldown = cooldown,
    n = n, packed = n, raw = raw, tail = false, thawed = false, same = to, extras = NONE, routes = {}, noted = 0,
  }
  if kind == 1 then
    addRoute(e, at, w, endsAt, pool, id, session)
  else
    local probe, quotaSpacing, quotaUntil, routes
    probe, quotaSpacing, quotaUntil, routes, to = unpacked(EXTRAS, raw, MIDDLE)
    e.extras = { probe = probe, quotaSpacing = quotaSpacing, quotaUntil = quotaUntil }
    for _ = 1, routes do
      at, w, endsAt, pool, id, session, to = unpacked(ROUTE, raw, to)
      addRoute(e, at, w, endsAt, pool, id, session)
    end
    e.same = to
  end
  cache[key] = e
  return e
end

local function save(e)
  if e.noted == 0 then
    e.noted = 1
    dirty[#dirty + 1] = e
  end
end

-- From now on it is like all others.
local function warm(key)
  local e = decoded(key, hotRaw[key])
  hotRaw[key] = nil
  save(e)
  return e
end

local function find(key)
  local e = cache[key]
  if e == nil then
    if hotRaw[key] then return warm(key) end
    local raw = call('HGET', EGRESSES, key)
    if raw then return decoded(key, raw) end
    cache[key] = false
    return false
  end
  return e
end

local function findAll(keys)
  local asked, wanted = {}, {}
  for i = 1, #keys do
    local key = keys[i]
    if cache[key] ~= nil then
    elseif hotRaw[key] then
      warm(key)
    elseif not asked[key] then
      asked[key] = true
      wanted[#wanted + 1] = key
    end
  end
  for i = 1, #wanted, CHUNK do
    local raws = call('HMGET', EGRESSES, unpack(wanted, i, min(i + CHUNK - 1, #wanted)))
    for k = 1, #raws do
      if raws[k] then decoded(wanted[i + k - 1], raws[k]) else cache[wanted[i + k - 1]] = false end
    end
  end
end

local function rekeyLater(e)
  save(e)
  if e.noted == 1 then
    e.noted = 2
    stale[#stale + 1] = e
  end
end

local function egressFor(key, weight)
  local e = find(key)
  if e then return e end
  e = {
    key = key, busy = 0, weight = weight, outcomes = 0, ejection = 0, spaced = NEVER, cooldown = NEVER, n = 0, packed = 0,
    raw = '', tail = false, thawed = true, same = false, extras = NONE, routes = {}, noted = 0,
  }
  cache[key] = e
  egressCount = egressCount + 1
  save(e)
  return e
end

-- The i-th of the packed stamps, from 0 on.
local function stampAt(e, i) return (unpacked('<d', e.raw, #e.raw + 1 + 8 * (i - e.packed))) end

-- Frees the slots whose window is over.
local function thaw(e)
  if e.thawed then return end
  e.thawed = true
  while e.packed > 0 do
    if stampAt(e, 0) + window > now then return end
    e.packed, e.n = e.packed - 1, e.n - 1
  end
  local tail, over = e.tail, 0
  if not tail then return end
  while over < #tail and tail[over + 1] + window <= now do over = over + 1 end
  if over == 0 then return end
  local left = {}
  for i = over + 1, #tail do left[i - over] = tail[i] end
  e.tail, e.n = left, e.n - over
end

local stamp
if known then
-- So many slots cool from that time on, be it that more of them do than there are.
function stamp(e, limit, at, count)
  if limit == huge or e.weight == 0 then return end
  local tail = e.tail
  if not tail then
    tail = {}
    e.tail = tail
  end
  local to, latest = #tail, NEVER
  if to > 0 then latest = tail[to] elseif e.packed > 0 then latest = stampAt(e, e.packed - 1) end
  if latest <= at then
    for i = to + 1, to + count do tail[i] = at end
  else
    -- Only a grace period (an aborted send) puts one behind later ones.
    local all = {}
    for i = 0, e.packed - 1 do all[i + 1] = stampAt(e, i) end
    for i = 1, to do all[#all + 1] = tail[i] end
    local place = #all
    while place > 0 and all[place] > at do place = place - 1 end
    for _ = 1, count do table.insert(all, place + 1, at) end
    e.tail, e.packed = all, 0
  end
  e.n = e.n + count
  if at + window <= now then e.thawed = false end
end
end

-- The earliest time it has so many slots: their releases, spacing and cooldown; huge when only a settle can tell.
local function slotsAt(e, limit, cost)
  local at = e.spaced
  if e.cooldown > at then at = e.cooldown end
  if limit == huge or e.weight == 0 then return at end
  if not e.thawed then thaw(e) end
  local n = e.n
  local over = e.busy + n - limit * e.weight + cost - 1
  if over < 0 then return at end
  if over >= n then return huge end
  local since
  if over < e.packed then since = stampAt(e, over) else since = e.tail[1 + over - e.packed] end
  since = since + window
  if since > at then return since end
  return at
end

-- The stamps of the tail as they are kept, behind what is to be in front of them; and all of them.
local function tailed(e, front)
  local tail = e.tail
  if not tail then return front end
  local last = #tail
  if last == 1 then return front .. pack('<d', tail[1]) end
  for i = 1, last, 100 do
    local to = min(i + 99, last)
    front = front .. pack('<' .. string.rep('d', to - i + 1), unpack(tail, i, to))
  end
  return front
end

local function ring(e, front)
  if e.packed > 0 then front = front .. sub(e.raw, #e.raw + 1 - 8 * e.packed) end
  return tailed(e, front)
end

local function idle(e)
  thaw(e)
  return e.busy == 0 and e.n == 0 and e.spaced <= now and e.cooldown <= now
end

local function cooldown(e, till)
  if till > e.cooldown then e.cooldown = till end
end

local function isPlain(s) return not string.find(s, '[%c"\\\\]') end

local function routePlain(route)
  return isPlain(route.e.key) and isPlain(route.id) and (not route.session or isPlain(route.session))
end

-- What is between head and stamps, and the kind of the record.
local function middle(e)
  local all, routes = '', 0
  for pool, route in pairs(e.routes) do
    local session = route.session or ''
    routes = routes + 1
    local flags = (route.trial and TRIAL or 0) + (route.session and WITH_SESSION or 0) + (routePlain(route) and PLAIN or 0)
    all = all .. pack(ROUTE, flags, route.weight, route.endsAt, #pool, pool, #route.id, route.id, #session, session)
  end
  local extras = e.extras
  if routes == 1 and extras.probe == '' and extras.quotaUntil == NEVER then return 1, all end
  return 0, pack(EXTRAS, #extras.probe, extras.probe, extras.quotaSpacing, extras.quotaUntil, routes) .. all
end

local function encoded(e)
  local raw, kind, rest = e.raw, nil, nil
  if not e.same then
    kind, rest = middle(e)
    rest = ring(e, rest)
  elseif e.same + 8 * e.packed > #raw then
    kind, rest = byte(raw), tailed(e, sub(raw, MIDDLE))
  else
    kind, rest = byte(raw), ring(e, sub(raw, MIDDLE, e.same - 1))
  end
  return pack(ENCODED, kind, e.busy, e.weight, e.n, e.outcomes, e.ejection, e.spaced, e.cooldown, rest)
end
`;
