/**
 * The lanes: by pool, the egresses that its routes lead to, by the time they are usable, of equals by name. During a batch
 * the zset stays as it was; what moves is kept beside it, and written at the end.
 */
export const LANES: string = `
local lanes = {} -- by pool: the lane as far as it has been read
local strays = {} -- pool, egress key: members that no route leads to

-- What moved goes to its place among the others that moved; nothing is usable at huge.
local function insert(lane, route, key)
  if key == huge then return end
  local keys, routes, i = lane.keys, lane.routes, lane.last
  local name = route.e.key
  while i >= lane.first and (keys[i] > key or (keys[i] == key and routes[i].e.key > name)) do
    keys[i + 1], routes[i + 1] = keys[i], routes[i]
    i = i - 1
  end
  keys[i + 1], routes[i + 1] = key, route
  lane.last = lane.last + 1
end

-- at: when it is usable, in milliseconds.
local function place(route, at)
  local key = floor(at * 1000)
  if route.key == key then return end
  route.key = key
  if not route.moved then
    route.moved = true
    movedRoutes[#movedRoutes + 1] = route
  end
  local lane = lanes[route.pool]
  if lane then insert(lane, route, key) end
end

local function keyFor(e, route, cost)
  if route.trial and e.busy > 0 then return huge end
  return usableAt(e, cost)
end

-- Something has happened to it: it is saved, and put where it belongs in every lane.
local function rekey(e)
  save(e)
  for _, route in pairs(e.routes) do place(route, keyFor(e, route, 1)) end
end

local function rekeyStale()
  if #stale == 0 then return end
  for i = 1, #stale do
    stale[i].noted = 1
    rekey(stale[i])
  end
  stale = {}
end

local function detach(route)
  local e = route.e
  e.routes[route.pool] = nil
  e.same = false
  save(e)
  route.key = false
  if not route.moved then
    route.moved = true
    movedRoutes[#movedRoutes + 1] = route
  end
end

local function writeLanes()
  rekeyStale()
  local takes = {}
  local function take(pool, name)
    takes[pool] = takes[pool] or {}
    table.insert(takes[pool], name)
  end
  for i = 1, #movedRoutes do
    local route = movedRoutes[i]
    local pool, e = route.pool, route.e
    route.moved = false
    if route.key then move(pool, route.key, e.key) elseif not e.routes[pool] then take(pool, e.key) end
  end
  for i = 1, #strays, 2 do
    local e = cache[strays[i + 1]]
    if not (e and e.routes[strays[i]]) then take(strays[i], strays[i + 1]) end
  end
  writePlaces()
  for pool, names in pairs(takes) do bulk('ZREM', LANE .. pool, names) end
  movedRoutes, strays = {}, {}
end

-- For those that ask Redis about a lane in the middle of a batch.
function syncLanes()
  writeLanes()
  lanes = {}
end

-- Whether a live route leads to the egress; those that have ended are dropped.
local function isLed(e)
  local led = false
  for _, route in pairs(e.routes) do
    if route.endsAt > now then led = true else detach(route) end
  end
  return led
end

-- The route (of a step) leads to the egress. One a pool is enough.
local function lead(told, e)
  local pool = told.pool
  local known = e.routes[pool]
  if known and known.endsAt > now then return end
  -- Whether it has been swept meanwhile must make no difference.
  if not isLed(e) and idle(e) then e.spaced, e.cooldown = NEVER, NEVER end
  e.routes[pool] = {
    e = e, pool = pool, id = told.id, session = told.session or false, endsAt = told.endsInMs and now + told.endsInMs or huge,
    weight = told.weight or 0, trial = told.trial, plain = false, key = false, moved = false,
  }
  e.same = false
  local new = true
  for i = 1, #pools do
    if pools[i] == pool then new = false end
  end
  if new then pools[#pools + 1] = pool end
  joined = joined or {}
  joined[pool] = true
  rekey(e)
end

local noteTrial
if known then
-- The permit's route is on trial, or not any more, wherever it is known.
function noteTrial(e, pool, id, trial)
  local route = e.routes[pool]
  if route and route.id == id and route.trial ~= trial then
    route.trial, e.same = trial, false
    return true
  end
  return false
end
end
`;
