-- Keeps an execution from ever beginning, and stops whatever still runs of one that was lost. Harmless when repeated.
--
-- KEYS  1 the execution's meta hash
-- ARGV  1 for how many seconds that is remembered
-- Returns 1, or 0 if the execution has begun, be it that it has ended since; then nothing was done.
local version = redis.call('HGET', KEYS[1], 'version')
if version and version ~= '0' then
  return 0
end
redis.call('HSET', KEYS[1], 'version', '0', 'status', 'cancelled')
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
