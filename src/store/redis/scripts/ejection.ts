/** Which egresses are out for bad health: the arithmetic of health/ejection.ts and health/window.ts, word by word. */
export const EJECTION: string = `
-- A word of ejection: phase (0 in, 1 out, 2 probing) in the bits from 29 on, count (6 bits), time in 32nds of baseMs (23 bits).
local TIME_BITS, COUNTS = 8388608, 64

local function ticksSince(word)
  local ticks = (floor(now * 32 / H.baseMs) - word) % TIME_BITS
  if ticks >= TIME_BITS / 2 then ticks = ticks - TIME_BITS end
  return ticks
end

-- From when on a request may go over it, as far as its health goes.
local function wellFrom(e)
  if not H or e.ejection < OUTSIDE then return NEVER end
  local left = -ticksSince(e.ejection)
  if left <= 0 then return now end
  return now + max(4.9406564584124654e-324, (floor(now * 32 / H.baseMs) + left) * H.baseMs / 32 - now)
end

local function usableAt(e, cost)
  local at = slotsAt(e, limit, cost)
  if e.ejection < OUTSIDE or not H then return at end
  return max(at, wellFrom(e))
end

local passHealth, releaseHealth, recordHealth, healthIdle
if H then
  local function word(phase, count, at)
    return phase * OUTSIDE + count * TIME_BITS + ceil(at * 32 / H.baseMs) % TIME_BITS
  end

  local function countOf(ejection) return floor(ejection / TIME_BITS) % COUNTS end

  -- The permit is about to be used over it: when the egress is out, that is its one probe.
  function passHealth(e, id, start)
    if e.ejection < OUTSIDE then return end
    e.ejection = word(2, countOf(e.ejection), start + H.probeTimeoutMs)
    extrasOf(e).probe = id
  end

  function healthIdle(e)
    local ejection = e.ejection
    if ejection == 0 then return true end
    local passedMs = ticksSince(ejection) * H.baseMs / 32
    if ejection < OUTSIDE then return passedMs >= countOf(ejection) * H.healthyMs end
    return passedMs >= H.maxMs
  end

  if known then
  -- The permit says nothing of the egress. When it was its probe, another may go.
  function releaseHealth(e, id, start)
    if e.extras.probe ~= id then return end
    if e.ejection >= 2 * OUTSIDE then
      e.ejection = word(1, countOf(e.ejection), start > now and start or now - H.baseMs / 32)
    end
    extrasOf(e).probe = ''
  end

  local function unhealthy(outcomes)
    local samples = floor(outcomes / 67108864)
    if samples < H.minSamples then return false end
    local ok, bits = 0, outcomes % 67108864
    while bits > 0 do
      ok = ok + bits % 2
      bits = floor(bits / 2)
    end
    local share = 1
    if samples > 0 then share = ok / samples end
    return share < H.threshold
  end

  local function mayEject(ejected, total)
    if total < 2 or H.maxEjectedShare == 0 then return false end
    return ejected + 1 <= max(1, floor(H.maxEjectedShare * total + 1e-9))
  end

  local function ejected(before)
    local count = min(min(63, ceil(H.maxMs / H.baseMs)), countOf(before) + 1)
    return word(1, count, now + min(H.maxMs, H.baseMs * count))
  end

  -- One on trial may turn out to be an egress in use already.
  local function members(keys, pool)
    findAll(keys)
    local n = 0
    for i = 1, #keys do
      local e = cache[keys[i]]
      local route = e and e.routes[pool]
      if route and not route.trial and route.endsAt > now then n = n + 1 end
    end
    return n
  end

  -- Whether every pool that uses the egress can do without it: none without its last one, nor without more than a share.
  local function mayLose(e)
    syncLanes()
    local outs
    for pool, route in pairs(e.routes) do
      if route.endsAt > now then
        local more = route.session and 1 or 0 -- a pool of sessions can open another
        local out = call('SCARD', OUT)
        if out <= MANY then
          outs = outs or call('SMEMBERS', OUT)
          out = members(outs, pool)
        end
        -- Those that are out are counted first, and the others only if need be: while a target refuses everybody, this is asked after every answer.
        local size = call('ZCARD', LANE .. pool)
        if not mayEject(out, size + more) then return false end
        if size <= MANY and not mayEject(out, members(call('ZRANGE', LANE .. pool, 0, -1), pool) + more) then return false end
      end
    end
    return true
  end

  -- How a request over it ended. Returns 1 when it is out from now on, also once more after its probe; -1 when it is back; else 0.
  function recordHealth(e, ok, id)
    local samples = floor(e.outcomes / 67108864)
    if samples < 20 then samples = samples + 1 end
    e.outcomes = samples * 67108864 + (e.outcomes % 524288) * 2 + (ok and 1 or 0)
    local before = e.ejection
    local bad = not ok and unhealthy(e.outcomes)
    if before == 0 and not bad then return 0 end
    local out, after = before >= OUTSIDE, before
    local count = countOf(before)
    if not out then
      if bad and mayLose(e) then
        after = ejected(before)
      elseif count == 0 then
        after = 0
      elseif not ok then
        after = word(0, count, now)
      elseif ticksSince(before) * H.baseMs / 32 >= H.healthyMs then
        after = count == 1 and 0 or word(0, count - 1, now)
      end
    elseif before >= 2 * OUTSIDE and e.extras.probe == id then
      after = ok and word(0, count, now) or ejected(before)
    end
    if after == before then return 0 end
    e.ejection = after
    if after >= OUTSIDE then
      extrasOf(e).probe = ''
      call('SADD', OUT, e.key)
      outTouched = true
      return 1
    end
    if not out then return 0 end
    extrasOf(e).probe = ''
    call('SREM', OUT, e.key)
    e.outcomes = 0 -- what led to the ejection must not lead to the next one
    return -1
  end
  end
end
`;
