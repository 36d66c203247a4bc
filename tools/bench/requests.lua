-- Sends prepared requests with wrk: `wrk ... -s requests.lua URL -- LIST MODE`.
--
-- LIST has one request a line, its fields separated by tabs: method, target, body file (or "-"),
-- then headers as "Name: value". MODE is "loop" (begin again at the end) or "once" (stop at the end,
-- so that no request is sent twice). For one wrk thread: wrk starts a thread before the next one has
-- read its list, and counts what it did meanwhile as if it had taken no time.
--
-- The last line of the output is one JSON object, read by tools/bench/outputs.py; times in
-- microseconds.

local ffi = require("ffi")
ffi.cdef[[
typedef struct { long seconds; long nanoseconds; } bench_timespec;
int clock_gettime(int clock, bench_timespec *result);
int getpid(void);
long syscall(long number, ...);
]]

local CLOCK_MONOTONIC = 1
local SIGINT = 2
local TGKILL = { x64 = 234, arm64 = 131 } -- asm/unistd.h

local now = ffi.new("bench_timespec")
local heads, bodies = {}, {}
local position = 0 -- of the request handed out last; 0 is none
local is_verified = false
local mode = "loop"

-- Read by `done` through the thread's environment, as numbers.
first_us, exhausted_us, handed_out = 0, 0, 0

local function clock_us()
   ffi.C.clock_gettime(CLOCK_MONOTONIC, now)
   return tonumber(now.seconds) * 1000000 + tonumber(now.nanoseconds) / 1000
end

local function read_file(path)
   local file = assert(io.open(path, "rb"))
   local data = file:read("*a")
   file:close()
   return data
end

local threads = {}

function setup(thread)
   threads[#threads + 1] = thread
end

function init(arguments)
   local list = assert(arguments[1], "the list of requests is missing")
   mode = arguments[2] or "loop"
   local known_bodies = { ["-"] = "" }
   for line in io.lines(list) do
      local fields = {}
      for field in line:gmatch("[^\t]+") do
         fields[#fields + 1] = field
      end
      local method, target, body_path = fields[1], fields[2], fields[3]
      if not known_bodies[body_path] then
         known_bodies[body_path] = read_file(body_path)
      end
      local body = known_bodies[body_path]
      local head = { method .. " " .. target .. " HTTP/1.1" }
      for index = 4, #fields do
         head[#head + 1] = fields[index]
      end
      if method == "PUT" or method == "POST" then
         head[#head + 1] = "Content-Length: " .. #body
      end
      heads[#heads + 1] = table.concat(head, "\r\n") .. "\r\n\r\n"
      bodies[#bodies + 1] = body
   end
   assert(#heads > 0, "the list of requests is empty")
end

local function stop_all()
   exhausted_us = clock_us()
   wrk.thread:stop()
   -- wrk's main thread sleeps until its duration is over; a signal to it, and to it alone, ends that.
   local pid = ffi.C.getpid()
   local number = assert(TGKILL[ffi.arch], "no system call number for " .. ffi.arch)
   ffi.C.syscall(number, ffi.new("int", pid), ffi.new("int", pid), ffi.new("int", SIGINT))
end

function request()
   if not is_verified then -- wrk looks at one request before it starts and sends it to nobody
      is_verified = true
      return heads[1] .. bodies[1]
   end
   if position == #heads then
      if mode == "once" then
         if exhausted_us == 0 then
            stop_all()
         end
         return heads[position] .. bodies[position] -- never answered: the thread has stopped
      end
      position = 0
   end
   if first_us == 0 then
      first_us = clock_us()
   end
   position = position + 1
   handed_out = handed_out + 1
   return heads[position] .. bodies[position]
end

function done(summary, latency, requests)
   local thread = threads[1]
   local errors = summary.errors
   local form = '{"requests": %d, "bytes": %d, "duration_us": %d, "first_us": %.0f, '
      .. '"exhausted_us": %.0f, "handed_out": %d, "socket_errors": %d, "status_errors": %d, '
      .. '"timeouts": %d, "p50_us": %.0f, "p90_us": %.0f, "p99_us": %.0f, "max_us": %.0f}\n'
   io.write("\n", form:format(
      summary.requests, summary.bytes, summary.duration, thread:get("first_us"),
      thread:get("exhausted_us"), thread:get("handed_out"),
      errors.connect + errors.read + errors.write, errors.status, errors.timeout,
      latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
