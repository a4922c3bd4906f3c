import { WRITE } from './write.ts';

/** The steps in turn, and what they have changed written down. */
export const END: string = `
-- All permits that the steps are about are read at once.
local ids = {}
for i = 1, #steps do
  local step = steps[i]
  local kind = step['do']
  if kind == 'reserve' then
    if nameAll(step) then
      step.known = true
      for k = 1, #step.names do ids[#ids + 1] = step.names[k] end
    end
  elseif kind == 'settle' then
    for k = 1, #step.reports do
      local report = step.reports[k]
      ids[#ids + 1] = type(report) == 'string' and report or report.permit
    end
  elseif kind == 'bind' then
    ids[#ids + 1] = step.permit
  elseif kind == 'cancel' or kind == 'renew' then
    for k = 1, #step.permits do ids[#ids + 1] = step.permits[k] end
  elseif kind == 'import' then
    for k = 1, #step.permits do ids[#ids + 1] = step.permits[k].id end
  end
end

taken = taken + 1
if setBack then quietFrom(restUntil) end
if #lost > 0 then expireLost() end
if #ids > 0 then readPermits(ids) end

local answers = {}
for i = 1, #steps do
  local step = steps[i]
  local kind = step['do']
  local answer = 'null'
  if kind == 'reserve' then
    answer = reserve(step)
  elseif kind == 'settle' then
    answer = settle(step)
  elseif kind == 'bind' then
    answer = bind(step)
  elseif kind == 'inspect' then
    answer = inspect()
  elseif kind == 'import' then
    takeOver(step)
  elseif kind == 'cancel' then
    for k = 1, #step.permits do
      local p = permit(step.permits[k])
      if p and not p.cooled then cancel(p) end
    end
  elseif kind == 'renew' then
    for k = 1, #step.permits do
      local p = permit(step.permits[k])
      if p and p.cooled then
        local till = max(now + step.keepMs, p.till)
        quietFrom(till)
        keep(p, nil, till)
      end
    end
  elseif kind == 'drop' then
    for k = 1, #step.routes do
      local e = find(step.routes[k].egress)
      local route = e and e.routes[step.routes[k].pool]
      if route and route.id == step.routes[k].id then detach(route) end
    end
  elseif kind == 'rest' then
    restUntil = max(restUntil, now + step.forMs)
    quietFrom(restUntil)
  end
  if i > 1 then answers[#answers + 1] = ',' end
  if type(answer) == 'table' then
    local n = #answers
    for k = 1, #answer do answers[n + k] = answer[k] end
  else
    answers[#answers + 1] = answer
  end
end

-- Forgets egresses that no route leads to any more, once nothing of them matters: a few at a time, and more than come.
rekeyStale()
sweeps = sweeps + 2 * max(0, egressCount - egressesBefore)
if sweeps > 0 and egressesBefore > 0 then
  local keys = call('HRANDFIELD', EGRESSES, sweeps)
  findAll(keys)
  for i = 1, #keys do
    local e = cache[keys[i]]
    if e and not isLed(e) and idle(e) and e.extras.quotaUntil <= now and (not H or healthIdle(e)) then
      if e.ejection >= OUTSIDE then call('SREM', OUT, e.key) end
      cache[e.key] = false
      gone[#gone + 1] = e.key
      egressCount = egressCount - 1
    end
  end
end

writeLanes()
local puts = {}
for i = 1, #dirty do
  local e = dirty[i]
  if cache[e.key] == e then
    local n = #puts
    puts[n + 1], puts[n + 2] = e.key, encoded(e)
  end
end
if #gone > 0 then
  local really = {}
  for i = 1, #gone do
    if not cache[gone[i]] then really[#really + 1] = gone[i] end
  end
  gone = really
end
if blanks then granted, ends = present(granted), present(ends) end
local kept = account and pack('<IIIddd', account.busy, 1, account.n, account.spaced, account.before,
  account.limit ~= huge and account.limit or 0) or nil
if kept then kept = ring(account, kept) end
${WRITE}end)(lost, known, permitsBefore, egressesBefore)
end)()
`;
