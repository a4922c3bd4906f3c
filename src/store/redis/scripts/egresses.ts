/**
 * One egress at the target: slots by the slot rule, spacing, cooldown, health. Each record is unpacked once a batch and
 * written once; the stamps of cooling slots, of which there may be thousands, stay packed as long as they are in order.
 */
export const EGRESSES: string = `
-- A record: busy, weight (IPs it stands for; 0: no budget of its own), number of stamps, outcomes, ejection (u32 each);
-- spaced, cooldown (f64 each); the stamps since when slots cool, rising (f64 each); msgpack of
-- {probe, quota spacing, quota until, then of each route: pool, id, session or false, end or false, weight, trial}.
local cache = {} -- by key: the egress, or false for none
local dirty = {} -- egresses to be written
local gone = {} -- keys to be forgotten
local stale = {} -- egresses whose places in the lanes are to be worked out anew

local function decoded(key, raw)
  local busy, weight, n, outcomes, ejection, spaced, cooldown, at = unpacked('<I4I4I4I4I4dd', raw)
  local rest = sub(raw, at + 8 * n)
  local r = cmsgpack.unpack(rest)
  local e = {
    key = key, busy = busy, weight = weight, outcomes = outcomes, ejection = ejection, spaced = spaced, cooldown = cooldown,
    n = n, packed = n, raw = raw, at = at, -- so many stamps of all are still packed, from there on
    tail = false, first = 1, last = 0, -- the others
    thawed = false, rest = rest, probe = r[1], quotaSpacing = r[2], quotaUntil = r[3], routes = {},
    dirty = false, stale = false, json = false,
  }
  for i = 4, #r, 6 do
    e.routes[r[i]] = {
      e = e, pool = r[i], id = r[i + 1], session = r[i + 2], endsAt = r[i + 3] or huge, weight = r[i + 4], trial = r[i + 5],
      key = false, moved = false, json = false, wire = false,
    }
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
    raw = '', at = 1, tail = false, first = 1, last = 0, thawed = true, rest = false, probe = '', quotaSpacing = 0,
    quotaUntil = NEVER, routes = {}, dirty = false, stale = false, json = false,
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

local function ring(e)
  local s = ''
  if e.packed > 0 then s = sub(e.raw, e.at, e.at + 8 * e.packed - 1) end
  for i = e.first, e.last, 100 do
    local to = min(i + 99, e.last)
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

local function encoded(e)
  local rest = e.rest
  if not rest then
    local r = { e.probe, e.quotaSpacing, e.quotaUntil }
    local i = 4
    for pool, route in pairs(e.routes) do
      r[i], r[i + 1], r[i + 2] = pool, route.id, route.session
      r[i + 3], r[i + 4], r[i + 5] = route.endsAt ~= huge and route.endsAt, route.weight, route.trial
      i = i + 6
    end
    rest = cmsgpack.pack(r)
  end
  return pack('<I4I4I4I4I4dd', e.busy, e.weight, e.n, e.outcomes, e.ejection, e.spaced, e.cooldown) .. ring(e) .. rest
end
`;
