-- Sends the prepared bodies in order, from line 1; prints the result as one line of JSON.
local requests, place = {}, 0

function init()
  local headers = { ["Content-Type"] = "application/json" }
  for body in io.lines(os.getenv("BENCH_BODIES")) do
    requests[#requests + 1] = wrk.format("POST", wrk.path, headers, body)
  end
end

function request()
  place = place % #requests + 1
  return requests[place]
end

function done(summary, latency)
  local errors = summary.errors
  local fields = {
    string.format('"requests":%d,"microseconds":%d', summary.requests, summary.duration),
    string.format('"refused":%d,"timeouts":%d', errors.status, errors.timeout),
    string.format('"broken":%d', errors.connect + errors.read + errors.write),
    string.format('"max":%d,"mean":%.1f', latency.max, latency.mean),
  }
  for _, percent in ipairs({ 50, 95, 99 }) do
    fields[#fields + 1] = string.format('"p%d":%d', percent, latency:percentile(percent))
  end
  io.write("\nRESULT {" .. table.concat(fields, ",") .. "}\n")
end
