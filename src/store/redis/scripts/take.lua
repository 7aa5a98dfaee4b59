-- Takes from a budget under all its limits, or nothing; the arithmetic is explained in `embedded/budget.rs`.
-- KEYS: budget, a hash from `window:slice` to what was taken in that slice.
-- ARGV: cost, then for each limit: window in ms, slice in ms, maximum. No two limits have the same window.
-- Returns {1, what remains} or {0, milliseconds to wait}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local cost = tonumber(ARGV[1])
local function field(window, slice) return string.format('%.0f:%.0f', window, slice) end

local windows = {}
local entries = redis.call('HGETALL', KEYS[1])
for at = 1, #entries, 2 do
  local window, slice = string.match(entries[at], '^(%d+):(%d+)$')
  if window then
    windows[window] = windows[window] or {}
    table.insert(windows[window], { slice = tonumber(slice), taken = tonumber(entries[at + 1]) })
  end
end

local wait, remaining, keep = 0, 4294967295, 0
for at = 2, #ARGV, 3 do
  local window, length, max = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local slices = windows[string.format('%.0f', window)] or {}
  table.sort(slices, function(one, two) return one.slice < two.slice end)
  -- A clock that was set back: as if all had been taken that much earlier.
  local ahead = #slices > 0 and slices[#slices].slice - math.floor(now / length) or 0
  local counting, used = {}, 0
  for _, entry in ipairs(slices) do
    local slice = entry.slice
    if ahead > 0 then
      slice = math.max(0, slice - ahead)
      redis.call('HDEL', KEYS[1], field(window, entry.slice))
    end
    local ends = (slice + 1) * length + window
    if ends <= now then
      redis.call('HDEL', KEYS[1], field(window, slice))
    else
      if ahead > 0 then redis.call('HINCRBY', KEYS[1], field(window, slice), entry.taken) end
      table.insert(counting, { ends = ends, taken = entry.taken })
      used = used + entry.taken
    end
  end
  if cost > max then
    wait = math.max(wait, window)
  elseif used + cost > max then
    local left = used
    for _, entry in ipairs(counting) do
      left = left - entry.taken
      if left + cost <= max then
        wait = math.max(wait, entry.ends - now, 1)
        break
      end
    end
  end
  remaining = math.min(remaining, math.max(0, max - used - cost))
  keep = math.max(keep, window + 2 * length)
end
if wait == 0 and cost > 0 then
  for at = 2, #ARGV, 3 do
    local window, length = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    redis.call('HINCRBY', KEYS[1], field(window, math.floor(now / length)), cost)
  end
end
local left = redis.call('PTTL', KEYS[1])
if left ~= -2 and left < keep then redis.call('PEXPIRE', KEYS[1], string.format('%.0f', keep)) end
if wait > 0 then return { 0, wait } end
return { 1, remaining }
