/** The seldom ones. */
export const BIND: string = `
local bind
if does.bind then
function bind(step)
  local told = step.route
  local p = permit(step.permit)
  if p and p.cooled then return '{"ok":false,"retryInMs":0,"duplicate":false}' end
  local noted = find(p and p.egress or told.egress)
  if noted and noteTrial(noted, told.pool, told.id, told.trial) then rekeyLater(noted) end
  if not p then return '{"ok":false,"retryInMs":0,"duplicate":false}' end
  local from = egressFor(p.egress, 1)
  local egress, at, duplicate = step.egress, nil, false
  if egress == p.egress then
    -- The permit's own slot says nothing against the egress it is on: only a cooldown or an ejection that came since does.
    local probe = from.extras.probe == p.id
    at = max(restUntil, max(from.cooldown, probe and NEVER or wellFrom(from)))
    if at <= now and not probe and H then passHealth(from, p.id, now) end
    rekeyLater(from)
  else
    local to = egressFor(egress, 1)
    local other = to.routes[told.pool]
    duplicate = other and other.id ~= told.id and other.endsAt > now or false
    at = max(restUntil, usableAt(to, p.cost))
    if at <= now then
      untake(from, p)
      if H then releaseHealth(from, p.id, p.start) end
      rekeyLater(from)
      p.egress, p.start, p.before = egress, now, to.spaced
      to.busy = to.busy + p.cost
      to.spaced = now + p.spacing
      quietFrom(max(to.spaced, p.deadline + window))
      if H then passHealth(to, p.id, now) end
      rekeyLater(to)
      futile = 0
      keep(p, encodedPermit(p), p.deadline)
    elseif not told.weight then
      if futileUntil <= now then futile = 0 end
      local pauseMs = min(1, 2 ^ futile / 256) * P.windowMs
      futile = futile + 1
      futileUntil = now + pauseMs + P.windowMs
      cooldown(from, now + min(pauseMs, at - now))
      quietFrom(futileUntil)
    end
    if told.weight == 1 then
      local route = from.routes[told.pool]
      if route and route.id == told.id then detach(route) end
      if told.shared and not told.closed and (not told.endsInMs or told.endsInMs > 0) then lead(told, to) end
    end
  end
  if at > now then
    cancel(p)
    -- Too large for a double: read as Infinity.
    return '{"ok":false,"retryInMs":' .. (at == huge and '1e999' or num(at - now)) .. ',"duplicate":' .. tostring(duplicate) .. '}'
  end
  return '{"ok":true,"retryInMs":0,"duplicate":' .. tostring(duplicate) .. '}'
end
end
`;

/** Permits that were given elsewhere. They may be more than there are slots: the egress is usable once enough have cooled. */
export const IMPORT: string = `
local takeOver
if does.import then
function takeOver(step)
  for i = 1, #step.permits do
    local one = step.permits[i]
    local id, cost = one.id, one.cost
    if not permit(id) then
      local e = egressFor(one.egress, 1)
      local cooled = one.cooledForMs
      -- Which of the rates counted for it is not known: all did.
      local since = now - (cooled or 0)
      for k = 1, #P.rates do
        local rate = P.rates[k]
        tats[k] = max(tats[k] or NEVER, since) + cost * (rate[2] / (rate[1] - rate[3] + 1))
        spentAts[k], refunds[k] = max(spentAts[k] or NEVER, since), refunds[k] or 0
      end
      local till = now + one.keepMs
      if cooled then
        stamp(e, limit, now - cooled, cost)
        if account then stamp(account, account.limit, now - cooled, cost) end
        quietFrom(now - cooled + window)
      else
        e.busy = e.busy + cost
        if account then account.busy = account.busy + cost end
        quietFrom(till + window)
      end
      quietFrom(till)
      if not cooled or one.keepMs > 0 then
        -- What it says of a circuit that is not closed would be of another time.
        local ticket = circuit and (circuit.phase == 0 and circuit.epoch or -1) or 0
        local p = {
          id = id, cooled = cooled and true or false, cost = cost, units = cost, ticket = ticket, start = now, deadline = till,
          spacing = 0, before = e.spaced, egress = one.egress, pool = '', route = '', session = false, single = false,
          account = account and true or false, n = 0, raw = '', at = 1,
        }
        permits[id] = p
        active = active + 1
        keep(p, not cooled and encodedPermit(p), till)
      end
      rekeyLater(e)
    end
  end
end
end
`;

/** What there is to see of the target. What would be huge is left out. */
export const INSPECT: string = `
local inspect
if does.inspect then
function inspect()
  rekeyStale()
  findAll(call('HKEYS', EGRESSES))
  local shared = P.account and account
  local sharedIn, sharedFree = 0, huge
  if shared then
    sharedIn = max(0, slotsAt(shared, shared.limit, 1) - now)
    thaw(shared)
    sharedFree = sharedIn > 0 and 0 or max(0, shared.limit - shared.busy - shared.n)
  end
  local list = {}
  for key, e in pairs(cache) do
    if e then
      local usableIn = max(0, usableAt(e, 1) - now)
      thaw(e)
      local free = e.weight == 0 and huge or max(0, limit * e.weight - e.busy - e.n)
      if usableIn > 0 then free = 0 end
      free, usableIn = min(free, sharedFree), max(usableIn, sharedIn)
      list[#list + 1] = '{"egress":' .. text(key) .. ',"busy":' .. e.busy .. ',"cooling":' .. e.n ..
        (free ~= huge and ',"remaining":' .. num(free) or '') .. (usableIn ~= huge and ',"usableInMs":' .. num(usableIn) or '') ..
        ',"cooldownMs":' .. num(max(0, e.cooldown - now)) .. ',"ejectedMs":' .. num(max(0, wellFrom(e) - now)) .. '}'
    end
  end
  local phase = circuit and circuit.phase or 0
  local most, places = gateLimit(), concurrency()
  return '{"target":' .. text(batch.target) .. ',"active":' .. active .. (most ~= huge and ',"limit":' .. num(most) or '') ..
    (places ~= huge and ',"concurrency":' .. num(places) or '') .. ',"circuit":"' ..
    (phase == 0 and 'closed' or phase == 2 and 'half-open' or 'open') .. '","restMs":' ..
    num(max(max(0, gateOpenAt() - now), K and circuitWait() or 0)) .. ',"egresses":[' .. concat(list, ',') .. ']}'
end
end
`;
