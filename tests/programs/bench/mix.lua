-- What wrk sends: the requests of mix.py in their order, each with the next message id between its halves.
-- wrk ... -s mix.lua URL -- REQUESTS FIRST_ID

local heads, tails, count = {}, {}, 0
local turn, id = 0, 0

function init(args)
  for number, halves in ipairs(dofile(args[1])) do
    heads[number], tails[number], count = halves[1], halves[2], number
  end
  id = tonumber(args[2])
end

function request()
  turn, id = turn % count + 1, id + 1
  return heads[turn] .. id .. tails[turn]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "worst": %d,'
    .. ' "wrong": {"not 2xx": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d}}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
