import { GRANTS } from './grants.ts';
import { HOT_RESERVE, SPENDING } from './hot-reserve.ts';

/** Up to so many permits, all limits or none for each. What stays the same for all of them is worked out once. */
export const RESERVE: string = `
local reserve
local sweeps = 0 -- egresses to be looked at for clean-up
local hotReserve
if does.reserve then

${HOT_RESERVE}${GRANTS}
function reserve(step)
  local names = step.names
  if step.known or made[step.id] then
    for i = 1, #names do
      -- It was taken before; its first permits may be over since.
      if permit(names[i]) then return again(step) end
    end
  end
  made[step.id] = true
  local most = follow()
  local units, count, pin, pool = step.cost, step.count, step.pin, step.pool
  -- What has come down below what one request takes is spent on it whole.
  local cost = min(units, most)
  sweeps = sweeps + (taken % 4 == 0 and 2 or 0)
  if next(newPlaces) then syncLanes() else rekeyStale() end

  local allowed, limiting, retryIn, probing = count, nil, huge, nil
  local room = concurrency() - active
  if room < allowed then allowed, limiting = max(0, room), 'concurrency' end
  room = K and circuitRoom() or huge
  if room < allowed then allowed, limiting = room, 'breaker' end

${SPENDING}  local marks = {}
  for i = 1, #rates do marks[i] = NEVER end
  local layout = PARTS .. string.rep('d', #rates)
  local terms, termsStart, termsSpacing -- a record's middle, and of what
  local pinned -- the way of a pinned permit that is in no lane
  local ending, endingAt -- a deadline, and how it is written

  local random, offers = step.random, step.offers
  local offered, wants = 0, false
  local patient, horizon = now + step.patienceMs, now + step.horizonMs
  local deadlineMs, apart = step.deadlineMs, P.spacingMs
  local stretch = 1
  if (P.limit or huge) ~= most then stretch = P.limit / most end
  -- In pieces, put together once: Lua hashes every string that it makes, from end to end.
  local grants, n = { '{"grants":[' }, 0
  local flags = account and ACCOUNT or 0
  local lane
  if
    cost == 1 and allowed > 0 and not pin and not account and apart == 0 and gateOpenAt() <= now and quotaUntil <= now and
    (not circuit or circuit.phase == 0)
  then
    local records = {}
    n = hotReserve(step, allowed, 1, grants, records, now + deadlineMs, nRates, rateAt, ahead, spent, hair)
    for i = 1, 2 * n, 2 do hotRaw[records[i]] = records[i + 1] end
    if n > 0 then
      active = active + n
      quietFrom(now + deadlineMs + window)
      if n < allowed then syncLanes() end
    end
  end
  while n < allowed do
    local targetAt = gateOpenAt()
    local openAt = targetAt
    if openAt < now then openAt = now end
    for i = 1, nRates do
      local at = tats[rateAt[i]] - ahead[i]
      if at - now > hair[i] and at > openAt then openAt = at end
    end
    local ownersAt = NEVER
    if P.account then ownersAt = slotsAt(account, account.limit, cost) end
    if openAt > now or ownersAt > horizon then
      limiting = openAt > max(ownersAt, targetAt) and 'rate' or 'target'
      retryIn = max(openAt, ownersAt) - now
      break
    end

    local route, e, usable
    if pin then
      e = egressFor(pin.egress, pin.weight or 0)
      usable = usableAt(e, cost)
    else
      -- The egress to use next, a new one when no known route is usable soon enough and the pool offers one.
      local soonest
      while true do
        if cost > 1 then
          route, soonest = soonestFor(pool, cost)
        else
          lane = lanes[pool] or openLane(pool)
          route, soonest = top(lane, allowed - n)
        end
        if soonest <= patient then break end
        if offered == #offers then
          wants = step.more
          break
        end
        offered = offered + 1
        local offer = offers[offered]
        if offer.shared and not offer.closed and (not offer.endsInMs or offer.endsInMs > 0) then
          lead(offer, egressFor(offer.egress, offer.weight or 0))
        end
      end
      e = route and route.e
      usable = soonest
    end
    if usable > horizon then
      limiting = 'budget'
      if e then
        if wellFrom(e) >= usable then limiting = 'health' elseif e.cooldown >= usable then limiting = 'cooldown' end
      end
      retryIn = usable - now
      break
    end
    -- It may be booked ahead; first the pool is asked for one that is usable now.
    if wants then
      limiting = nil
      break
    end

    local start = now
    if usable > start then start = usable end
    if ownersAt > start then start = ownersAt end
    local spacing = 0
    local extras = e.extras
    if extras.quotaUntil > start then spacing = max(0, min(extras.quotaSpacing * cost, extras.quotaUntil - start)) end
    if apart ~= 0 then spacing = max(spacing, apart * stretch * (1 + 0.04 * (random[n + 1] or 0)) * cost) end
    local before, till = e.spaced, start + spacing
    e.busy = e.busy + cost
    e.spaced = till
    if account then
      account.before = account.spaced
      account.busy = account.busy + cost
      account.spaced = till
    end
    local deadline = start + deadlineMs
    if deadline + window > quietAt then quietAt = deadline + window end
    if till > quietAt then quietAt = till end

    if quotaUntil > start then quotaNextAt = start + quotaSpacing * cost end
    for i = 1, nRates do
      local at = rateAt[i]
      local tat = tats[at]
      if tat < start then tat = start end
      tat = tat + spent[i]
      tats[at] = tat
      if start > spentAts[at] then spentAts[at] = start end
      marks[at] = tat + refunds[at]
    end
    local ticket = 0
    if circuit and K then ticket = circuitPass(start) end
    local name = names[n + 1]
    if H then passHealth(e, name, start) end
    rekey(e)

    n = n + 1
    if not route then
      if not pinned then
        pinned = {
          e = e, pool = pool, id = pin.id, session = pin.session, endsAt = pin.endsInMs and now + pin.endsInMs or huge,
          weight = pin.weight, trial = pin.trial,
        }
      end
      route = pinned
    end
    if deadline ~= endingAt then ending, endingAt = micros(deadline), deadline end
    if start ~= termsStart or spacing ~= termsSpacing then
      terms, termsStart, termsSpacing = pack(TERMS, units, start, deadline, spacing, #pool, pool), start, spacing
    end
    local g, key, id = #granted, e.key, route.id
    granted[g + 1] = name
    granted[g + 2] = pack(layout, pack(HOLD, flags + flagsOf(route), cost, ticket), #key, key, #id, id, terms, before, unpack(marks))
    local m = #ends
    ends[m + 1], ends[m + 2] = ending, name
    active = active + 1
    grants[n + 1] = grantOver((n > 1 and ',[' or '[') .. format('%d', n - 1), route, start - now)
  end

  if count > 1 and n > 0 then
    local m = #ends
    ends[m + 1], ends[m + 2] = micros(now + deadlineMs), step.name
  end
  if n == count then
    limiting, retryIn = nil, huge
  elseif limiting == 'breaker' then
    -- Only now: those that were let through are the probes that the others wait for.
    retryIn, probing = circuitWait(), circuit.phase ~= 1
  end
  local answer = ']'
  if retryIn ~= huge then answer = answer .. ',"retryInMs":' .. num(retryIn) end
  if limiting then answer = answer .. ',"limiting":"' .. limiting .. '"' end
  if probing ~= nil then answer = answer .. ',"probing":' .. tostring(probing) end
  answer = answer .. ',"taken":' .. offered .. ',"wants":' .. tostring(wants) .. '}'
  grants[n + 2] = answer
  return grants
end
end
`;
