/**
 * The usual cases of reserve and settle, straight from record to record: an egress that one pool leads to and nothing is
 * wrong with. They decide what the general way decides, without a table for each egress and route: those cost more than
 * all that is asked of Redis. What is not usual is left to the general way, which finds their records in hotRaw.
 */
export const HOT: string = `
-- The stamps that are still cooling: how many, and where they begin.
local function cooling(raw, n)
  local size = #raw + 1
  local from = size - 8 * n
  if n == 0 or unpacked('<d', raw, from) + window > now then return n, from end
  if unpacked('<d', raw, size - 8) + window <= now then return 0, size end
  repeat n, from = n - 1, from + 8 until unpacked('<d', raw, from) + window > now
  return n, from
end

-- What stays as it is, but for the stamps in front of that place.
local function kept(raw, all, n, from)
  if n == all then return sub(raw, MIDDLE) end
  return sub(raw, MIDDLE, #raw - 8 * all) .. sub(raw, from)
end
`;
