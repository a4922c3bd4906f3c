/** Who is next in a lane: the head of the zset as far as it has been read, and what has moved meanwhile. */
export const HEADS: string = `
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
`;
