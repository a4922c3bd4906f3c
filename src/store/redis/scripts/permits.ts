/** The permits that are not over: what each holds, to take it back or to let it cool. */
export const PERMITS: string = `
local function decodedPermit(id, raw)
  local p
  if #raw == 8 then
    p = { id = id, cooled = true, byCall = false, till = unpacked('<d', raw) }
  else
    local flags, cost, ticket, egress, route, units, start, deadline, spacing, pool, before, at = unpacked(PERMIT, raw)
    p = {
      id = id, cooled = false, cost = cost, units = units, ticket = ticket, start = start, deadline = deadline,
      spacing = spacing, before = before, egress = egress, pool = pool, route = route, session = flags % 4 >= SESSION,
      single = flags % 8 >= SINGLE, account = flags % BY_CALL >= ACCOUNT, byCall = flags >= BY_CALL, n = (#raw + 1 - at) / 8, raw = raw, at = at,
    }
  end
  permits[id] = p
  return p
end

-- The permit, if it is there. One that an earlier step of the batch has made is seldom asked for: it is looked up in what is to be written.
local function permit(id)
  local p = permits[id]
  if p then
    if type(p) == 'string' then return decodedPermit(id, p) end
    return p
  end
  for i = #granted - 1, 1, -2 do
    if granted[i] == id and granted[i + 1] then
      p = decodedPermit(id, granted[i + 1])
      p.written = true
      return p
    end
  end
  return false
end

local blanks = false

local function present(pairs)
  local some = {}
  for i = 1, #pairs, 2 do
    local n = #some
    if pairs[i + 1] then some[n + 1], some[n + 2] = pairs[i], pairs[i + 1] end
  end
  return some
end

local encodedPermit, keep, forget, cool, untake, forgo, cancel, expireLost
if known then
function encodedPermit(p)
  local flags = (p.session and SESSION or 0) + (p.single and SINGLE or 0) + (p.account and ACCOUNT or 0)
  return pack(PERMIT, flags, p.cost, p.ticket, #p.egress, p.egress, #p.route, p.route, p.units, p.start, p.deadline, p.spacing,
    #p.pool, p.pool, p.before) .. sub(p.raw, p.at, p.at + 8 * p.n - 1)
end

function keep(p, record, till)
  if p.cooled then record, p.till = pack('<d', till), till end
  local n, m = #granted, #ends
  granted[n + 1], granted[n + 2] = p.id, record
  ends[m + 1], ends[m + 2] = micros(till), p.id
  p.written, p.byCall = true, false
end

function forget(p)
  permits[p.id] = false
  over[#over + 1] = p.id
  if not p.byCall then ended[#ended + 1] = p.id end
  active = active - 1
  if not p.written then return end
  blanks = true
  for i = 1, #granted, 2 do
    if granted[i] == p.id then granted[i + 1] = false end
  end
  for i = 2, #ends, 2 do
    if ends[i] == p.id then ends[i] = false end
  end
end

-- Its slots begin to cool.
function cool(p, e, at)
  e.busy = e.busy - p.cost
  stamp(e, limit, at, p.cost)
  if p.account and account then
    account.busy = account.busy - p.cost
    stamp(account, account.limit, at, p.cost)
  end
  quietFrom(at + window)
end

-- Its slots of that egress are as if they had never been taken; the spacing, too, unless a later one has set its own.
function untake(e, p)
  e.busy = e.busy - p.cost
  if e.spaced == p.start + p.spacing then e.spaced = p.before end
end

-- It came to nothing: it says nothing of the target nor of its egress.
function forgo(p, e)
  if done then done(p.ticket, nil, 0) end
  if H then releaseHealth(e, p.id, p.start) end
end

-- The target never saw it.
function cancel(p)
  local e = egressFor(p.egress, 1)
  forget(p)
  forgo(p, e)
  local at = p.at
  for i = 1, min(p.n, #P.rates) do
    local mark = unpacked('<d', p.raw, at + 8 * (i - 1))
    if mark ~= NEVER then
      local rate = P.rates[i]
      local tat = tats[i]
      local left = tat - min(p.units * (rate[2] / (rate[1] - rate[3] + 1)), max(0, mark - refunds[i] - spentAts[i]))
      refunds[i] = refunds[i] + (tat - left)
      tats[i] = left
    end
  end
  if p.account and account then
    account.busy = account.busy - p.cost
    if account.spaced == p.start + p.spacing then account.spaced = account.before end
  end
  untake(e, p)
  rekeyLater(e)
end

-- Permits never settled: the request may have been sent until the deadline, so the slots cool from there.
function expireLost()
  local ids, calls, own = {}, {}, {}
  for i = 1, #lost do
    local name = lost[i]
    local id, count = string.match(name, '^(.*)%+(%d+)$')
    if #ids >= CHUNK then break end
    if id then
      calls[#calls + 1] = { name, #ids + 1, #ids + count }
      for k = 0, count - 1 do ids[#ids + 1] = id .. '.' .. format('%d', k) end
    else
      ids[#ids + 1], own[name] = name, true
    end
  end
  readPermits(ids)
  for i = 1, #ids do
    local p = permit(ids[i])
    -- A deadline within the same microsecond may be yet to come: then it stays where it is.
    if p and (p.till or p.deadline) <= now then
      forget(p)
      if not p.cooled then
        local e = egressFor(p.egress, 1)
        cool(p, e, p.deadline)
        forgo(p, e)
        thaw(e)
        rekeyLater(e)
      end
    elseif not p and own[ids[i]] then
      ended[#ended + 1] = ids[i]
    end
  end
  -- What is left of a call keeps it known, lest it be taken twice.
  for i = 1, #calls do
    local name, from, to = unpack(calls[i])
    local till = now
    for k = from, to do
      local p = permit(ids[k])
      if p then till = max(till, p.till or p.deadline) end
    end
    if till > now then
      local n = #ends
      ends[n + 1], ends[n + 2] = micros(till), name
    else
      ended[#ended + 1] = name
    end
  end
end
end
`;
