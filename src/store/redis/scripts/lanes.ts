/**
 * The lanes: by pool, the egresses that its routes lead to, by the time they are usable, of equals by name. During a batch
 * the zset stays as it was; what moves is kept beside it, and written at the end.
 */
export const LANES: string = `
local lanes = {} -- by pool: the lane as far as it has been read
local movedRoutes = {} -- routes whose place is another than in the zset, or that have left it
local strays = {} -- pool, egress key: members that no route leads to
local joined -- pools whose lanes somebody joined: those may be new

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
  for pool, moves in pairs(hotMoves) do
    local key, score
    for i = 1, #moves, 2 do
      if moves[i] ~= key then
        key = moves[i]
        score = key ~= huge and format('%d', key) or '+inf'
      end
      moves[i] = score
    end
    bulk('ZADD', LANE .. pool, moves)
  end
  hotMoves = {}
  local puts, takes = {}, {}
  local key, score -- of the latest: many have the same
  for i = 1, #movedRoutes do
    local route = movedRoutes[i]
    local pool, e = route.pool, route.e
    route.moved = false
    if route.key then
      local put = puts[pool]
      if not put then
        put = {}
        puts[pool] = put
      end
      local n = #put
      if route.key ~= key then
        key = route.key
        score = key ~= huge and format('%d', key) or '+inf'
      end
      put[n + 1], put[n + 2] = score, e.key
    elseif not e.routes[pool] then
      takes[pool] = takes[pool] or {}
      takes[pool][#takes[pool] + 1] = e.key
    end
  end
  for i = 1, #strays, 2 do
    local e = cache[strays[i + 1]]
    if not (e and e.routes[strays[i]]) then
      takes[strays[i]] = takes[strays[i]] or {}
      table.insert(takes[strays[i]], strays[i + 1])
    end
  end
  for pool, put in pairs(puts) do bulk('ZADD', LANE .. pool, put) end
  for pool, take in pairs(takes) do bulk('ZREM', LANE .. pool, take) end
  movedRoutes, strays = {}, {}
end

-- For those that ask Redis about a lane in the middle of a batch.
function syncLanes()
  writeLanes()
  lanes = {}
end

local openLane, top, soonestFor, rekeyAll
if does.reserve then
function rekeyAll()
  for _, e in pairs(cache) do
    if e then e.thawed = false end
  end
  if egressCount > MANY then return end
  local keys = call('HKEYS', EGRESSES)
  findAll(keys)
  for _, e in pairs(cache) do
    if e then rekey(e) end
  end
end

function openLane(pool)
  rekeyStale()
  -- row: what was read of the zset, and how far; the others are those that moved.
  local lane = {
    pool = pool, rank = 0, more = true, row = {}, rowKeys = {}, head = 1, tail = 0,
    keys = {}, routes = {}, first = 1, last = 0,
  }
  lanes[pool] = lane
  for i = 1, #movedRoutes do
    local route = movedRoutes[i]
    if route.pool == pool and route.key then insert(lane, route, route.key) end
  end
  return lane
end

local function readOn(lane, count)
  local answer = call('ZRANGE', LANE .. lane.pool, lane.rank, lane.rank + count - 1, 'WITHSCORES')
  local names = {}
  for i = 1, #answer, 2 do names[#names + 1] = answer[i] end
  lane.rank = lane.rank + #names
  lane.more = #names == count
  findAll(names)
  local row, rowKeys, to = lane.row, lane.rowKeys, lane.tail
  for i = 1, #names do
    local e = cache[names[i]]
    local route = e and e.routes[lane.pool]
    if not route then
      local n = #strays
      strays[n + 1], strays[n + 2] = lane.pool, names[i]
    elseif not route.moved then
      local key = tonumber(answer[2 * i])
      route.key = key
      to = to + 1
      row[to], rowKeys[to] = route, key
    end
  end
  lane.tail = to
end

-- The lane's first route that still lives, and when its egress is usable; nothing when only a settle can tell.
function top(lane, count)
  while true do
    local row, rowKeys, head = lane.row, lane.rowKeys, lane.head
    while head <= lane.tail and row[head].key ~= rowKeys[head] do head = head + 1 end
    lane.head = head
    if head > lane.tail and lane.more then
      readOn(lane, count < 16 and count or 16 + (count < 240 and count or 240))
    else
      local keys, routes, first = lane.keys, lane.routes, lane.first
      while first <= lane.last and routes[first].key ~= keys[first] do first = first + 1 end
      lane.first = first
      local route, key
      if head <= lane.tail then route, key = row[head], rowKeys[head] end
      if first <= lane.last then
        local other, otherKey = routes[first], keys[first]
        if not route or otherKey < key or (otherKey == key and other.e.key < route.e.key) then route, key = other, otherKey end
      end
      if not route or key == huge then return nil, huge end
      if route.endsAt <= now then
        detach(route)
      else
        -- After a change of the limit in a lane of many: its place was worked out for another one.
        local own = keyFor(route.e, route, 1)
        if own <= now or floor(own * 1000) <= key then return route, own end
        rekey(route.e)
      end
    end
  end
end

-- For more slots than one the lane's order is only a lower bound: as many are looked at as may be sooner than the best.
function soonestFor(pool, cost)
  syncLanes()
  local best, bestAt, rank = nil, huge, 0
  while true do
    local answer = call('ZRANGE', LANE .. pool, rank, rank + 63, 'WITHSCORES')
    local names = {}
    for i = 1, #answer, 2 do names[#names + 1] = answer[i] end
    findAll(names)
    for i = 1, #names do
      local key = tonumber(answer[2 * i]) / 1000
      -- A key that has passed says only that it has: of those the first many are all looked at.
      if key >= bestAt and (key > now or rank + i > MANY) then return best, bestAt end
      local e = cache[names[i]]
      local route = e and e.routes[pool]
      if route and route.endsAt > now then
        local at = keyFor(e, route, cost)
        if at < bestAt then best, bestAt = route, at end
      elseif route then
        detach(route)
      end
    end
    if #names < 64 then return best, bestAt end
    rank = rank + 64
  end
end
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
