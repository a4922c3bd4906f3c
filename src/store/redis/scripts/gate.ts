/** What one target allows as a whole: TargetGate, limits/aimd.ts and limits/breaker-core.ts, line by line. */
export const GATE: string = `
if account then
  local busy, weight, n, spaced, before, most = unpacked('<IIIddd', account)
  account = {
    busy = busy, weight = weight, n = n, packed = n, raw = account, tail = false, thawed = false,
    spaced = spaced, cooldown = NEVER, before = before, limit = most == 0 and huge or most,
  }
end

local aimdCut
if known then
function aimdCut(state, policy, sentAt)
  state.cleanSince, state.peak = now, 0
  if sentAt <= state.cutAt or now - state.cutAt < policy.windowMs then return false end
  state.cutAt = now
  local before = min(policy.ceiling, state.limit)
  state.limit = max(policy.floor, before * policy.decrease)
  return state.limit < before
end
end

-- Requests per window, and in flight at most, as adapted.
local function gateLimit()
  if not budget or not P.adaptBudget then return P.limit or huge end
  return aimdLimit(budget, P.adaptBudget)
end

-- The earliest time for a request over any egress.
local function gateOpenAt()
  if quotaUntil > now then return max(restUntil, min(quotaNextAt, quotaUntil)) end
  return restUntil
end

local follow
if does.reserve then
-- The policy may be another than before, and the limit may have adapted. Returns the limit.
function follow()
  local most = gateLimit()
  local health = H and H.all
  local other = false
  if healthPolicy ~= health then
    healthPolicy = health
    other = call('SCARD', OUT) > 0
  end
  if P.account and not account then
    account = {
      busy = 0, weight = 1, n = 0, packed = 0, raw = '', tail = false, thawed = true,
      spaced = NEVER, cooldown = NEVER, before = NEVER, limit = most,
    }
  end
  if P.account then account.limit = most end
  local own = P.account and huge or most
  if own ~= limit or P.windowMs ~= window then
    quietAt = quietAt + max(0, P.windowMs - window)
    limit, window = own, P.windowMs
    if account then account.thawed = false end
    other = true
  end
  if other then rekeyAll() end
  return most
end
end

local circuitRoom, circuitWait, circuitPass, done
if K then
  function circuitRoom()
    if not circuit or circuit.phase == 0 then return huge end
    local due = circuit['until'] <= now
    if circuit.phase == 1 then return due and K.halfOpenCalls or 0 end
    return max(0, K.halfOpenCalls - (due and circuit.calls or circuit.probes))
  end

  function circuitWait()
    if not circuit or circuitRoom() > 0 then return 0 end
    return max(0, circuit['until'] - now)
  end

  local function enter(phase, at)
    circuit.phase, circuit.since = phase, at
    circuit.epoch = circuit.epoch + 1
    circuit.probes, circuit.calls, circuit.failures, circuit.streak = 0, 0, 0, 0
    for i = 1, 20 do circuit.buckets[i] = 0 end
  end

  -- Lets one call pass, and returns its ticket.
  function circuitPass(at)
    if not circuit then return 0 end
    if circuit.phase == 0 then return circuit.epoch end
    if circuit.phase == 1 then
      enter(2, at)
    elseif circuit['until'] <= at then
      circuit.probes = circuit.calls
      circuit.epoch = circuit.epoch + 1
    end
    circuit.probes = circuit.probes + 1
    circuit['until'] = at + K.probeTimeoutMs
    return circuit.epoch
  end

  if known then
  local function trip(jitter)
    if circuit.phase == 0 and now - circuit.since > K.windowMs then circuit.trips = 0 end
    local openMs = min(K.maxOpenMs, K.openMs * 2 ^ circuit.trips)
    circuit.trips = circuit.trips + 1
    enter(1, now)
    circuit['until'] = now + openMs * (1 - 0.2 * jitter)
  end

  local FAILED = { ['target-error'] = true, ['network-error'] = true }
  local SILENT = { ['gateway-error'] = true, ignored = true }

  -- Counts how a request ended. Returns whether the circuit opened or closed by it.
  function done(ticket, outcome, jitter)
    makeCircuit()
    local failed = FAILED[outcome]
    if failed then failedAt = now end
    if ticket ~= circuit.epoch or circuit.phase == 1 then return false end
    if not outcome or SILENT[outcome] then
      if circuit.phase == 2 then circuit.probes = circuit.probes - 1 end
      return false
    end
    local closed = circuit.phase == 0
    if closed then countCalls(1, failed) end
    circuit.calls = circuit.calls + 1
    if failed then circuit.failures = circuit.failures + 1 end
    local of = closed and circuit.calls or K.halfOpenCalls
    local tooMany = circuit.failures > 0 and circuit.failures >= K.failureRatio * of - 1e-9
    if closed then
      if circuit.streak < K.minCalls and (not tooMany or circuit.calls < K.minCalls) then return false end
      trip(jitter)
    elseif tooMany then
      trip(jitter)
    elseif circuit.calls >= K.halfOpenCalls then
      enter(0, now)
    else
      return false
    end
    return true
  end
  end
end
`;

/** Of what one target allows as a whole, what the usual needs, too. */
export const COUNTS: string = `
-- The circuit. Phases: 0 closed, 1 open, 2 half-open.
local K = P.breaker
-- What adapts: limit (with its fraction), cutAt, cleanSince, peak.
local function aimdLimit(state, policy)
  return min(policy.ceiling, max(policy.floor, floor(state.limit + 1e-9)))
end

local function concurrency()
  local most = P.concurrency or huge
  if not P.adaptConcurrency then return most end
  return min(places and aimdLimit(places, P.adaptConcurrency) or P.adaptConcurrency.start, most)
end

local aimdOk, makeCircuit, countCalls
if does.settle or known then
function aimdOk(state, policy, used)
  if used > state.peak then state.peak = used end
  if now - state.cleanSince < policy.windowMs then return false end
  local tried = state.peak * 2 >= aimdLimit(state, policy)
  state.cleanSince, state.peak = now, 0
  if not tried or state.limit >= policy.ceiling then return false end
  state.limit = min(policy.ceiling, max(policy.floor, state.limit) + policy.increase)
  return true
end

function makeCircuit()
  if circuit then return end
  circuit = {
    phase = 0, epoch = 0, since = NEVER, ['until'] = 0, trips = 0, probes = 0, calls = 0, failures = 0, streak = 0,
    tick = NEVER, buckets = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 },
  }
end

-- Calls that ended while the circuit was closed, in their tenth of the window.
function countCalls(count, failed)
  local tick, buckets = floor(now * 10 / K.windowMs), circuit.buckets
  if tick > circuit.tick then
    for over = tick - circuit.tick > 10 and tick - 9 or circuit.tick + 1, tick do
      local at = 2 * (over % 10) + 1
      circuit.calls = circuit.calls - buckets[at]
      circuit.failures = circuit.failures - buckets[at + 1]
      buckets[at], buckets[at + 1] = 0, 0
    end
    circuit.tick = tick
  end
  local at = 2 * (circuit.tick % 10) + 1
  buckets[at] = buckets[at] + count
  if failed then buckets[at + 1] = buckets[at + 1] + count end
  circuit.streak = failed and circuit.streak + count or 0
end
end
`;
