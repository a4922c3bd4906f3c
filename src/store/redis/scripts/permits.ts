/** The permits that are not over: what each holds, to take it back or to let it cool. */
export const PERMITS: string = `
-- A record: flags, cost, ticket (of the circuit); egress, pool, id of the route ('' for none); units (of the rates), start,
-- deadline, spacing; what the spacing was before, and of each rate the arrival time right after it was spent (the marks).
-- Once its slots cool nothing of that matters any more: then it is the time when it ends by itself, in eight bytes.
local SESSION, SINGLE, ACCOUNT = 2, 4, 8 -- flags: its route has a session; stands for one IP; it holds slots of the account
local HOLDS, TERMS, WIRE = '<BIiHc0', '<Iddd', '<BIiHc0Hc0Hc0' -- of a record: what a settle reads first; units to spacing; what is in front of it
local permits = {} -- by id: the record, as long as nobody has unpacked it; false for none
local granted, ends = {}, {} -- to be written: id, record; deadline, id
local over = {} -- ids to be forgotten
local made = {} -- calls that have been granted permits in this batch

local function decodedPermit(id, raw)
  local p
  if #raw == 8 then
    p = { id = id, cooled = true, till = unpacked('<d', raw) }
  else
    local flags, cost, ticket, egress, pool, route, units, start, deadline, spacing, before, at = unpacked(WIRE .. 'Idddd', raw)
    p = {
      id = id, cooled = false, cost = cost, units = units, ticket = ticket, start = start, deadline = deadline,
      spacing = spacing, before = before, egress = egress, pool = pool, route = route, session = flags % 4 >= SESSION,
      single = flags % 8 >= SINGLE, account = flags >= ACCOUNT, n = (#raw + 1 - at) / 8, raw = raw, at = at,
    }
  end
  permits[id] = p
  return p
end

local function readPermits(asked)
  local ids = {}
  for i = 1, #asked do
    if permits[asked[i]] == nil then
      permits[asked[i]] = false
      ids[#ids + 1] = asked[i]
    end
  end
  for i = 1, #ids, CHUNK do
    local raws = call('HMGET', PERMITS, unpack(ids, i, min(i + CHUNK - 1, #ids)))
    for k = 1, #raws do permits[ids[i + k - 1]] = raws[k] end
  end
end

-- Whether there is any of these. Mostly there is none, and nothing to be kept of that.
local function areThere(ids)
  for i = 1, #ids, CHUNK do
    local raws = call('HMGET', PERMITS, unpack(ids, i, min(i + CHUNK - 1, #ids)))
    for k = 1, #raws do
      if raws[k] then return true end
    end
  end
  return false
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

local function micros(at) return format('%d', ceil(at * 1000)) end

local blanks = false

local function writePermits()
  local puts, till = granted, ends
  if blanks then
    puts, till = {}, {}
    for i = 1, #granted, 2 do
      if granted[i + 1] then
        local n = #puts
        puts[n + 1], puts[n + 2] = granted[i], granted[i + 1]
        till[n + 1], till[n + 2] = ends[i], ends[i + 1]
      end
    end
  end
  bulk('HDEL', PERMITS, over)
  bulk('ZREM', UNTIL, over)
  bulk('HSET', PERMITS, puts)
  bulk('ZADD', UNTIL, till)
end

local encodedPermit, keep, forget, cool, untake, forgo, cancel, expireLost
if known then
function encodedPermit(p)
  local flags = (p.session and SESSION or 0) + (p.single and SINGLE or 0) + (p.account and ACCOUNT or 0)
  local wire = pack(WIRE, flags, p.cost, p.ticket, #p.egress, p.egress, #p.pool, p.pool, #p.route, p.route)
  return wire .. pack('<Idddd', p.units, p.start, p.deadline, p.spacing, p.before) .. sub(p.raw, p.at, p.at + 8 * p.n - 1)
end

function keep(p, record, till)
  if p.cooled then record, p.till = pack('<d', till), till end
  local n = #granted
  granted[n + 1], granted[n + 2] = p.id, record
  ends[n + 1], ends[n + 2] = micros(till), p.id
  p.written = true
end

function forget(p)
  permits[p.id] = false
  over[#over + 1] = p.id
  active = active - 1
  if not p.written then return end
  blanks = true
  for i = 1, #granted, 2 do
    if granted[i] == p.id then granted[i + 1] = false end
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
  readPermits(lost)
  for i = 1, #lost do
    local p = permit(lost[i])
    if not p then
      over[#over + 1] = lost[i]
    elseif (p.till or p.deadline) <= now then
      forget(p)
      if not p.cooled then
        local e = egressFor(p.egress, 1)
        cool(p, e, p.deadline)
        forgo(p, e)
        thaw(e)
        rekeyLater(e)
      end
    end
  end
end
end
`;
