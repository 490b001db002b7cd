-- Gives the journal's oldest entries to the one writer who has its lock: takes the lock, keeps it, or gives it back.
--
-- KEYS  1 the lock, 2 the journal
-- ARGV  1 the writer's token, 2 ms until the lock expires, 3 how many entries (0 to give the lock back)
-- Returns the entries. There are none if another writer has the lock, or if there is nothing to write; then the lock is
-- given back in the same step, so that no entry can come in between.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return {}
end
local entries = {}
if ARGV[3] ~= '0' then
  entries = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', ARGV[3])
end
if #entries > 0 then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
elseif holder then
  redis.call('DEL', KEYS[1])
end
return entries
