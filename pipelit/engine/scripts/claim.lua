-- Takes the lease of one attempt of a step, or says why not. Only the claimed attempt may run and report.
--
-- KEYS  1 the execution's meta hash, 2 its steps, 3 its data, 4 its event stream, 5 the deadlines of all executions
-- ARGV  1 step, 2 how its state must begin, 3 the claim to write, 4 attempt, 5 deadline member, 6 deadline,
--       7 how many events the stream keeps, 8 event body, 9 + 10 channels, then fields of the data to return
-- Returns {'gone'} if the attempt is not current, {'taken', claim} if somebody else claimed it,
--         {'claimed', version, steps as a flat list, values of the fields}
-- A claim is unique, so that one whose answer was lost on the way is simply made again.
local meta, steps, data, stream, deadlines = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local known = redis.call('HGET', steps, ARGV[1])
if not known or string.sub(known, 1, #ARGV[2]) ~= ARGV[2] or redis.call('HGET', meta, 'status') ~= 'running' then
  return {'gone'}
end
local field = 'claim:' .. ARGV[1]
local claim = redis.call('HGET', meta, field)
if claim and claim ~= ARGV[3] and string.sub(claim, 1, #ARGV[4] + 1) == ARGV[4] .. ' ' then
  return {'taken', claim}
end
redis.call('HSET', meta, field, ARGV[3])
redis.call('ZADD', deadlines, ARGV[6], ARGV[5])
local seq = redis.call('HINCRBY', meta, 'seq', 1)
redis.call('XADD', stream, 'MAXLEN', '~', ARGV[7], seq .. '-0', 'e', ARGV[8])
redis.call('PUBLISH', ARGV[9], seq .. '\n' .. ARGV[8])
redis.call('PUBLISH', ARGV[10], seq .. '\n' .. ARGV[8])
local values = {}
if #ARGV > 10 then
  values = redis.call('HMGET', data, unpack(ARGV, 11))
end
return {'claimed', redis.call('HGET', meta, 'version'), redis.call('HGETALL', steps), values}
