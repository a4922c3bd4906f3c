/** What a reserve answers out of the usual. */
export const GRANTS: string = `
local function grantOver(digit, route, inMs)
  return grantText(digit, route.e.key, inMs, route.id, route.session, route.endsAt, route.trial, route.plain)
end

local function flagsOf(route)
  return (route.session and SESSION or 0) + (route.weight == 1 and SINGLE or 0)
end

-- The answer to a call that was answered before, as far as its permits are still there.
local function again(step)
  local grants = {}
  for i = 1, step.count do
    local p = permit(step.names[i])
    if p and not p.cooled and p.route ~= '' then
      local e = egressFor(p.egress, 1)
      local route, pin = e.routes[p.pool], step.pin
      local digit, inMs = '[' .. format('%d', i - 1), max(0, p.start - now)
      if route and route.id == p.route then
        grants[#grants + 1] = grantOver(digit, route, inMs)
      elseif pin then
        local endsAt = pin.endsInMs and now + pin.endsInMs or huge
        grants[#grants + 1] = grantText(digit, e.key, inMs, pin.id, pin.session, endsAt, pin.trial)
      else
        grants[#grants + 1] = grantText(digit, e.key, inMs, p.route, nil, huge, false)
      end
    end
  end
  local short = ''
  if #grants < step.count then short = ',"retryInMs":' .. num(step.horizonMs + 1) .. ',"limiting":"budget"' end
  return '{"grants":[' .. concat(grants, ',') .. ']' .. short .. ',"taken":0,"wants":false}'
end
`;
