-- Posts the lines of a file as JSON bodies, in turn. Arguments: the file, and the mean pause of a connection between an
-- answer and its next request in ms (0: none, a closed loop). With pauses drawn from an exponential distribution and
-- many connections, requests come as from many independent clients (an open loop).

local bodies, pause, place = {}, 0, 0
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(arguments)
  for line in io.lines(arguments[1]) do
    bodies[#bodies + 1] = line
  end
  pause = tonumber(arguments[2]) or 0
  math.randomseed(number + 1)
  place = math.random(#bodies) -- threads do not send the same texts at the same time
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
end

function request()
  place = place % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[place])
end

function delay()
  if pause == 0 then
    return 0
  end
  return math.floor(-pause * math.log(1 - math.random()) + 0.5)
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format(
    '\nRESULT {"requests": %d, "seconds": %.6f, "failed": %d, "mean_ms": %.3f, "p50_ms": %.3f, "p99_ms": %.3f, "max_ms": %.3f}\n',
    summary.requests, summary.duration / 1e6, failed,
    latency.mean / 1e3, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3
  ))
end
