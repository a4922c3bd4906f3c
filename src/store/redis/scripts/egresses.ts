/**
 * One egress at the target: slots by the slot rule, spacing, cooldown, health. Each record is unpacked once a batch and
 * written once; the stamps of cooling slots, of which there may be thousands, stay packed as long as they are in order.
 */
export const EGRESSES: string = `
-- A record: kind (1 when one route and nothing else comes next), busy, weight (IPs it stands for; 0: no budget of its own),
-- number of stamps, outcomes, ejection (u32 each), spaced, cooldown (f64 each). Then, but for kind 1: probe, quota spacing,
-- quota until, number of routes. Then of each route: flags, weight, end, pool, id, session. At last the stamps since when
-- slots cool, rising (f64 each). What is between head and stamps mostly stays as it is, and is not packed anew.
local HEAD, MIDDLE, ROUTE = '<BI4I4I4I4I4dd', 38, 'BI4dHc0Hc0Hc0'
local SIMPLE, EXTRAS, ENCODED = HEAD .. ROUTE, '<Hc0ddI4', HEAD .. 'c0'
local TRIAL, WITH_SESSION, PLAIN = 1, 2, 4 -- flags of a route; the last: its names are JSON as they are
local cache = {} -- by key: the egress, or false for none
local dirty = {} -- egresses to be written
local gone = {} -- keys to be forgotten
local stale = {} -- egresses whose places in the lanes are to be worked out anew

local function addRoute(e, flags, weight, endsAt, pool, id, session)
  e.routes[pool] = {
    e = e, pool = pool, id = id, session = flags % 4 >= WITH_SESSION and session, endsAt = endsAt, weight = weight,
    trial = flags % 2 == TRIAL, plain = flags >= PLAIN, key = false, moved = false, json = false,
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
    n = n, packed = n, raw = raw, at = to, mid = to, -- so many stamps of all are still packed, from there on
    tail = false, first = 1, last = 0, -- the others
    thawed = false, kind = kind, same = true, probe = '', quotaSpacing = 0, quotaUntil = NEVER, routes = {},
    dirty = false, stale = false, json = false,
  }
  if kind == 1 then
    addRoute(e, at, w, endsAt, pool, id, session)
  else
    local routes
    e.probe, e.quotaSpacing, e.quotaUntil, routes, to = unpacked(EXTRAS, raw, MIDDLE)
    for _ = 1, routes do
      at, w, endsAt, pool, id, session, to = unpacked('<' .. ROUTE, raw, to)
      addRoute(e, at, w, endsAt, pool, id, session)
    end
    e.at, e.mid = to, to
  end
  cache[key] = e
  return e
end

local function find(key)
  local e = cache[key]
  if e == nil then
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
    if cache[key] == nil and not asked[key] then
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

local function save(e)
  if not e.dirty then
    e.dirty = true
    dirty[#dirty + 1] = e
  end
end

local function rekeyLater(e)
  save(e)
  if not e.stale then
    e.stale = true
    stale[#stale + 1] = e
  end
end

local function egressFor(key, weight)
  local e = find(key)
  if e then return e end
  e = {
    key = key, busy = 0, weight = weight, outcomes = 0, ejection = 0, spaced = NEVER, cooldown = NEVER, n = 0, packed = 0,
    raw = '', at = 1, mid = 1, tail = false, first = 1, last = 0, thawed = true, kind = 0, same = false, probe = '',
    quotaSpacing = 0, quotaUntil = NEVER, routes = {}, dirty = false, stale = false, json = false,
  }
  cache[key] = e
  egressCount = egressCount + 1
  save(e)
  return e
end

-- Frees the slots whose window is over.
local function thaw(e)
  if e.thawed then return end
  e.thawed = true
  local n = e.packed
  while n > 0 do
    if unpacked('<d', e.raw, e.at) + window > now then return end
    n = n - 1
    e.packed, e.at, e.n = n, e.at + 8, e.n - 1
  end
  local tail, i = e.tail, e.first
  if not tail then return end
  while i <= e.last and tail[i] + window <= now do i = i + 1 end
  e.n = e.n - (i - e.first)
  e.first = i
end

-- So many slots cool from that time on, be it that more of them do than there are.
local function stamp(e, limit, at, count)
  if limit == huge or e.weight == 0 then return end
  local tail, to = e.tail, e.last
  if not tail then
    tail = {}
    e.tail = tail
  end
  local latest = NEVER
  if to >= e.first then latest = tail[to] elseif e.packed > 0 then latest = unpacked('<d', e.raw, e.at + 8 * (e.packed - 1)) end
  if latest <= at then
    for i = to + 1, to + count do tail[i] = at end
  else
    -- Only a grace period (an aborted send) puts one behind later ones.
    local all = {}
    for i = 0, e.packed - 1 do all[i + 1] = unpacked('<d', e.raw, e.at + 8 * i) end
    for i = e.first, to do all[#all + 1] = tail[i] end
    local place = #all
    while place > 0 and all[place] > at do place = place - 1 end
    for _ = 1, count do table.insert(all, place + 1, at) end
    e.tail, e.first, e.packed, to = all, 1, 0, #all - count
  end
  e.last = to + count
  e.n = e.n + count
  if at + window <= now then e.thawed = false end
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
  if over < e.packed then since = unpacked('<d', e.raw, e.at + 8 * over) else since = e.tail[e.first + over - e.packed] end
  since = since + window
  if since > at then return since end
  return at
end

-- The stamps as they are kept; with what is in front of them in the record, from there on.
local function ring(e, from)
  local s = sub(e.raw, from or e.at, e.at + 8 * e.packed - 1)
  local first, last = e.first, e.last
  if first == last then return s .. pack('<d', e.tail[first]) end
  for i = first, last, 100 do
    local to = min(i + 99, last)
    s = s .. pack('<' .. string.rep('d', to - i + 1), unpack(e.tail, i, to))
  end
  return s
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

-- What is between head and stamps.
local function middle(e)
  local all, routes = '', 0
  for pool, route in pairs(e.routes) do
    local session = route.session or ''
    routes = routes + 1
    local flags = (route.trial and TRIAL or 0) + (route.session and WITH_SESSION or 0) + (routePlain(route) and PLAIN or 0)
    all = all .. pack('<' .. ROUTE, flags, route.weight, route.endsAt, #pool, pool, #route.id, route.id, #session, session)
  end
  if routes == 1 and e.probe == '' and e.quotaUntil == NEVER then
    e.kind = 1
    return all
  end
  e.kind = 0
  return pack(EXTRAS, #e.probe, e.probe, e.quotaSpacing, e.quotaUntil, routes) .. all
end

local function encoded(e)
  local rest
  if not e.same then
    rest = middle(e) .. ring(e)
  elseif e.at == e.mid then
    rest = ring(e, MIDDLE)
  else
    rest = sub(e.raw, MIDDLE, e.mid - 1) .. ring(e)
  end
  return pack(ENCODED, e.kind, e.busy, e.weight, e.n, e.outcomes, e.ejection, e.spaced, e.cooldown, rest)
end
`;
