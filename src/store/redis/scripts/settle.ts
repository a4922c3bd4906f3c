import { HOT_SETTLE } from './hot-settle.ts';

/** How requests ended, and what that says: verdicts.ts over the records. */
export const SETTLE: string = `
local settle, hotSettle, read
if does.settle then
${HOT_SETTLE}
local function cooldownVerdict(verdicts, egress, forMs)
  verdict(verdicts, 'cooldown', (egress and ',"egress":' .. text(egress) or '') .. ',"forMs":' .. num(forMs))
end

-- The egress was told to wait. Returns whether the wait has become the whole target's: three different ones within a window
-- are its own refusal, as the first one is an account's.
local function widens(egress, till)
  if not refused then
    refused = { keys = { '', '', '' }, at = { NEVER, NEVER, NEVER }, till = { NEVER, NEVER, NEVER }, targetUntil = NEVER }
  end
  local keys, ats, tills = refused.keys, refused.at, refused.till
  local slot
  for i = 3, 1, -1 do
    if keys[i] == egress then slot = i end
  end
  if not slot then
    slot = 1
    for i = 2, 3 do
      if ats[i] < ats[slot] then slot = i end
    end
    keys[slot], tills[slot] = egress, NEVER
  end
  ats[slot], tills[slot] = now, max(tills[slot], till)
  local wide = P.account or (min(ats[1], min(ats[2], ats[3])) > now - P.windowMs)
  local targetUntil = P.account and till or max(tills[1], max(tills[2], tills[3]))
  if not wide or targetUntil <= max(now, refused.targetUntil) then return false end
  refused.targetUntil = targetUntil
  restUntil = max(restUntil, targetUntil)
  return true
end

-- Whether no other egress can stand in for the permit's own in its pool: what it is refused, the pool is.
local function isOnly(p, e)
  -- Sessions can be opened, and an exit that rotates is another one each time.
  if p.route == '' or p.session or not p.single then return false end
  local route = e.routes[p.pool]
  if not route or route.id ~= p.route or route.endsAt <= now then return false end
  syncLanes()
  for rank = 0, huge, 16 do
    local names = call('ZRANGE', LANE .. p.pool, rank, rank + 15)
    findAll(names)
    for i = 1, #names do
      local other = names[i] ~= e.key and cache[names[i]]
      local theirs = other and other.routes[p.pool]
      if theirs and theirs.endsAt > now then return false end
    end
    if #names < 16 then return true end
  end
end

-- Cooldowns, and what a refusal says of the limits.
local function restFor(p, e, report, verdicts)
  local limited = report.outcome == 'rate-limited'
  local forMs = report.retryAfterMs or (limited and P.windowMs or 0)
  local wide = report.outcome == 'target-error' and forMs > 0
  if forMs > 0 then
    cooldown(e, now + forMs)
    quietFrom(now + forMs)
    cooldownVerdict(verdicts, e.key, forMs)
    if limited and widens(e.key, now + forMs) then
      wide = true
      cooldownVerdict(verdicts, nil, restUntil - now)
    end
  end
  if limited and P.adaptBudget and P.limit then
    budget = budget or { limit = P.adaptBudget.ceiling, cutAt = NEVER, cleanSince = NEVER, peak = 0 }
    if aimdCut(budget, P.adaptBudget, p.start) then verdict(verdicts, 'budget', ',"limit":' .. num(gateLimit())) end
  end
  -- Where there is one egress only, what it is refused the target as a whole refuses.
  wide = wide or (limited and isOnly(p, e))
  if wide and P.adaptConcurrency then
    places = places or { limit = P.adaptConcurrency.start, cutAt = NEVER, cleanSince = NEVER, peak = 0 }
    if aimdCut(places, P.adaptConcurrency, p.start) then verdict(verdicts, 'concurrency', ',"limit":' .. num(concurrency())) end
  end
end

-- A quota that is nearly used up: what is left of it is spread until it is full again.
local function takeQuota(e, quota, verdicts)
  local till = now + quota.forMs
  quietFrom(till)
  if quota.account or P.account then
    quotaSpacing, quotaUntil, quotaNextAt = quota.spacingMs, till, max(quotaNextAt, now + quota.spacingMs)
    if quota.exhausted then
      restUntil = max(restUntil, till)
      cooldownVerdict(verdicts, nil, quota.forMs)
    end
  elseif quota.exhausted then
    cooldown(e, till)
    cooldownVerdict(verdicts, e.key, quota.forMs)
  else
    local extras = extrasOf(e)
    extras.quotaSpacing, extras.quotaUntil = quota.spacingMs, till
    e.spaced = max(e.spaced, now + min(quota.spacingMs, quota.forMs))
  end
end

-- The egress's health here: its own refusals, not the target's troubles and not a full budget.
local function judge(p, e, report, verdicts)
  local outcome = report.outcome
  local ok = outcome == 'ok'
  if not ok then
    local refusal = outcome == 'blocked' or outcome == 'challenged'
    local broken = outcome == 'network-error'
    if refusal or broken then
      -- The next attempt is to take another one, if there is any. A session that was refused rests for longer than anybody
      -- waits for a known way out.
      local restMs = max(refusal and p.session and 100 or 0, P.limit and P.windowMs / P.limit or 0)
      cooldown(e, now + restMs)
      -- Its record outlives the slots: a target that is asked seldom ejects, too.
      quietFrom(now + max(restMs, H.maxMs))
    end
    if not refusal and not (broken and report.chance < 0.5) then
      releaseHealth(e, p.id, p.start)
      return
    end
  end
  local change = recordHealth(e, ok, p.id)
  if change > 0 then
    local till = wellFrom(e)
    verdict(verdicts, 'ejected', ',"egress":' .. text(e.key) .. ',"forMs":' .. num(till - now))
    quietFrom(till + H.maxMs)
  elseif change < 0 then
    verdict(verdicts, 'returned', ',"egress":' .. text(e.key))
    quietFrom(now + ceil(H.maxMs / H.baseMs) * H.healthyMs)
  end
end

local function grow(e, verdicts)
  if budget and P.adaptBudget then
    local slots = P.account and account or e
    thaw(slots)
    if aimdOk(budget, P.adaptBudget, slots.busy + slots.n) then
      if budget.limit >= P.adaptBudget.ceiling then budget = nil end
      verdict(verdicts, 'budget', ',"limit":' .. num(gateLimit()))
    end
  end
  if P.adaptConcurrency then morePlaces(verdicts) end
end

function settle(step)
  local verdicts = {}
  local reports, jitter = step.reports, step.jitter
  local flags, costs, tickets, keys, raws, others = read(reports)
  findAll(others)
  local i = 1
  while true do
    i = hotSettle(reports, i, flags, costs, tickets, keys, raws, verdicts)
    if i > #reports then break end
    local report, key = reports[i], keys[i]
    if costs[i] and permits[report] and cache[key] == nil and not hotRaw[key] and raws[i] then decoded(key, raws[i]) end
    if type(report) == 'string' then report = { permit = report, outcome = 'ok', ['end'] = true } end
    local p = permit(report.permit)
    if p then
      if not p.cooled then
        local e = egressFor(p.egress, 1)
        if p.route ~= '' then noteTrial(e, p.pool, p.route, report.trial or false) end
        cool(p, e, now + (report.graceMs or 0))
        local outcome = report.outcome
        if report.retryAfterMs or outcome == 'rate-limited' then restFor(p, e, report, verdicts) end
        if report.quota then takeQuota(e, report.quota, verdicts) end
        if H then judge(p, e, report, verdicts) end
        if K and done(p.ticket, outcome, jitter and jitter[i]) then
          verdict(verdicts, 'circuit', ',"open":' .. tostring(circuit.phase == 1) .. ',"forMs":' .. num(circuitWait()))
        end
        if outcome == 'ok' and (budget or P.adaptConcurrency) then grow(e, verdicts) end
        thaw(e)
        rekeyLater(e)
      end
      if report['end'] then
        forget(p)
      else
        p.cooled = true
        quietFrom(now + report.keepMs)
        keep(p, nil, now + report.keepMs)
      end
    end
    i = i + 1
  end
  return '[' .. concat(verdicts, ',') .. ']'
end
end
`;
