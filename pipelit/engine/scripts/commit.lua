-- The one atomic transition: applies a list of commands if the execution's state is still the version they were made for.
--
-- KEYS  1 the execution's meta hash, 2 its event stream
-- ARGV  1 the version expected ('' before the start), 2 how many events the stream keeps, then commands,
--       each as the number of its words and the words. Five commands are our own:
--         EVENT body channel…   numbers an event, keeps it in the stream and publishes it
--         LAST body channel…    the same, and answers whoever asked for it at the start, on a channel of their own
--         PRUNE hash prefix…    removes the fields of a hash that begin with one of the prefixes
--         IF key command…       runs the rest of the words if there is such a key
--         ONCE flag ms command… runs the rest of the words unless the flag was set within the last ms milliseconds
-- Returns the new version, or false if somebody else was faster and nothing was done.
local meta, stream = KEYS[1], KEYS[2]
if (redis.call('HGET', meta, 'version') or '') ~= ARGV[1] then
  return false
end
-- By the server's clock: a server that comes back with an older state gives no version a second time.
local now = redis.call('TIME')
local version = now[1] .. '.' .. now[2]
redis.call('HSET', meta, 'version', version)

local function event(first, last)
  local seq = redis.call('HINCRBY', meta, 'seq', 1)
  redis.call('XADD', stream, 'MAXLEN', '~', ARGV[2], seq .. '-0', 'e', ARGV[first])
  for i = first + 1, last do
    redis.call('PUBLISH', ARGV[i], seq .. '\n' .. ARGV[first])
  end
end

local function prune(first, last)
  for _, field in ipairs(redis.call('HKEYS', ARGV[first])) do
    for i = first + 1, last do
      if string.sub(field, 1, #ARGV[i]) == ARGV[i] then
        redis.call('HDEL', ARGV[first], field)
      end
    end
  end
end

local at = 3
while at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  local name = ARGV[at + 1]
  if name == 'EVENT' then
    event(at + 2, last)
  elseif name == 'LAST' then
    event(at + 2, last)
    local reply_to = redis.call('HGET', meta, 'reply_to')
    if reply_to then
      redis.call('PUBLISH', reply_to, '\n' .. ARGV[at + 2])
    end
  elseif name == 'PRUNE' then
    prune(at + 2, last)
  elseif name == 'IF' then
    if redis.call('EXISTS', ARGV[at + 2]) == 1 then
      redis.call(unpack(ARGV, at + 3, last))
    end
  elseif name ~= 'ONCE' then
    redis.call(unpack(ARGV, at + 1, last))
  elseif redis.call('SET', ARGV[at + 2], '1', 'NX', 'PX', ARGV[at + 3]) then
    redis.call(unpack(ARGV, at + 4, last))
  end
  at = last + 1
end
return version
