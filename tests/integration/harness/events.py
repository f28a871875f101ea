"""Numbered events into Redis streams, and the proof of what came of them.

    producer = produce(redis, ["nemo:{a}:events", "nemo:{b}:events"], keys=50, count=10_000)
    report = Verifier(producer, broker).wait(timeout=30)       # broker, or a Subscriber
    report.check()                                             # nothing lost, order kept
    report.check(duplicates=0)                                 # and nothing twice

Each event carries {"stream", "key", "n", "id"} as its JSON payload; n counts from 1 per stream and
key. producer.send(count) goes on counting; `with producer.background(rate=500): ...` sends from a
thread meanwhile, and survives a Redis that goes away: what it has sent without an answer it sends
again, which the verifier counts as duplicates.

A duplicate is an (n) of a key that has been seen before. Order is broken only by an n that is seen
for the first time after a higher one of its key.
"""

import collections
import contextlib
import json
import random
import threading
import time
import uuid
from dataclasses import dataclass, field

import redis as redis_py


def _bulk(value):
    value = value if isinstance(value, bytes) else str(value).encode()
    return b"$%d\r\n%s\r\n" % (len(value), value)


class Producer:
    """streams: a name or a list; keys: their number per stream, or a list of names. topic may hold
    {key}; payload_size pads payloads to so many bytes; fields: further fields of every entry, e.g.
    {"retain": 1}. redis: a RedisServer or a redis-py client."""

    def __init__(self, redis, streams, keys=10, payload_size=0, topic="tools/{key}/state",
                 fields=None, seed=1):
        self._client = redis.client(decode_responses=False) if hasattr(redis, "argv") else redis
        self.streams = [streams] if isinstance(streams, str) else list(streams)
        names = [f"k{i}" for i in range(keys)] if isinstance(keys, int) else list(keys)
        self.payload_size = payload_size
        self.sent = {(s, k): 0 for k in names for s in self.streams}  # the last n of each
        self._random = random.Random(seed)
        self._order = list(self.sent)
        self._next = 0
        extra = {str(k): v for k, v in (fields or {}).items()}
        count = 3 + 2 * (4 + len(extra))
        self._head = {}
        for stream, key in self.sent:
            head = b"*%d\r\n" % count + _bulk("XADD") + _bulk(stream) + _bulk("*")
            for name, value in {"topic": topic.format(key=key), "key": key, **extra}.items():
                head += _bulk(name) + _bulk(value)
            self._head[stream, key] = head + _bulk("id")

    @property
    def total(self):
        return sum(self.sent.values())

    def _event(self, stream, key, n):
        event = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        payload = b'{"stream":"%s","key":"%s","n":%d,"id":"%s"}' % (
            stream.encode(), key.encode(), n, event.encode())
        if len(payload) < self.payload_size:
            payload = payload[:-1] + b',"pad":"%s"}' % (
                b"x" * max(0, self.payload_size - len(payload) - 9))
        return b"%s$36\r\n%s\r\n$7\r\npayload\r\n$%d\r\n%s\r\n" % (
            self._head[stream, key], event.encode(), len(payload), payload)

    def _chunk(self, count):
        """(commands, counters afterwards) of the next count events, round robin."""
        sent, commands = dict(self.sent), []
        for i in range(count):
            which = self._order[(self._next + i) % len(self._order)]
            sent[which] += 1
            commands.append(self._event(*which, sent[which]))
        return commands, sent

    def _put(self, commands):
        pool = self._client.connection_pool
        connection = pool.get_connection("XADD")
        try:
            connection.send_packed_command([b"".join(commands)])
            for _ in commands:
                answer = connection.read_response()
                if isinstance(answer, Exception):
                    raise answer
        except BaseException:
            connection.disconnect()
            raise
        finally:
            pool.release(connection)

    def send(self, count, chunk=500, retry_for=0.0):
        """Sends count events, pipelined. retry_for: seconds during which a chunk that Redis has not
        answered is sent again. Returns self."""
        while count > 0:
            size = min(count, chunk)
            commands, sent = self._chunk(size)
            end = time.monotonic() + retry_for
            while True:
                try:
                    self._put(commands)
                    break
                except (redis_py.exceptions.ConnectionError, redis_py.exceptions.TimeoutError,
                        redis_py.exceptions.BusyLoadingError, OSError):
                    if time.monotonic() >= end:
                        raise
                    time.sleep(0.05)
            self.sent = sent
            self._next = (self._next + size) % len(self._order)
            count -= size
        return self

    @contextlib.contextmanager
    def background(self, rate=1000, retry_for=60.0):
        """Sends at about this rate per second from a thread until the block ends."""
        stop = threading.Event()
        failure = []

        def run():
            begun, done = time.monotonic(), 0
            try:
                while not stop.wait(0.01):
                    due = min(int((time.monotonic() - begun) * rate) - done, max(rate, 1))
                    if due > 0:
                        self.send(due, retry_for=retry_for)
                        done += due
            except Exception as error:
                failure.append(error)
        thread = threading.Thread(target=run, name="producer", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join(retry_for + 5)
        if failure:
            raise failure[0]


def produce(redis, streams, keys=10, count=1000, **options):
    """Sends count events in all; returns the Producer. options as of Producer."""
    return Producer(redis, streams, keys, **options).send(count)


@dataclass
class Report:
    expected: int = 0
    received: int = 0                 # with duplicates
    unique: int = 0
    duplicates: int = 0
    lost: list = field(default_factory=list)          # (stream, key, n), the first 1,000
    lost_count: int = 0
    out_of_order: list = field(default_factory=list)  # (stream, key, n, the higher one seen before)
    unknown: list = field(default_factory=list)       # texts: what was never produced

    @property
    def complete(self):
        return self.lost_count == 0

    def __str__(self):
        text = (f"{self.expected} events: {self.unique} received, {self.lost_count} lost, "
                f"{self.duplicates} duplicates, {len(self.out_of_order)} out of order, "
                f"{len(self.unknown)} unknown")
        for name in ("lost", "out_of_order", "unknown"):
            if getattr(self, name):
                text += f"; {name}: {getattr(self, name)[:5]}"
        return text

    def check(self, duplicates=None):
        """Fails unless everything came, in order, and nothing that was never sent; duplicates: at
        most so many (None: any number). Returns self."""
        assert self.complete and not self.out_of_order and not self.unknown, str(self)
        assert duplicates is None or self.duplicates <= duplicates, str(self)
        return self


class Verifier:
    """producer: a Producer, or {(stream, key): last n}. source: whatever has `messages` (a
    RecordingBroker, a Subscriber), or None: then add() is for the caller. Refused messages of a
    RecordingBroker do not count, and neither do topics that `ignore(topic)` names; by default those
    of the gateway's own status messages."""

    def __init__(self, producer, source=None, ignore=lambda topic: topic.startswith("nemogate/")):
        self._producer = producer
        self._source = source
        self._ignore = ignore
        self._taken = 0
        self._seen = collections.defaultdict(set)
        self._highest = collections.defaultdict(int)
        self._received = 0
        self._unique = 0
        self._duplicates = 0
        self._out_of_order = []
        self._strange = []

    @property
    def expected(self):
        return dict(getattr(self._producer, "sent", self._producer))

    def add(self, message):
        """Takes one message into account; message has topic and payload."""
        if self._ignore(message.topic):
            return
        code = getattr(message, "code", 0)
        if code is None or code >= 0x80:
            return
        try:
            event = json.loads(message.payload)
            where, n = (event["stream"], event["key"]), int(event["n"])
        except (ValueError, KeyError, TypeError):
            self._strange.append(f"{message.topic}: {message.payload[:60]!r}")
            return
        self._received += 1
        seen = self._seen[where]
        if n in seen:
            self._duplicates += 1
            return
        seen.add(n)
        self._unique += 1
        if n < self._highest[where]:
            self._out_of_order.append((*where, n, self._highest[where]))
        else:
            self._highest[where] = n

    def take(self):
        """Takes what the source has received since the last time."""
        if self._source is None:
            return
        messages = self._source.messages
        end = len(messages)
        for i in range(self._taken, end):
            self.add(messages[i])
        self._taken = end

    def report(self):
        self.take()
        expected = self.expected
        report = Report(expected=sum(expected.values()), received=self._received,
                        unique=self._unique, duplicates=self._duplicates,
                        out_of_order=list(self._out_of_order), unknown=list(self._strange))
        for where, last in expected.items():
            seen = self._seen.get(where, ())
            missing = last - sum(1 for n in seen if 1 <= n <= last)
            report.lost_count += missing
            if missing and len(report.lost) < 1000:
                report.lost += [(*where, n) for n in range(1, last + 1) if n not in seen]
        for where, seen in self._seen.items():
            last = expected.get(where, 0)
            report.unknown += [f"{where} {n}" for n in seen if not 1 <= n <= last]
        return report

    def wait(self, timeout=30.0):
        """Until everything produced has come, or timeout; returns the report either way."""
        end = time.monotonic() + timeout
        while True:
            self.take()
            if self._unique >= sum(self.expected.values()):
                report = self.report()
                if report.complete:
                    return report
            if time.monotonic() > end:
                return self.report()
            time.sleep(0.02)
