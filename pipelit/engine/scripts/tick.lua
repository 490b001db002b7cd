-- Moves the maintenance tick on by one and sends the next, if this is the tick that is due; a repeated one does nothing.
--
-- KEYS  1 the tick's number, 2 the queue
-- ARGV  1 the number of this tick ('' to begin where there is none), 2 ms until the chain counts as broken, 3 the message
local known = redis.call('GET', KEYS[1]) or ''
if known ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], (tonumber(known) or 0) + 1, 'PX', ARGV[2])
redis.call('LPUSH', KEYS[2], ARGV[3])
return 1
