import { listed } from './constants.ts';

/** What is kept of egresses and permits, in Redis and during a batch. */
export const RECORDS: string = `
local cache = {} -- by key: the egress, or false for none
local dirty = {} -- egresses to be written
local gone = {} -- keys to be forgotten
local hotRaw, newPlaces = {}, {} -- records by key, to be written as they are; by pool: scores in its lane and keys, in turn
local movedRoutes = {} -- routes whose place is another than in the zset, or that have left it
local joined, outTouched -- pools whose lanes somebody joined, and whether anything came to out: those keys may be new
local syncLanes

local permits = {} -- by id: the record, as long as nobody has unpacked it; false for none
local granted, ends = {}, {} -- to be written: id, record; deadline, id or call
local over, ended = {}, {} -- ids to be forgotten; what until is to forget
local made = {} -- calls that have been granted permits in this batch

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

-- Names the permits of a reserve. Returns whether it may have been answered before.
local function nameAll(step)
  local names, prefix, count = {}, step.id .. '.', step.count
  local digits = count > 16 and ${listed((i) => `'${i}'`)} or {} -- many are written down faster than worked out
  for k = 1, count do names[k] = prefix .. (digits[k] or format('%d', k - 1)) end
  step.names = names
  step.name = step.id .. '+' .. format('%d', count) -- by which until has a call of several
  return (count == 1 or call('ZSCORE', UNTIL, step.name)) and areThere(names)
end

local function micros(at) return format('%d', ceil(at * 1000)) end

-- It is at another place now; the later one counts.
local lastPlace, lastScore -- many go to the same
local function move(pool, place, name)
  local moves = newPlaces[pool]
  if not moves then
    moves = {}
    newPlaces[pool] = moves
  end
  if place ~= lastPlace then lastPlace, lastScore = place, place ~= huge and format('%d', place) or '+inf' end
  local n = #moves
  moves[n + 1], moves[n + 2] = lastScore, name
end

local function writePlaces()
  for pool, moves in pairs(newPlaces) do bulk('ZADD', LANE .. pool, moves) end
  newPlaces = {}
end
`;
