-- Whether an execution may begin beside those of its concurrency group; commit.lua stands behind this text and begins it.
--
-- KEYS  1 the execution's meta hash, 2 its event stream, 3 the group's live executions, 4 those that wait for their turn,
--       5 the group of every live execution that is in one
-- ARGV  as for commit.lua, then five more: group, execution, when it was accepted, the limit (-1: none), overlap
-- Returns 'begun' if it has begun before, or ended, 'unknown' if the groups have to be counted anew first, 'full' if it
-- is not to wait, 'waits' if it does, or what commit.lua returns.
do
  local meta, live, waiting, groups = KEYS[1], KEYS[3], KEYS[4], KEYS[5]
  local overlap, limit = table.remove(ARGV), tonumber(table.remove(ARGV))
  local accepted, execution, group = table.remove(ARGV), table.remove(ARGV), table.remove(ARGV)
  if redis.call('HEXISTS', meta, 'version') == 1 then
    redis.call('ZREM', waiting, execution)
    return 'begun'
  end
  if redis.call('HEXISTS', groups, '') == 0 then
    return 'unknown'
  end
  local has_slot = redis.call('ZSCORE', live, execution)
  if not has_slot and limit >= 0 then
    local room = limit - redis.call('ZCARD', live)
    local has_place = redis.call('ZSCORE', waiting, execution)
    if overlap == 'drop' and not has_place and room <= redis.call('ZCARD', waiting) then
      return 'full'
    end
    redis.call('ZADD', waiting, 'NX', accepted, execution)
    if room <= 0 or redis.call('ZRANK', waiting, execution) > 0 then
      return 'waits'
    end
  end
  redis.call('ZREM', waiting, execution)
  redis.call('ZADD', live, accepted, execution)
  redis.call('HSET', groups, execution, group)
end

