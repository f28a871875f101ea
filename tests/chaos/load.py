"""The producers: numbered events into several streams at a steady rate, as careful writers would send
them, and the few facts the judge needs: what was written, and which entries the broker must refuse.

An event is {"stream", "key", "n", "q"} with padding: n counts from 1 per stream and key, q per
stream. Its field `id` is stream/key/n, so a payload and an id can be told from the numbers alone.

When Redis goes away in the middle of a pipeline nobody knows which commands it has executed. The
writer then asks for the stream's entries-added (its length would not do: the gateway may have
trimmed), which says exactly how many of its entries are in, and writes the rest. It goes to Redis
directly and without a timeout: a connection that is given up while Redis stands still would leave
commands behind that are executed later.
"""

import random
import threading
import time
import zlib

import redis as redis_py

CANARY = "canary"
TICK = 0.02
BURST_CHUNK = 250
TRIM_PERIOD, TRIM_ABOVE, TRIM_TO = 3.0, 4000, 1500

# Removes what the group has acknowledged, but for the newest ARGV[2] entries.
TRIM = """
local first = redis.pcall('XPENDING', KEYS[1], ARGV[1])
if first.err or redis.call('XLEN', KEYS[1]) <= tonumber(ARGV[2]) then return 0 end
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[2])
local limit = newest[#newest][1]
local function before(a, b)
  local ams, aseq = string.match(a, '(%d+)-(%d+)')
  local bms, bseq = string.match(b, '(%d+)-(%d+)')
  if ams ~= bms then return tonumber(ams) < tonumber(bms) end
  return tonumber(aseq) < tonumber(bseq)
end
if first[2] and before(first[2], limit) then limit = first[2] end
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  if before(group[8], limit) then limit = group[8] end
end
return redis.call('XTRIM', KEYS[1], 'MINID', limit)
"""


def payload_of(stream, key, n, q, code=0):
    """The payload of an event: made from its numbers only."""
    pad = zlib.crc32(f"{stream}{key}{n}".encode())
    refuse = f',"refuse":{code}' if code else ""
    return (f'{{"stream":"{stream}","key":"{key}","n":{n},"q":{q}{refuse},'
            f'"pad":"{pad:08x}{"x" * (pad % 60)}"}}').encode()


def id_of(stream, key, n):
    return f"{stream}/{key}/{n}"


# Redis cannot be asked now. redis-py 4.3 trips over its own message where a unix socket is reset, which
# shows as an AttributeError.
UNREACHABLE = (redis_py.exceptions.ConnectionError, redis_py.exceptions.TimeoutError,
               redis_py.exceptions.BusyLoadingError, OSError, AttributeError)


class Canaries:
    """One event on every stream, written as soon as possible; numbers is {stream: n} once it is."""

    def __init__(self, since):
        self.since = since
        self.numbers = None


class Load:
    """streams: names; keys: how many per stream, of which `retained` are retained topics."""

    def __init__(self, redis, streams, keys=8, retained=3, rate=400, group="nemogate", seed=1):
        self._redis = redis
        self._client = None
        self.group = group
        self.streams = list(streams)
        self.keys = [f"r{i}" for i in range(retained)] + [f"k{i}" for i in range(keys - retained)]
        self.retained_keys = set(self.keys[:retained])
        self.rate = rate
        self.sent = {(s, k): 0 for s in self.streams for k in [*self.keys, CANARY]}
        self.stream_count = {s: 0 for s in self.streams}
        self.marked = {}          # (stream, key, n) -> reason code that the broker answers with
        self.reconciled = 0       # how often the outcome of a pipeline was unknown
        self.trimmed = 0
        self.error = None
        self._random = random.Random(seed)
        self._order = [(s, k) for k in self.keys for s in self.streams]
        self._next = 0
        self._to_mark = []        # reason codes for the next events
        self._burst = 0           # events to send at once, beside the rate
        self._wanted = []         # Canaries
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    # ---- for the main thread

    def start(self):
        self._client = self._connect()
        self._thread.start()
        return self

    def stop(self, timeout=60.0):
        """Ends after what has been begun; everything in `sent` is then in Redis."""
        self._stop.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError("the producer is stuck")
        if self.error:
            raise self.error

    def mark(self, codes):
        """So many of the next events will be refused for good, each with its code."""
        with self._lock:
            self._to_mark += list(codes)

    def burst(self, count):
        """So many events more, as fast as Redis takes them."""
        with self._lock:
            self._burst += count

    def canaries(self, since=None):
        wanted = Canaries(time.monotonic() if since is None else since)
        with self._lock:
            self._wanted.append(wanted)
        return wanted

    @property
    def total(self):
        return sum(self.sent.values())

    def topic(self, stream, key):
        """As subscribers see it."""
        return f"nemo/{stream[stream.index('{') + 1:stream.index('}')]}/tools/{key}/state"

    # ---- its thread

    def _connect(self):
        return redis_py.Redis(unix_socket_path=self._redis.socket, decode_responses=False)

    def _run(self):
        begun, done, trim_at = time.monotonic(), 0, time.monotonic() + TRIM_PERIOD
        try:
            while not self._stop.wait(TICK):
                # After an outage what has piled up is not all sent at once.
                due = min(int((time.monotonic() - begun) * self.rate) - done, self.rate // 10)
                if time.monotonic() - begun - done / self.rate > 1.0:
                    begun = time.monotonic() - (done + due) / self.rate
                done += due
                self._send(due + self._take_burst())
                if time.monotonic() >= trim_at:
                    self._trim()
                    trim_at = time.monotonic() + TRIM_PERIOD
            self._send(0)
        except Exception as error:
            self.error = error

    def _take_burst(self):
        with self._lock:
            part = min(self._burst, BURST_CHUNK)
            self._burst -= part
        return part

    def _send(self, count):
        with self._lock:
            wanted, self._wanted = self._wanted, []
            codes, self._to_mark = self._to_mark[:count], self._to_mark[count:]
        events = []  # (stream, key, n, q, code)
        sent, counts = dict(self.sent), dict(self.stream_count)

        def add(stream, key, code):
            sent[stream, key] += 1
            counts[stream] += 1
            events.append((stream, key, sent[stream, key], counts[stream], code))
        for canaries in wanted:
            for stream in self.streams:
                add(stream, CANARY, 0)
        places = set(self._random.sample(range(count), len(codes)))
        for i in range(count):
            add(*self._order[(self._next + i) % len(self._order)],
                codes.pop() if i in places else 0)
        self._next += count
        for stream, key, n, _q, code in events:
            if code:
                self.marked[stream, key, n] = code  # before any broker can see it
        if events:
            self._write(events)
        self.sent, self.stream_count = sent, counts
        numbers = {s: sent[s, CANARY] for s in self.streams}
        for canaries in reversed(wanted):
            canaries.numbers = dict(numbers)
            numbers = {s: n - 1 for s, n in numbers.items()}

    def _write(self, events):
        while events:
            try:
                pipe = self._client.pipeline(transaction=False)
                for stream, key, n, q, code in events:
                    pipe.xadd(stream, self._fields(stream, key, n, q, code))
                pipe.execute()
                return
            except UNREACHABLE:
                events = self._missing(events)

    def _fields(self, stream, key, n, q, code):
        fields = {"topic": f"tools/{key}/state", "key": key, "id": id_of(stream, key, n),
                  "payload": payload_of(stream, key, n, q, code)}
        if key in self.retained_keys:
            fields["retain"] = 1
        return fields

    def _missing(self, events):
        """Which of the events Redis does not have; waits until it can tell."""
        self.reconciled += 1
        while True:
            try:
                added = {s: self._entries_added(s) for s in {event[0] for event in events}}
                return [event for event in events if event[3] > added[event[0]]]
            except UNREACHABLE:
                if self._stop.wait(0.05):
                    raise

    def _entries_added(self, stream):
        try:
            return int(self._client.xinfo_stream(stream)["entries-added"])
        except redis_py.exceptions.ResponseError as error:
            if "no such key" in str(error):
                return 0
            raise

    def _trim(self):
        """For a gateway that trims nothing (any more): the streams stay short."""
        try:
            for stream in self.streams:
                if self._client.xlen(stream) > TRIM_ABOVE:
                    self.trimmed += self._client.eval(TRIM, 1, stream, self.group, TRIM_TO)
        except UNREACHABLE:
            pass  # next time
